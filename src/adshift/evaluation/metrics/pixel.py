"""Pixel-level metrics of anomaly maps, which need no threshold. One sort serves all but AUPIMO.

A new metric is one more record in `METRICS`, beside its function.

Notation: N images, H x W pixels. Memory: one copy of the maps, and 8 bytes for each anomalous pixel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from adshift.evaluation.metrics.metric import Measured, Metric, check
from adshift.evaluation.metrics.pimo import pimo
from adshift.evaluation.metrics.pro import pro
from adshift.evaluation.metrics.ranking import Ranked


class Pixels(NamedTuple):
    """The input of pixel metrics.

    Attributes:
        maps: (N, H, W) float32 raw scores, the larger the more anomalous; a list if sizes differ.
        masks: (N, H, W) bool, the truth.
        normal: (N,) bool, the normal images.
        ranked: all pixels.
        pro_limit: false-positive rate that PRO is integrated to, in (0, 1].
    """

    maps: np.ndarray | Sequence[np.ndarray]
    masks: np.ndarray | Sequence[np.ndarray]
    normal: np.ndarray
    ranked: Ranked
    pro_limit: float


METRICS = (
    Metric("pixel_auroc", "pixel AUROC", "pixel", lambda pixels: pixels.ranked.auroc(), ("normal", "masks"),
           places=("page", "summary", "chart", "runs"),
           description="Probability that a defective pixel scores higher than a normal one."),
    Metric("pixel_auprc", "pixel AUPRC", "pixel", lambda pixels: pixels.ranked.auprc(), ("normal", "masks"),
           description="Average precision over the ranking of pixels."),
    Metric("pixel_best_f1_upper_bound", "pixel best F1 (upper bound)", "pixel",
           lambda pixels: pixels.ranked.best_f1()[0], ("normal", "masks"), places=("runs",),
           description="F1 of pixels at the threshold that is best on the test images themselves."),
    Metric("pro", "PRO", "pixel", lambda pixels: pro(pixels.ranked, pixels.maps, pixels.masks, pixels.pro_limit),
           ("normal", "masks"), places=("page", "summary", "chart", "runs"),
           description="Per-region overlap: mean share of each defect region that is found, averaged over pixel "
                       "false-positive rates up to the limit (`evaluate.pro_limit`). Regions are 8-connected."),
    Metric("aupimo", "AUPIMO", "pixel", lambda pixels: pimo(pixels.maps, pixels.masks, pixels.normal),
           ("normal", "masks"), places=("page", "runs"),
           description="Per-image overlap: mean share of each image's defect that is found at false-positive rates "
                       "between 0.00001 and 0.0001 (log scale) on normal images: what a map shows before it ever "
                       "raises a false alarm."),
)  # fmt: skip
RANKED = ("auroc", "auprc", "best_f1_upper_bound", "pro")  # all None if all pixels are of one kind


@dataclass(frozen=True)
class PixelMetrics(Measured):
    """The values of `METRICS`, and the false-positive rate that PRO is integrated to, in (0, 1].

    Metrics that need normal and defective pixels are None if one kind is missing; AUPIMO also if no image is normal.
    """

    pro_limit: float

    def __post_init__(self) -> None:
        check(METRICS, self.values)
        if not 0.0 < self.pro_limit <= 1.0:
            raise ValueError(f"pro_limit is {self.pro_limit}: expected a false-positive rate in (0, 1]")
        if len({self.values[key] is None for key in RANKED}) > 1:
            raise ValueError(f"of {', '.join(RANKED)} some are None")

    @classmethod
    def undefined(cls, pro_limit: float) -> Self:
        """The metrics of maps without a defective pixel."""
        return cls({metric.key: None for metric in METRICS}, pro_limit=pro_limit)

    def to_dict(self) -> dict[str, float | None]:
        """The limit and the metrics as plain values for JSON, which keeps every bit of a float."""
        return {"pro_limit": self.pro_limit, **self.values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Check and read the result of `to_dict`.

        Raises:
            ValueError: a key is missing or unknown, or the values contradict each other.
        """
        if "pro_limit" not in values:
            raise ValueError("pixel metrics without pro_limit")
        left = dict(values)
        return cls(pro_limit=left.pop("pro_limit"), values=left)


def pixel_metrics(
    maps: np.ndarray | Sequence[np.ndarray],
    masks: np.ndarray | Sequence[np.ndarray],
    pro_limit: float,
    anomalous: np.ndarray | None = None,
) -> PixelMetrics:
    """All metrics of pixels.

    Args:
        maps: (N, H, W) float32 raw scores, the larger the more anomalous; a list if images differ in size.
        masks: (N, H, W) bool, the truth, or a list of masks of the same sizes as the maps.
        pro_limit: false-positive rate to integrate PRO to, in (0, 1].
        anomalous: (N,) bool, the images that are not normal, also those with an empty mask; by default the images whose
            mask has a pixel.

    Raises:
        ValueError: other shapes or types, a score that is not finite, or a limit out of range.
    """
    if any(np.ndim(one) != 2 for one in maps):
        raise ValueError("maps: expected (N, H, W)")
    if [one.shape for one in maps] != [one.shape for one in masks]:
        raise ValueError("masks of other shapes than the maps: expected bool, alike")
    if not 0.0 < pro_limit <= 1.0:
        raise ValueError(f"pro_limit is {pro_limit}: expected a false-positive rate in (0, 1]")
    marked = np.array([mask.any() for mask in masks])
    normal = ~(marked if anomalous is None else np.asarray(anomalous))
    if normal.shape != marked.shape or (marked & normal).any():
        raise ValueError("an image with a mask is said to be normal, or the labels are of other images")
    pixels = Pixels(maps, masks, normal, Ranked.of(_flat(maps), _flat(masks)), float(pro_limit))
    return PixelMetrics({metric.key: metric.measure(pixels) for metric in METRICS}, pro_limit=float(pro_limit))


def _flat(images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """All pixels as one vector; a list is copied."""
    return images if isinstance(images, np.ndarray) else np.concatenate([one.ravel() for one in images])
