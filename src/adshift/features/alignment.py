"""Statistics of feature maps brought to those of the training images, channel by channel, when images are scored.

Of each channel of an image, the median m and the interquartile range s over positions count, so that a defect that
fills a tenth of the image hardly moves them. Each is moved to the nearest value that a training image has:
x' = (x - m) s' / s + m', with m' and s' clipped to the ranges of the training images. So a training image stays as it
is. Li et al., "Revisiting batch normalization for practical domain adaptation" (2017), replace the statistics of a
batch; here an image can also be aligned alone.

Notation: N images, H x W positions, C channels of a layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from adshift.errors import AdshiftError
from adshift.features.store import Features, Rows, levels_of
from adshift.runtime.checksums import MODEL_REMEDY

Per = Literal["image", "batch"]
FILE = "alignment.npz"
GAIN = 4.0  # the spread is changed by this factor at most, either way
EPSILON = 1e-6  # spread below which a channel counts as constant


@dataclass(frozen=True)
class Alignment:
    """Ranges of the statistics of training images.

    Attributes:
        per: `image`, or `batch` for the mean statistics of all images that are aligned together.
        ranges: {level: (4, C) float32: smallest and largest median, smallest and largest interquartile range}.
    """

    per: Per
    ranges: Mapping[int, np.ndarray]

    @classmethod
    def fit(cls, features: Features, per: Per) -> "Alignment":
        """The ranges of training images, at least one, of all layers."""
        ranges = {}
        for level in levels_of(features.spec):
            medians, spreads = _of_images(features, level)
            ranges[level] = np.stack([medians.min(0), medians.max(0), spreads.min(0), spreads.max(0)])
        return cls(per, ranges)

    def __call__(self, features: Features) -> Features:
        """The same images with aligned maps. A map is aligned when it is read."""
        means = {}
        if self.per == "batch":
            means = {level: [values.mean(0) for values in _of_images(features, level)] for level in self.ranges}

        def aligned(arrays: Mapping[int, np.ndarray | Rows]) -> Mapping[int, np.ndarray | Rows]:
            return {
                **arrays,
                **{level: _Aligned(self, arrays[level], level, means.get(level)) for level in self.ranges},
            }

        once = {id(arrays): aligned(arrays) for arrays, _ in features.rows}
        return Features(features.names, features.spec, tuple((once[id(arrays)], row) for arrays, row in features.rows))

    def moved(self, maps: np.ndarray, level: int, statistics: list[np.ndarray] | None = None) -> np.ndarray:
        """The aligned maps of an image, (H, W, C) float32; `statistics` of the batch, or the image's own."""
        median, spread = statistics or _statistics(maps)
        low, high, narrow, wide = self.ranges[level]
        wanted = np.clip(spread, narrow, wide)
        gain = np.divide(wanted, spread, out=np.ones_like(spread), where=spread > EPSILON)
        return (maps - median) * np.clip(gain, 1 / GAIN, GAIN) + np.clip(median, low, high)

    def save(self, path: Path) -> None:
        """Write `FILE`."""
        arrays: dict[str, Any] = {f"level{level}": values for level, values in self.ranges.items()}
        np.savez(path, per=self.per, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Alignment":
        """Read what `save` wrote.

        Raises:
            AdshiftError: the file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                ranges = {int(name.removeprefix("level")): file[name] for name in file.files if name != "per"}
                alignment = cls(str(file["per"]), ranges)  # type: ignore[arg-type]
            if alignment.per not in get_args(Per):
                raise ValueError(f"per {alignment.per!r}")
            for values in ranges.values():
                if values.dtype != np.float32 or values.ndim != 2 or len(values) != 4 or not np.isfinite(values).all():
                    raise ValueError(f"ranges {values.dtype} {values.shape}")
        except Exception as error:  # readers of a damaged archive raise many kinds of errors; its parts have checksums
            raise AdshiftError(f"{path}: not a readable alignment ({error})", MODEL_REMEDY) from None
        return alignment


class _Aligned(Rows):
    """The rows of an array of feature maps, aligned when they are read."""

    def __init__(
        self, alignment: Alignment, source: np.ndarray | Rows, level: int, statistics: list[np.ndarray] | None
    ) -> None:
        self.alignment, self.source, self.level, self.statistics = alignment, source, level, statistics

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.alignment.moved(self.source[row].astype(np.float32), self.level, self.statistics)


def _of_images(features: Features, level: int) -> list[np.ndarray]:
    """Medians and interquartile ranges (N, C) of the maps of each image."""
    each = [_statistics(features[index : index + 1].maps(level)[0]) for index in range(len(features))]
    return [np.array(values) for values in zip(*each, strict=True)]


def _statistics(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and interquartile range over positions: (C,) float32 each, of (H, W, C)."""
    low, median, high = np.percentile(maps.reshape(-1, maps.shape[-1]), (25, 50, 75), axis=0).astype(np.float32)
    return median, high - low
