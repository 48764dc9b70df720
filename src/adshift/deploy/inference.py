"""Load a model directory and predict images.

    model = adshift.load("models/sample/patchcore/hazelnut/clean")
    for prediction in model.predict(["part-1.png", "part-2.png"]):
        print(prediction.name, prediction.score, prediction.anomalous)

Every image goes through the network alone. It is decoded, resized, cropped and rounded as in the pipeline, so its score
depends neither on other images nor on the number of threads. Several images share the threads. A single image uses all
threads if the network's maps stay identical to the bit, which is tested when a model is loaded. The pipeline scores
batches of `features.batch` images: the network's sums then differ in the last bits, and scores by about 1e-5 of their
value.

Notation: N images, V validation images, D channels of all layers.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, reduce
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adshift.data import images as files
from adshift.data.normalising import Reference as Intensities
from adshift.data.normalising import of_spec
from adshift.data.shapes import content, sides
from adshift.deploy import package, pull
from adshift.deploy.prediction import Geometry, Input, Prediction, Region, regions_of
from adshift.detectors import registry
from adshift.detectors.records import Predictions, Reference
from adshift.errors import AdshiftError, in_line, warn
from adshift.evaluation import threshold_file
from adshift.evaluation.metrics.counts import decide
from adshift.features.alignment import FILE as ALIGNMENT
from adshift.features.alignment import Alignment
from adshift.features.backbones import Backbone, from_spec
from adshift.features.extract import as_stored, network_inputs
from adshift.features.store import CONTENT, IMAGES, Features, levels_of
from adshift.runtime import device
from adshift.runtime.checksums import MODEL_REMEDY as REMEDY
from adshift.runtime.parallel import map_ordered, silent, thread_count, torch_threads

__all__ = ["Geometry", "Input", "Model", "Prediction", "Reference", "Region", "load"]

BATCH = 16  # images in memory together

Picture = str | Path | Image.Image | np.ndarray


def load(
    model: str | Path,
    *,
    threshold: float | str | Path | None = None,
    class_name: str | None = None,
    weights: str | Path | None = None,
    cache: str | Path | None = None,
) -> "Model":
    """Load a model from its directory, or by reference.

    Args:
        model: a model directory, or `REPO#METHOD/CLASS/DOMAIN@REV` (`adshift.deploy.pull`).
        threshold: a score, or a threshold file (of the model directory if it does not exist as a path); the model's
            `threshold.json` if not given.
        class_name: class whose threshold a unified model uses; by default the threshold for all classes.
        weights: file of the backbone's weights, for a model whose backbone got them from a file.
        cache: where models fetched by reference are kept.

    Raises:
        AdshiftError: a file is missing or damaged, the backbone's weights differ from those that the model was fitted
            with, or the reference does not exist.
    """
    folder = pull.fetch(str(model), cache) if pull.is_reference(str(model)) else Path(model)
    return Model(folder, threshold=threshold, class_name=class_name, weights=weights)


class Model:
    """A fitted detector with its backbone and threshold. Threads may share a model: their calls take turns.

    Attributes:
        folder: its directory.
        method: its detector's name.
        backbone: the frozen network.
        detector: of `adshift.detectors.registry`.
        scoring: settings of the scoring.
        spec: of the features: network, layers, preprocessing.
        bits: depth of the camera, for files with more than 8 bits per pixel.
        threshold: score from which on an image is anomalous; may be set.
        map_ratio: peak of an anomaly map divided by the image's score, median over validation images.
        class_name: class of the threshold, if a unified model has one threshold per class.
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
        self.folder = Path(folder).absolute()  # `reference` is read later, maybe from another working directory
        about = _record(self.folder / "model.json")
        method, spec = about.get("method"), about.get("features")
        if not isinstance(method, str) or method not in registry.REGISTRY or not isinstance(spec, dict):
            raise AdshiftError(f"{self.folder / 'model.json'}: no model of adshift", REMEDY)
        self.method, self.spec, self.bits = method, spec, spec.get("bits", 16)
        self.class_name = class_name
        self.threshold, self.map_ratio = self._threshold(threshold)
        self.scoring = registry.settings(self.method, "score", self.folder / "score.json", REMEDY)
        self.detector = registry.detector_class(self.method).load(self.folder)
        self.backbone: Backbone = from_spec(self.spec, weights)
        self._normalise = _reference(self.spec, self.folder)
        alignment = self.folder / ALIGNMENT
        self._align = Alignment.load(alignment) if alignment.is_file() else None
        self._lock = threading.Lock()
        self._check_shapes()

    @property
    def map_threshold(self) -> float:
        """Value of an anomaly map from which on a pixel is anomalous.

        It is the threshold of image scores times `map_ratio`. The ratio is 1 if a score is its map's peak, as in PaDiM.
        PatchCore takes scores before it smooths the map, so maps have lower peaks; validation images give the ratio.
        A new threshold for images therefore moves that of maps too.
        """
        return self.threshold * self.map_ratio

    @cached_property
    def reference(self) -> Reference:
        """Validation normals of the model's own domain.

        Raises:
            AdshiftError: reference.npz is missing or damaged.
        """
        return Reference.load(self.folder / "reference.npz")

    def read(self, image: Picture, name: str = "image") -> Input:
        """Decode and resize an image for the network; `predict` does it for everything that is no `Input`.

        Args:
            image: a path, a PIL image, or an (H, W, 3) uint8 RGB array.
            name: of an image that is not given as a path.

        Raises:
            AdshiftError: it cannot be read.
        """
        start, note = time.perf_counter(), ""
        if isinstance(image, str | Path | Image.Image):
            picture = files.decode_pillow(image, name) if isinstance(image, Image.Image) else files.read(image)
            pixels, note = picture.pixels(self.bits), picture.misfit(self.bits)
            name = name if isinstance(image, Image.Image) else str(image)
        else:
            pixels = image
            if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
                raise AdshiftError(f"{name}: {kind}", "give a path, a PIL image or an (H, W, 3) uint8 RGB array")
            if not image.size:
                raise AdshiftError(f"{name}: has no pixel", "give an image")
        settings = self.backbone.settings
        geometry = Geometry(pixels.shape[0], pixels.shape[1], settings.resize, settings.crop or settings.resize)
        fitted = network_inputs(pixels, settings, self._normalise)
        return Input(name, fitted, geometry, time.perf_counter() - start, note)

    def predict(self, images: Iterable[Picture | Input], batch: int = BATCH) -> list[Prediction]:
        """Predictions of images, in their order.

        Args:
            images: paths, PIL images, (H, W, 3) uint8 RGB arrays, or results of `read`, in any mixture.
            batch: images in memory together.

        Raises:
            AdshiftError: an image cannot be read, or its features overflow; then no image is predicted.
        """
        return list(self.stream(images, batch))

    def stream(self, images: Iterable[Picture | Input], batch: int = BATCH) -> Iterator[Prediction]:
        """As `predict`, but one prediction at a time, for more images than fit in memory."""
        threshold, limit = self.threshold, self.map_threshold
        for part, seconds, predictions, _ in self._batches(images, batch):
            with self._alone():  # it sets thread limits, which two calls at once would not restore
                maps = predictions.full_maps()
            rows = zip(part, predictions.scores, maps, decide(predictions.scores, threshold), strict=True)
            for image, score, anomaly_map, anomalous in rows:
                regions = regions_of(anomaly_map, limit, bool(anomalous), image.geometry)
                yield Prediction(
                    image.name, float(score), threshold, bool(anomalous), anomaly_map, limit, image.seconds + seconds,
                    regions, image.geometry, image.note,
                )  # fmt: skip

    def score(self, images: Iterable[Picture | Input], batch: int = BATCH) -> tuple[np.ndarray, np.ndarray]:
        """Scores (N,) and features averaged over positions (N, D) of images, both float32, comparable to `reference`.

        Raises:
            AdshiftError: as `predict`.
        """
        channels = sum(self.spec["layers"][level - 1]["shape"][-1] for level in levels_of(self.spec))
        scores, features = [np.empty(0, np.float32)], [np.empty((0, channels), np.float32)]
        for _, _, predictions, maps in self._batches(images, batch):
            scores.append(predictions.scores)
            features.append(package.pooled(maps))
        return np.concatenate(scores), np.concatenate(features)

    def features(self, images: Iterable[Picture | Input], batch: int = BATCH) -> Features:
        """Feature maps of at least one image, as the detector scores them, all in memory.

        Raises:
            AdshiftError: as `predict`.
        """
        return reduce(Features.__add__, (maps for *_, maps in self._batches(images, batch)))

    def _batches(
        self, images: Iterable[Picture | Input], batch: int
    ) -> Iterator[tuple[Sequence[Input], float, Predictions, Features]]:
        """For each batch: its images, seconds per image without reading, predictions, features."""
        if batch < 1:
            raise AdshiftError(f"batch {batch}", "at least 1")
        if isinstance(images, str | Path | Image.Image | np.ndarray):
            images = [images]
        numbered = enumerate(images)
        while some := list(islice(numbered, batch)):
            with self._alone():
                part = map_ordered(self._input, some, what="reading")
                start = time.perf_counter()
                _warn_of(part)
                features = self._features(part)
                predictions = self.detector.predict(features, self.scoring)
            yield part, (time.perf_counter() - start) / len(part), predictions, features

    def _input(self, numbered: tuple[int, Picture | Input]) -> Input:
        number, image = numbered
        return image if isinstance(image, Input) else self.read(image, f"image {number}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Within: no other call runs, and each library uses one thread per image.

        The pipeline does the same: sums in another order would give other features.
        """
        with self._lock, silent(), torch_threads(1):
            yield

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
                    f"{self.folder / 'model.json'}: features of {expected}, the network makes {shapes}", REMEDY
                )
            self._threads = self._threads_of_one(height, width)
            image = Input("black", black, Geometry(height, width, (height, width), (height, width)))
            try:
                self.detector.predict(self._features([image]), self.scoring).full_maps()
            except AdshiftError:
                raise
            except Exception as error:  # arrays of inconsistent shapes raise many kinds of errors
                message = " ".join(str(error).split())
                raise AdshiftError(f"{self.folder}: arrays do not fit together ({message})", REMEDY) from None

    def _threshold(self, given: float | str | Path | None) -> tuple[float, float]:
        """The threshold and the ratio of maps to scores."""
        own = self.folder / "threshold.json"
        if isinstance(given, int | float):
            record = threshold_file.given(given)
        else:
            path = own if given is None else Path(given)
            path = path if path.is_file() or path.parent != Path() else self.folder / path
            record = threshold_file.read(path)
            if self.class_name is not None:
                record = record.of_class(self.class_name, path)
        ratio = record.map_ratio
        if ratio is None and own.is_file():
            ratio = threshold_file.read(own).map_ratio
        return record.threshold, 1.0 if ratio is None else ratio


def _reference(spec: Mapping[str, Any], folder: Path) -> Intensities | None:
    """What intensities are brought to, if they are.

    Raises:
        AdshiftError: the reference is damaged.
    """
    try:
        return of_spec(spec["preprocessing"])
    except ValueError as error:
        raise AdshiftError(f"{folder / 'model.json'}: a damaged reference ({in_line(error)})", REMEDY) from None


def _warn_of(inputs: Sequence[Input]) -> None:
    """Warn, in one line, of images whose values are unlikely for the model's camera."""
    if odd := [image for image in inputs if image.note]:
        more = f"; {len(odd) - 1} more such images in this batch" if len(odd) > 1 else ""
        warn(f"{odd[0].name}: {odd[0].note}{more}")


def _record(path: Path) -> dict[str, Any]:
    from adshift.runtime.files import read_json

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
