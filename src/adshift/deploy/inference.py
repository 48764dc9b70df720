"""A model in use: it reads images and predicts them (`adshift.deploy.loading` loads it).

Every image goes through the network alone. It is decoded, resized, cropped and rounded as in the pipeline, so its score
depends neither on other images nor on the number of threads. `adshift.deploy.directory` runs model directories with
torch, `adshift.deploy.graph` exported files with onnxruntime.

Notation: N images, V validation images, D channels of all layers.
"""

import copy
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from adshift.data import images as files
from adshift.data.shapes import Size
from adshift.deploy.prediction import Geometry, Input, Prediction, Region, regions_of
from adshift.detectors.records import Reference
from adshift.errors import AdshiftError, warn
from adshift.evaluation import threshold_file
from adshift.evaluation.metrics.counts import decide
from adshift.runtime.parallel import map_ordered, silent

__all__ = ["Geometry", "Input", "Model", "Prediction", "Reference", "Region"]

BATCH = 16  # images in memory together

Picture = str | Path | bytes | Image.Image | np.ndarray


@dataclass(frozen=True)
class Scored:
    """What a model makes of some images.

    Attributes:
        scores: (N,) float32.
        maps: (N, S, S) float32, enlarged and smoothed.
        features: (N, D) float32, feature maps averaged over positions.
    """

    scores: np.ndarray
    maps: np.ndarray
    features: np.ndarray


class Model(ABC):
    """A fitted detector with its backbone and threshold. Threads may share a model: their calls take turns.

    Attributes:
        source: the model's directory or file.
        method: its detector's name.
        resize, crop: sizes of the network's input before and after the centre crop; no crop if None.
        channels: D.
        bits: depth of the camera, for files with more than 8 bits per pixel.
        threshold: score from which on an image is anomalous; may be set.
        map_ratio: peak of an anomaly map divided by the image's score, median over validation images.
        class_name: class of the threshold, if a unified model has one threshold per class.
    """

    source: Path
    method: str
    resize: Size
    crop: Size | None
    channels: int
    bits: int
    threshold: float
    map_ratio: float
    class_name: str | None

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """The folder in which thresholds of the model lie: its directory, or that of its file."""
        return self.source if self.source.is_dir() else self.source.parent

    @property
    @abstractmethod
    def identity(self) -> str:
        """SHA-256 of the exported file, or of a directory's model.json, which holds those of the arrays."""

    def with_threshold(self, threshold: float | str | Path | None, class_name: str | None = None) -> Self:
        """The same model with another threshold, as for `load`. Both share what is loaded, and take turns."""
        other = copy.copy(self)
        other._set_threshold(threshold, class_name, self._own, self._own_name)
        return other

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
            AdshiftError: they are missing or damaged.
        """
        return self._reference()

    @abstractmethod
    def _reference(self) -> Reference: ...

    @abstractmethod
    def _fitted(self, pixels: np.ndarray) -> np.ndarray:
        """What the model takes of an (H, W, 3) uint8 image, also (h, w, 3) uint8."""

    @abstractmethod
    def _scored(self, images: Sequence[Input]) -> Scored:
        """Scores, maps and features of at least one image; called by one thread at a time."""

    @abstractmethod
    def _limits(self) -> Any:
        """A context within which libraries use as many threads as the model is to have."""

    def read(self, image: Picture, name: str = "image") -> Input:
        """Decode and resize an image for the network; `predict` does it for everything that is no `Input`.

        Args:
            image: a path, the bytes of an image file, a PIL image, or an (H, W, 3) uint8 RGB array.
            name: of an image that is not given as a path.

        Raises:
            AdshiftError: it cannot be read.
        """
        start, note = time.perf_counter(), ""
        if isinstance(image, str | Path | bytes | Image.Image):
            picture, name = _decoded(image, name)
            pixels, note = picture.pixels(self.bits), picture.misfit(self.bits)
        else:
            pixels = image
            if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
                raise AdshiftError(f"{name}: {kind}", "give a path, a PIL image or an (H, W, 3) uint8 RGB array")
            if not image.size:
                raise AdshiftError(f"{name}: has no pixel", "give an image")
        geometry = Geometry(pixels.shape[0], pixels.shape[1], self.resize, self.crop or self.resize)
        return Input(name, self._fitted(pixels), geometry, time.perf_counter() - start, note)

    def predict(self, images: Iterable[Picture | Input], batch: int = BATCH) -> list[Prediction]:
        """Predictions of images, in their order.

        Args:
            images: paths, bytes of image files, PIL images, (H, W, 3) uint8 RGB arrays, or results of `read`, in any
                mixture.
            batch: images in memory together.

        Raises:
            AdshiftError: an image cannot be read, or its features overflow; then no image is predicted.
        """
        return list(self.stream(images, batch))

    def stream(self, images: Iterable[Picture | Input], batch: int = BATCH) -> Iterator[Prediction]:
        """As `predict`, but one prediction at a time, for more images than fit in memory."""
        threshold, limit = self.threshold, self.map_threshold
        for part, seconds, scored in self._batches(images, batch):
            verdicts = decide(scored.scores, threshold)
            rows = zip(part, scored.scores, scored.maps, scored.features, verdicts, strict=True)
            for image, score, anomaly_map, features, anomalous in rows:
                regions = regions_of(anomaly_map, limit, bool(anomalous), image.geometry)
                yield Prediction(
                    image.name, float(score), threshold, bool(anomalous), anomaly_map, limit, image.seconds + seconds,
                    regions, image.geometry, image.note, features,
                )  # fmt: skip

    def score(self, images: Iterable[Picture | Input], batch: int = BATCH) -> tuple[np.ndarray, np.ndarray]:
        """Scores (N,) and features averaged over positions (N, D) of images, both float32, comparable to `reference`.

        Raises:
            AdshiftError: as `predict`.
        """
        scores, features = [np.empty(0, np.float32)], [np.empty((0, self.channels), np.float32)]
        for *_, scored in self._batches(images, batch):
            scores.append(scored.scores)
            features.append(scored.features)
        return np.concatenate(scores), np.concatenate(features)

    def _batches(
        self, images: Iterable[Picture | Input], batch: int
    ) -> Iterator[tuple[Sequence[Input], float, Scored]]:
        """For each batch: its images, seconds per image without reading, and what the model makes of them."""
        for part in self._parts(images, batch):
            with self._alone():
                start = time.perf_counter()
                scored = self._scored(part)
            yield part, (time.perf_counter() - start) / len(part), scored

    def _parts(self, images: Iterable[Picture | Input], batch: int) -> Iterator[Sequence[Input]]:
        """The images, read, in batches."""
        if batch < 1:
            raise AdshiftError(f"batch {batch}", "at least 1")
        if isinstance(images, str | Path | bytes | Image.Image | np.ndarray):
            images = [images]
        numbered = enumerate(images)
        while some := list(islice(numbered, batch)):
            with self._alone():
                part = map_ordered(self._input, some, what="reading")
                _warn_of(part)
            yield part

    def _input(self, numbered: tuple[int, Picture | Input]) -> Input:
        number, image = numbered
        return image if isinstance(image, Input) else self.read(image, f"image {number}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Within: no other call runs: two would not restore the limits of threads. No progress is shown."""
        with self._lock, silent(), self._limits():
            yield

    def _set_threshold(
        self, given: float | str | Path | None, class_name: str | None, own: threshold_file.Record | None, name: Path
    ) -> None:
        """Set the threshold and the ratio of maps to scores.

        Args:
            given: as for `load`.
            class_name: as for `load`.
            own: the model's threshold; None if it has none, or it was not read since another is given.
            name: of the model's threshold in errors.
        """
        if isinstance(given, int | float):
            record = threshold_file.given(given)
        else:
            path = name if given is None else Path(given)
            if given is not None:
                path = path if path.is_file() or path.parent != Path() else self.folder / path
                record = threshold_file.read(path)
            elif own is None:
                raise AdshiftError(f"{name}: has no threshold", "give one: threshold=, or --threshold FILE|NUMBER")
            else:
                record = own
            record = record if class_name is None else record.of_class(class_name, path)
        self._own, self._own_name = own, name
        ratio = record.map_ratio if record.map_ratio is not None or own is None else own.map_ratio
        self.class_name, self.threshold, self.map_ratio = class_name, record.threshold, 1.0 if ratio is None else ratio


def _decoded(image: str | Path | bytes | Image.Image, name: str) -> tuple[files.Picture, str]:
    """An image file, its bytes or a PIL image, decoded; and its name."""
    if isinstance(image, Image.Image):
        return files.decode_pillow(image, name), name
    if isinstance(image, bytes):
        return files.decode(image, name), name
    return files.read(image), str(image)


def _warn_of(inputs: Sequence[Input]) -> None:
    """Warn, in one line, of images whose values are unlikely for the model's camera."""
    if odd := [image for image in inputs if image.note]:
        more = f"; {len(odd) - 1} more such images in this batch" if len(odd) > 1 else ""
        warn(f"{odd[0].name}: {odd[0].note}{more}")
