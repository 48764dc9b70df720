"""Image-level metrics: of the ranking of images by score, and of the decisions by a threshold chosen beforehand.

A new metric is one more record in `METRICS`, beside its function.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from adshift.evaluation.metrics.counts import (
    ACCURACY,
    F1,
    FALSE_POSITIVE_RATE,
    PRECISION,
    RECALL,
    SPECIFICITY,
    Counts,
)
from adshift.evaluation.metrics.metric import Measured, Metric, check, lacking_of
from adshift.evaluation.metrics.ranking import Ranked
from adshift.evaluation.metrics.resampled import ResampledRanks

METRICS = (
    Metric("image_auroc", "image AUROC", "image", Ranked.auroc, ("normal", "defects"), resampled=ResampledRanks.auroc,
           places=("page", "summary", "chart", "differences", "ablation", "runs"),
           description="Probability that a defective image scores higher than a normal one; ties count one half."),
    Metric("image_auprc", "image AUPRC", "image", Ranked.auprc, ("normal", "defects"),
           resampled=ResampledRanks.auprc,
           places=("page", "ablation"),
           description="Average precision over the ranking, without interpolation."),
    Metric("image_f1", "image F1", "image", F1, ("threshold", "normal", "defects"), short="F1",
           places=("page", "summary", "chart", "differences", "ablation", "runs"),
           on_test="upper bound, threshold chosen on test",
           description="Harmonic mean of precision and recall at the calibrated threshold."),
    Metric("accuracy", "accuracy", "image", ACCURACY, ("threshold", "normal", "defects"), places=("page", "ablation"),
           description="Share of images that are called what they are."),
    Metric("precision", "precision", "image", PRECISION, ("threshold", "normal", "defects"), places=(),
           description="Share of defective images among those called anomalous."),
    Metric("recall", "recall", "image", RECALL, ("threshold", "defects"), places=("page", "chart"),
           description="Share of the defective images that are called anomalous."),
    Metric("specificity", "specificity", "image", SPECIFICITY, ("threshold", "normal"),
           places=("page", "summary", "chart", "differences"),
           description="Share of the normal images that are called normal."),
    Metric("image_best_f1_upper_bound", "image best F1 (upper bound)", "image", lambda ranked: ranked.best_f1()[0],
           ("normal", "defects"), places=(),
           description="F1 at the threshold that is best on the test images themselves. Nobody can know it "
                       "beforehand."),
)  # fmt: skip
BOOTSTRAPPED = tuple(metric for metric in METRICS if metric.bootstrapped)


@dataclass(frozen=True)
class ImageMetrics(Measured):
    """The values of `METRICS`, and what they were computed from. Positive means anomalous.

    A metric is None if the normal or defective images in its record's `needs` are missing.

    Attributes:
        threshold: score from which on an image is predicted anomalous.
        counts: of images.
        best_threshold: the highest threshold that reaches `best_f1_upper_bound`; None if a kind of image is missing.
    """

    threshold: float
    counts: Counts
    best_threshold: float | None

    def __post_init__(self) -> None:
        tn, fp, fn, tp = self.counts
        if min(self.counts) < 0:
            raise ValueError(f"counts {tn}, {fp}, {fn}, {tp}: negative")
        if not all(math.isfinite(value) for value in (self.threshold, self.best_threshold or 0.0)):
            raise ValueError(f"thresholds {self.threshold}, {self.best_threshold}: expected finite numbers")
        lacking = lacking_of(tn + fp, fn + tp)
        check(METRICS, self.values, lacking)
        if (self.best_threshold is None) != bool(lacking):
            raise ValueError("best_threshold does not fit the kinds of images counted")
        if any(
            metric.measure(self.counts) != self.values[metric.key]
            for metric in METRICS
            if metric.thresholded and not metric.undefined(lacking)
        ):
            raise ValueError("image metrics that disagree with the counts")
        if not lacking and self.f1 > self.best_f1_upper_bound:
            raise ValueError(f"f1 {self.f1} exceeds its upper bound {self.best_f1_upper_bound}")

    def __getattr__(self, key: str) -> Any:
        return getattr(self.__dict__["counts"], key) if key in Counts._fields else super().__getattr__(key)

    def to_dict(self) -> dict[str, float | None]:
        """Counts, thresholds and metrics as plain values for JSON, which keeps every bit of a float."""
        own = {"threshold": self.threshold, "best_threshold": self.best_threshold}
        return {**own, **self.counts._asdict(), **self.values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Check and read the result of `to_dict`.

        Raises:
            ValueError: a key is missing or unknown, or the values contradict each other.
        """
        left = dict(values)
        try:
            counts = Counts(**{name: left.pop(name) for name in Counts._fields})
            own = {name: left.pop(name) for name in ("threshold", "best_threshold")}
            return cls(left, counts=counts, **own)
        except (KeyError, TypeError) as error:
            raise ValueError(f"image metrics: {error}") from None


def image_metrics(scores: np.ndarray, anomalous: np.ndarray, threshold: float) -> ImageMetrics:
    """Metrics of (N,) raw scores against (N,) bool labels, with a threshold chosen beforehand.

    Raises:
        ValueError: labels of another shape or not bool, a score or a threshold that is not finite.
    """
    ranked = Ranked.of(scores, anomalous) if np.size(scores) else None
    counts = Counts.of(scores, anomalous, threshold)
    lacking = lacking_of(counts.tn + counts.fp, counts.fn + counts.tp)
    return ImageMetrics(
        {
            metric.key: None if metric.undefined(lacking) else metric.measure(counts if metric.thresholded else ranked)
            for metric in METRICS
        },
        threshold=float(threshold),
        counts=counts,
        best_threshold=ranked.best_f1()[1] if ranked else None,
    )


def false_positive_rate(normal: np.ndarray, threshold: float) -> float | None:
    """Share of (N,) normal scores predicted anomalous; None if N is 0. For the cross-class matrix."""
    return FALSE_POSITIVE_RATE(Counts.of(normal, np.zeros(len(normal), bool), threshold)) if len(normal) else None
