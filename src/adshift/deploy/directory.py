"""A model directory, run by torch.

Several images share the threads. A single image uses all threads if the network's maps stay identical to the bit, which
is tested when a model is loaded. The pipeline scores batches of `features.batch` images: the network's sums then differ
in the last bits, and scores by about 1e-5 of their value.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from adshift.data.images import sha256
from adshift.data.normalising import Reference as Intensities
from adshift.data.normalising import of_spec
from adshift.data.shapes import content, sides
from adshift.deploy.inference import BATCH, Model, Picture, Scored
from adshift.deploy.package import pooled
from adshift.deploy.prediction import Geometry, Input
from adshift.detectors import registry
from adshift.detectors.records import Reference
from adshift.errors import AdshiftError, in_line
from adshift.evaluation import threshold_file
from adshift.features.alignment import FILE as ALIGNMENT
from adshift.features.alignment import Alignment
from adshift.features.backbones import Backbone, from_spec
from adshift.features.extract import as_stored, network_inputs
from adshift.features.store import CONTENT, IMAGES, Features, levels_of
from adshift.runtime import device
from adshift.runtime.checksums import MODEL_REMEDY as REMEDY
from adshift.runtime.extras import needs
from adshift.runtime.files import read_json
from adshift.runtime.parallel import map_ordered, thread_count, torch_threads


class DirectoryModel(Model):
    """A model directory.

    Attributes:
        backbone: the frozen network.
        detector: of `adshift.detectors.registry`.
        scoring: settings of the scoring.
        spec: of the features: network, layers, preprocessing.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        threshold: float | str | Path | None = None,
        class_name: str | None = None,
        weights: str | Path | None = None,
    ) -> None:
        """Read a model directory; arguments and errors as for `load`."""
        super().__init__()
        self.source = Path(folder).absolute()  # `reference` is read later, maybe from another working directory
        about = _record(self.source / "model.json")
        self._identity = sha256(self.source / "model.json")
        method, spec = about.get("method"), about.get("features")
        if not isinstance(method, str) or not registry.exists(method) or not isinstance(spec, dict):
            raise AdshiftError(f"{self.source / 'model.json'}: no model of adshift", REMEDY)
        self.method, self.spec, self.bits = method, spec, spec.get("bits", 16)
        own = self.source / "threshold.json"
        record = threshold_file.read(own) if threshold is None or own.is_file() else None
        self._set_threshold(threshold, class_name, record, own)
        needs("torch", "timm", extra="torch", what=f"{self.source}: a model directory is run by torch")
        self.scoring = registry.settings(self.method, "score", self.source / "score.json", REMEDY)
        self.detector = registry.detector_class(self.method).load(self.source)
        self.backbone: Backbone = from_spec(self.spec, weights)
        self.resize, self.crop = self.backbone.settings.resize, self.backbone.settings.crop
        self.channels = sum(self.spec["layers"][level - 1]["shape"][-1] for level in levels_of(self.spec))
        self._normalise = _intensities(self.spec, self.source)
        alignment = self.source / ALIGNMENT
        self._align = Alignment.load(alignment) if alignment.is_file() else None
        self._check_shapes()

    def features(self, images: Iterable[Picture | Input], batch: int = BATCH) -> Features:
        """Feature maps of at least one image, as the detector scores them, all in memory.

        Raises:
            AdshiftError: as `predict`.
        """
        parts = []
        for part in self._parts(images, batch):
            with self._alone():
                parts.append(self._features(part))
        return reduce(Features.__add__, parts)

    @property
    def identity(self) -> str:
        return self._identity

    def _reference(self) -> Reference:
        return Reference.load(self.source / "reference.npz")

    def _fitted(self, pixels: np.ndarray) -> np.ndarray:
        return network_inputs(pixels, self.backbone.settings, self._normalise)

    def _limits(self) -> Any:
        """One thread per image: sums in another order would give other features than the pipeline's."""
        return torch_threads(1)

    def _scored(self, images: Sequence[Input]) -> Scored:
        features = self._features(images)
        predictions = self.detector.predict(features, self.scoring)
        return Scored(predictions.scores, predictions.full_maps(), pooled(features))

    def _features(self, images: Sequence[Input]) -> Features:
        """Feature maps of the stored type, as in the pipeline."""
        if len(images) == 1:
            with torch_threads(self._threads):
                maps = [self._maps(images[0])]
        else:
            maps = map_ordered(self._maps, images, what="network")
        rows = zip(levels_of(self.spec), zip(*maps, strict=True), strict=True)
        arrays = {level: np.stack(maps_of_level) for level, maps_of_level in rows}
        if "images" in self.spec:
            arrays[IMAGES] = np.stack([image.pixels for image in images])
        if self.backbone.settings.fit == "pad":
            shapes = [(image.geometry.height, image.geometry.width) for image in images]
            arrays[CONTENT] = np.array([content(*shape, self.spec["size"]) for shape in shapes])
        features = Features.of((image.name for image in images), arrays, self.spec)
        return self._align(features) if self._align else features

    def _maps(self, image: Input) -> list[np.ndarray]:
        maps = self.backbone(np.stack([image.pixels]), as_stored(self.spec["dtype"], image.name))
        return [maps[level - 1][0] for level in levels_of(self.spec)]

    def _threads_of_one(self, height: int, width: int) -> int:
        """All threads, if the network's maps of noise are then the same to the bit as on one thread; else one."""
        if device.on_card():
            return 1
        noise = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
        outputs = []
        for threads in (1, thread_count()):
            with torch_threads(threads):
                outputs.append(self.backbone(noise))
        return thread_count() if all(map(np.array_equal, *outputs)) else 1

    def _check_shapes(self) -> None:
        """Predict a black image: an inconsistent model raises now, and the first real image is fast."""
        settings = self.backbone.settings
        height, width = sides(settings.crop or settings.resize)
        black = np.zeros((height, width, 3), np.uint8)
        expected = [tuple(layer.get("shape", ())) for layer in self.spec["layers"]]
        with self._alone():
            shapes = [maps.shape[1:] for maps in self.backbone(black[None])]
            if shapes != expected or sides(self.spec["size"]) != (height, width):
                raise AdshiftError(
                    f"{self.source / 'model.json'}: features of {expected}, the network makes {shapes}", REMEDY
                )
            self._threads = self._threads_of_one(height, width)
            image = Input("black", black, Geometry(height, width, (height, width), (height, width)))
            try:
                self.detector.predict(self._features([image]), self.scoring).full_maps()
            except AdshiftError:
                raise
            except Exception as error:  # arrays of inconsistent shapes raise many kinds of errors
                message = " ".join(str(error).split())
                raise AdshiftError(f"{self.source}: arrays do not fit together ({message})", REMEDY) from None


def _intensities(spec: Mapping[str, Any], folder: Path) -> Intensities | None:
    """What intensities are brought to, if they are.

    Raises:
        AdshiftError: the reference is damaged.
    """
    try:
        return of_spec(spec["preprocessing"])
    except ValueError as error:
        raise AdshiftError(f"{folder / 'model.json'}: a damaged reference ({in_line(error)})", REMEDY) from None


def _record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise AdshiftError(
            f"{path}: not there", "name a model directory (docs/models.md), or REPO#METHOD/CLASS/DOMAIN@REV"
        )
    try:
        record = read_json(path)
    except AdshiftError as error:
        raise AdshiftError(error.what, REMEDY) from None
    if not isinstance(record, dict):
        raise AdshiftError(f"{path}: holds {type(record).__name__}, not an object", REMEDY)
    return record
