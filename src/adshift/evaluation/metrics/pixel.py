"""Pixel-level metrics of anomaly maps, which need no threshold. One sort serves all but AUPIMO.

Notation: N images, H x W pixels. Memory: one copy of the maps, and 8 bytes for each anomalous pixel.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from adshift.evaluation.metrics.pimo import pimo
from adshift.evaluation.metrics.pro import pro
from adshift.evaluation.metrics.ranking import Ranked


@dataclass(frozen=True)
class PixelMetrics:
    """How well the maps rank the pixels. All but `pro_limit` are None where pixels are of one kind only.

    Attributes:
        auroc: area under the ROC curve.
        auprc: average precision.
        best_f1_upper_bound: F1 at the threshold that is best on these very pixels. No threshold chosen beforehand
            does better; it is a bound, not a result.
        pro: area under the per-region overlap curve up to `pro_limit`, divided by it.
        pro_limit: false-positive rate that PRO is integrated to, in (0, 1].
        aupimo: area under the per-image overlap curve; None also where no image is normal.
    """

    auroc: float | None
    auprc: float | None
    best_f1_upper_bound: float | None
    pro: float | None
    pro_limit: float
    aupimo: float | None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            undefined = name == "aupimo" or (self.auroc is None and name != "pro_limit")
            if (value is None and not undefined) or (value is not None and not 0.0 <= value <= 1.0):
                raise ValueError(f"{name} is {value}: expected 0 to 1")
        if self.pro_limit == 0.0:
            raise ValueError("pro_limit is 0: nothing to integrate")

    def to_dict(self) -> dict[str, float | None]:
        """As plain values for JSON, which keeps every bit of a float."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PixelMetrics":
        """What `to_dict` gave, checked.

        Raises:
            ValueError: a key is missing or unknown, or a value is out of range.
        """
        if set(values) != {field.name for field in fields(cls)}:
            raise ValueError(f"pixel metrics with keys {', '.join(sorted(values))}")
        return cls(**values)


def pixel_metrics(
    maps: np.ndarray, masks: np.ndarray, pro_limit: float, anomalous: np.ndarray | None = None
) -> PixelMetrics:
    """AUROC, AUPRC, best F1 and PRO over all pixels of all images, and AUPIMO.

    Args:
        maps: (N, H, W) float32 raw scores, the larger the more anomalous.
        masks: (N, H, W) bool, the truth.
        pro_limit: false-positive rate to integrate PRO to, in (0, 1].
        anomalous: (N,) bool, the images that are not normal, a defect without a pixel among them; those with a mask
            if not given.

    Raises:
        ValueError: other shapes or types, a score that is not finite, or a limit out of range.
    """
    maps, masks = np.asarray(maps), np.asarray(masks)
    if maps.ndim != 3:
        raise ValueError(f"maps {maps.shape}: expected (N, H, W)")
    if not 0.0 < pro_limit <= 1.0:
        raise ValueError(f"pro_limit is {pro_limit}: expected a false-positive rate in (0, 1]")
    marked = np.asarray(masks.any(axis=(1, 2)))
    normal = ~(marked if anomalous is None else np.asarray(anomalous))
    if normal.shape != marked.shape or (marked & normal).any():
        raise ValueError("an image with a mask is said to be normal, or the labels are of other images")
    ranked = Ranked.of(maps, masks)
    return PixelMetrics(
        auroc=ranked.auroc(),
        auprc=ranked.auprc(),
        best_f1_upper_bound=ranked.best_f1()[0],
        pro=pro(ranked, maps, masks, pro_limit),
        pro_limit=float(pro_limit),
        aupimo=pimo(maps, masks, normal),
    )
