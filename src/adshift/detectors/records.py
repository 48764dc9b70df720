"""Records of predictions, and of the reference images that drift is compared with.

Notation: N images, h x w anomaly map, S side of the network's input in pixels, V reference images.
"""

import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from adshift.data.shapes import compact
from adshift.detectors.resample import enlarge
from adshift.errors import AdshiftError
from adshift.runtime.checksums import MODEL_REMEDY, REMEDY

Record = TypeVar("Record")

CHUNK = 8  # maps enlarged at a time
# Largest size of an array of reference images, in bytes; 100,000 images of ResNet-50 need 700 MB.
MOST_REFERENCE = 2**30


@dataclass(frozen=True)
class Predictions:
    """Raw scores, never scaled or clamped.

    Attributes:
        names: N image names.
        scores: (N,) float32, the larger the more anomalous.
        maps: (N, h, w) float32 anomaly maps at the detector's own resolution; of one position, which holds the score,
            if the detector does not localize.
        size: of the network's input, a square's side S or height and width, to which maps are enlarged. A map shows the
            whole image, never padding.
        smoothing: standard deviation in pixels of the Gaussian that smooths the enlarged maps, 0 for none.
    """

    names: tuple[str, ...]
    scores: np.ndarray
    maps: np.ndarray
    size: int | tuple[int, int]
    smoothing: float

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.scores) == len(self.maps):
            raise ValueError(f"{len(self.names)} names, {len(self.scores)} scores, {len(self.maps)} maps")
        if not np.isfinite(self.scores).all() or not np.isfinite(self.maps).all():
            raise AdshiftError("a score or an anomaly map is not finite", "fit the model again with `dvc repro`")

    @property
    def localized(self) -> bool:
        """Whether a map says where in the image a defect is; otherwise pixel metrics are null."""
        return self.maps.shape[1:] != (1, 1)

    def full_maps(self) -> np.ndarray:
        """Anomaly maps in the geometry of the network's input: (N, S, S) float32, or (N, height, width)."""
        return enlarge(self.maps, self.size, self.smoothing)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, names=np.array(self.names), scores=self.scores, maps=self.maps,
                 size=self.size, smoothing=self.smoothing)  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read predictions that `save` wrote.

        Raises:
            AdshiftError: the file is missing or damaged.
        """

        def of(file: Mapping[str, np.ndarray]) -> "Predictions":
            return cls(tuple(file["names"].tolist()), file["scores"], file["maps"],
                       compact(file["size"].tolist()), float(file["smoothing"]))  # fmt: skip

        return _read(path, of, "readable scores", REMEDY)


@dataclass(frozen=True)
class Reference:
    """Scores and features of normal images that a model was not fitted on, kept with it to detect drift.

    Attributes:
        scores: (V,) float32 raw scores.
        features: (V, D) float32, feature maps averaged over positions, all layers concatenated.
    """

    scores: np.ndarray
    features: np.ndarray

    def __post_init__(self) -> None:
        if self.scores.ndim != 1 or self.features.ndim != 2 or len(self.scores) != len(self.features):
            raise ValueError(f"scores {self.scores.shape}, features {self.features.shape}: expected (V,), (V, D)")
        if not np.isfinite(self.scores).all() or not np.isfinite(self.features).all():
            raise ValueError("a score or a feature is not finite")

    @classmethod
    def load(cls, path: Path | BinaryIO, name: str = "") -> "Reference":
        """Read a reference that `save` or the pipeline wrote, from a file or from bytes of the file `name`.

        Raises:
            AdshiftError: the file is missing or damaged.
        """

        def of(file: Mapping[str, np.ndarray]) -> "Reference":
            _check_headers(path, {"scores": 1, "features": 2})
            return cls(file["scores"], file["features"])

        return _read(path, of, "a readable reference", MODEL_REMEDY, name)

    def save(self, path: Path) -> None:
        np.savez(path, scores=self.scores.astype(np.float32), features=self.features.astype(np.float32))


def _check_headers(path: Path | BinaryIO, dimensions: Mapping[str, int]) -> None:
    """Refuse arrays that are not float32 of `dimensions` and at most MOST_REFERENCE bytes, before memory is allocated.

    Raises:
        KeyError, ValueError: an array is missing, or is refused.
    """
    with zipfile.ZipFile(path) as archive:
        for name, expected in dimensions.items():
            with archive.open(f"{name}.npy") as file:
                version = np.lib.format.read_magic(file)
                if version != (1, 0):  # the version that NumPy writes for plain arrays
                    raise ValueError(f"{name} has a header of version {version}")
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if dtype != np.float32 or len(shape) != expected or min(shape) < 0:
                raise ValueError(f"{name}: {dtype} {shape}, expected float32 of {expected} dimensions")
            if math.prod(shape) * dtype.itemsize > MOST_REFERENCE:
                raise ValueError(f"{name}: {shape} takes more than {MOST_REFERENCE} bytes")


def _read(
    path: Path | BinaryIO, of: Callable[[Mapping[str, np.ndarray]], Record], what: str, remedy: str, name: str = ""
) -> Record:
    """A record of the arrays in a file; every failure becomes an `AdshiftError`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return of(file)
    except Exception as error:  # readers of a damaged archive raise many kinds of errors; its parts have checksums
        raise AdshiftError(f"{name or path}: not {what} ({error})", remedy) from None
