"""Image-level metrics: how well scores rank the images, and what a threshold chosen beforehand makes of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from adshift.evaluation.calibration import decide
from adshift.evaluation.metrics.ranking import Ranked

RATES = ("f1", "accuracy", "precision", "recall", "specificity")


@dataclass(frozen=True)
class ImageMetrics:
    """Positive means anomalous. The rates follow from the counts; 0/0 is 0, where something could have been counted.

    What needs normal and defective images is None where one kind is missing: all but recall, which needs defective
    ones, and specificity, which needs normal ones.

    Attributes:
        threshold: score from which on an image is predicted anomalous.
        tn, fp, fn, tp: counts of images.
        auroc: area under the ROC curve.
        auprc: average precision.
        best_f1_upper_bound: F1 at the threshold that is best on these very images. No threshold chosen beforehand
            does better; it is a bound, not a result.
        best_threshold: the highest threshold that reaches it.
    """

    threshold: float
    tn: int
    fp: int
    fn: int
    tp: int
    auroc: float | None
    auprc: float | None
    best_f1_upper_bound: float | None
    best_threshold: float | None

    def __post_init__(self) -> None:
        if min(self.tn, self.fp, self.fn, self.tp) < 0:
            raise ValueError(f"counts {self.tn}, {self.fp}, {self.fn}, {self.tp}: negative")
        for name in ("auroc", "auprc", "best_f1_upper_bound", "best_threshold"):
            value = getattr(self, name)
            if (value is None) == self.both:
                raise ValueError(f"{name} is {value}: does not fit the kinds of images counted")
            if value is not None and name != "best_threshold" and not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is {value}: expected 0 to 1")
        if not all(math.isfinite(value) for value in (self.threshold, self.best_threshold or 0.0)):
            raise ValueError(f"thresholds {self.threshold}, {self.best_threshold}: expected finite numbers")
        if self.f1 is not None and self.f1 > (self.best_f1_upper_bound or 0.0):
            raise ValueError(f"f1 {self.f1} exceeds its upper bound {self.best_f1_upper_bound}")

    @property
    def both(self) -> bool:
        """Whether there are normal and defective images."""
        return bool(self.tn + self.fp and self.fn + self.tp)

    @property
    def f1(self) -> float | None:
        return _quotient(2 * self.tp, 2 * self.tp + self.fp + self.fn) if self.both else None

    @property
    def accuracy(self) -> float | None:
        return _quotient(self.tp + self.tn, self.tn + self.fp + self.fn + self.tp) if self.both else None

    @property
    def precision(self) -> float | None:
        return _quotient(self.tp, self.tp + self.fp) if self.both else None

    @property
    def recall(self) -> float | None:
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    @property
    def specificity(self) -> float | None:
        return self.tn / (self.tn + self.fp) if self.tn + self.fp else None

    def to_dict(self) -> dict[str, float | None]:
        """Counts, rates and all else as plain values for JSON, which keeps every bit of a float."""
        return {**vars(self), **{name: getattr(self, name) for name in RATES}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ImageMetrics":
        """What `to_dict` gave, checked.

        Raises:
            ValueError: a key is missing or unknown, or the values contradict each other.
        """
        try:
            found = cls(**{name: value for name, value in values.items() if name not in RATES})
        except TypeError as error:
            raise ValueError(f"image metrics: {error}") from None
        if found.to_dict() != dict(values):
            raise ValueError("image metrics whose rates are missing or disagree with the counts")
        return found


def image_metrics(scores: np.ndarray, anomalous: np.ndarray, threshold: float) -> ImageMetrics:
    """Metrics of (N,) raw scores against (N,) bool labels, with a threshold chosen beforehand.

    Raises:
        ValueError: labels of another shape or not bool, a score or a threshold that is not finite.
    """
    if not np.size(scores):
        return ImageMetrics(float(threshold), 0, 0, 0, 0, None, None, None, None)
    ranked = Ranked.of(scores, anomalous)
    predicted, anomalous = decide(scores, threshold), np.asarray(anomalous)
    best, best_threshold = ranked.best_f1()
    return ImageMetrics(
        threshold=float(threshold),
        tn=int((~predicted & ~anomalous).sum()),
        fp=int((predicted & ~anomalous).sum()),
        fn=int((~predicted & anomalous).sum()),
        tp=int((predicted & anomalous).sum()),
        auroc=ranked.auroc(),
        auprc=ranked.auprc(),
        best_f1_upper_bound=best,
        best_threshold=best_threshold,
    )


def false_positive_rate(normal: np.ndarray, threshold: float) -> float | None:
    """Share of (N,) normal scores predicted anomalous; None where there are none. For the cross-class matrix."""
    return float(decide(normal, threshold).mean()) if len(normal) else None


def _quotient(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
