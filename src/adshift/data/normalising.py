"""Intensities of an image brought to those of the training images, before the network sees it.

`moments`: in each channel, x' = (x - m) s_ref / s + m_ref. m and s are mean and standard deviation of the pixels
between the channel's 10th and 90th percentile, so that a defect that fills less than a tenth of the image hardly moves
them. The reference is the mean over the training images. `histogram`: each channel's histogram is matched to the mean
quantiles of the training images.

Both remove a global change of brightness and color, by construction also one that is the defect.

Notation: h x w pixels of the network's input.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from adshift.runtime.settings import Number, Section

TRIMMED = 10, 90  # percentiles between which pixels count for the moments
GAIN = 4.0  # contrast is changed by this factor at most, either way
LEVELS = 256  # of an image, and quantiles of a reference histogram
DIGITS = 4  # of the reference's moments

Level = Annotated[Number, Field(ge=0, le=LEVELS - 1)]
Quantiles = Annotated[tuple[Level, ...], Field(min_length=LEVELS, max_length=LEVELS)]


class Reference(Section):
    """What images are brought to. It is part of the features' spec and so of a model.

    Attributes:
        kind: `moments` or `histogram`.
        mean, std: of the channels R, G, B, in grey levels; of `moments`.
        quantiles: of each channel, ascending, in grey levels; of `histogram`.
    """

    kind: Literal["moments", "histogram"]
    mean: tuple[Level, Level, Level] | None = None
    std: tuple[Level, Level, Level] | None = None
    quantiles: tuple[Quantiles, Quantiles, Quantiles] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        moments = self.mean is not None and self.std is not None
        if (self.kind == "moments") != moments or (self.kind == "histogram") != (self.quantiles is not None):
            raise ValueError(f"a reference of {self.kind} with other values")
        return self

    @classmethod
    def fit(cls, images: Iterable[np.ndarray], kind: Literal["moments", "histogram"]) -> Self:
        """The reference of training images, at least one: (h, w, 3) uint8 each."""
        if kind == "moments":
            mean, std = np.mean([moments(image) for image in images], axis=0)
            return cls(kind=kind, mean=_rounded(mean), std=_rounded(std))
        ranks = (np.arange(LEVELS) + 0.5) / LEVELS * 100
        quantiles = np.mean([np.percentile(image, ranks, axis=(0, 1)) for image in images], axis=0)
        return cls(kind=kind, quantiles=_rounded(quantiles.T))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self.model_dump(mode="json", exclude_none=True)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The normalized image: (h, w, 3) uint8, of an (h, w, 3) uint8 image."""
        if self.quantiles:
            values = np.stack(
                [_matched(image[..., channel], wanted) for channel, wanted in enumerate(self.quantiles)], -1
            )
        else:
            mean, std = moments(image)
            assert self.mean and self.std
            gain = np.clip(np.divide(self.std, std, out=np.ones(3), where=std > 0), 1 / GAIN, GAIN)
            values = (image - mean) * gain + self.mean
        return np.rint(np.clip(values, 0, LEVELS - 1)).astype(np.uint8)


def moments(image: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of each channel's pixels within `TRIMMED`: (2, 3) float64, of (h, w, 3) uint8."""
    levels = np.arange(LEVELS, dtype=np.float64)
    result = np.empty((2, image.shape[2]))
    for channel in range(image.shape[2]):
        counts = np.bincount(image[..., channel].ravel(), minlength=LEVELS)
        total = np.cumsum(counts)
        low, high = (np.searchsorted(total, total[-1] * percent / 100) for percent in TRIMMED)
        kept = np.where((levels >= low) & (levels <= high), counts, 0)
        mean = (kept * levels).sum() / kept.sum()
        result[:, channel] = mean, np.sqrt((kept * (levels - mean) ** 2).sum() / kept.sum())
    return result


def _matched(channel: np.ndarray, quantiles: tuple[float, ...]) -> np.ndarray:
    """A channel with a histogram of these quantiles: (h, w) float64. A grey level goes to the quantile of its rank."""
    counts = np.bincount(channel.ravel(), minlength=LEVELS)
    ranks = (np.cumsum(counts) - counts / 2) / channel.size
    levels: np.ndarray = np.interp(ranks, (np.arange(LEVELS) + 0.5) / LEVELS, quantiles)
    return levels[channel]


def of_spec(preprocessing: Mapping[str, Any]) -> Reference | None:
    """The reference in a features' spec; None if its images are not normalized.

    Raises:
        ValueError: it is damaged.
    """
    values = preprocessing.get("normalise")
    return None if values is None else Reference.of(values)


def _rounded(values: np.ndarray) -> Any:
    """Nested tuples of floats."""
    return tuple(map(_rounded, values)) if values.ndim > 1 else tuple(np.round(values, DIGITS).tolist())
