"""Decision thresholds from validation scores (the study, 4.2), or from test scores where a protocol has no others.

NumPy only.

Notation: N validation images, P of them anomalous; T thresholds tried.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from adshift.errors import AdshiftError
from adshift.evaluation.metrics.counts import F1, PRECISION, RECALL, SPECIFICITY, Counts
from adshift.evaluation.settings import Calibrate


@dataclass(frozen=True)
class Threshold:
    """A threshold, and what it does on the images that set it (not an estimate for others).

    Attributes:
        threshold: score from which on an image is anomalous.
        on: which images set it, `val` or `test`. What it does on `test` is then an upper bound, not a result.
        rule: how it was found, `f1_grid`, `f1_exact` or `target_fpr`.
        f1, precision, recall, specificity: of the counts; precision is 0 where nothing is predicted anomalous.
        tp, fp, tn, fn: counts of images; positive means anomalous.
    """

    threshold: float
    on: Literal["val", "test"]
    rule: str
    f1: float
    precision: float
    recall: float
    specificity: float
    tp: int
    fp: int
    tn: int
    fn: int

    def __post_init__(self) -> None:
        if not np.isfinite(self.threshold):
            raise ValueError(f"threshold {self.threshold} is not finite")
        if min(self.tp, self.fp, self.tn, self.fn) < 0 or not self.tp + self.fn or not self.tn + self.fp:
            raise ValueError("counts are negative, or of one kind of images only")
        if (self.f1, self.precision, self.recall, self.specificity) != _rates(
            Counts(self.tn, self.fp, self.fn, self.tp)
        ):
            raise ValueError("rates and counts disagree")
        if self.on not in ("val", "test"):
            raise ValueError(f"set on {self.on!r}: expected val or test")

    @classmethod
    def of(
        cls, threshold: float, on: Literal["val", "test"], rule: str, scores: np.ndarray, anomalous: np.ndarray
    ) -> "Threshold":
        """What `threshold` does on these images."""
        counts = Counts.of(scores, anomalous, threshold)
        return cls(float(threshold), on, rule, *_rates(counts), **counts._asdict())

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON, which keeps every bit of a float."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Threshold":
        """What `to_dict` gave, checked.

        Raises:
            AdshiftError: a key is missing or unknown, or the values contradict each other.
        """
        try:
            if set(values) != {field.name for field in fields(cls)}:
                raise ValueError(f"keys {', '.join(sorted(values))}")
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise AdshiftError(f"a calibrated threshold is damaged: {error}", "run `dvc repro calibrate`") from None


def _rates(counts: Counts) -> tuple[float, float, float, float]:
    return F1(counts), PRECISION(counts), RECALL(counts), SPECIFICITY(counts)


def calibrate(
    scores: np.ndarray,
    anomalous: np.ndarray,
    settings: Calibrate,
    on: Literal["val", "test"] = "val",
    source: str = "validation scores",
) -> Threshold:
    """The threshold that a rule finds on validation images, or on what stands in for them.

    Args:
        scores: (N,) raw scores.
        anomalous: (N,) bool, the truth.
        settings: the rule and its parameters.
        on: which images these are, for the record.
        source: whose scores these are, for the error message.

    Rules:
        f1_grid: best F1 of `steps` evenly spaced thresholds from the smallest to the largest score, both included.
        f1_exact: best F1 of all thresholds, one for each gap between neighbouring scores. Anywhere in the gap decides
            the same; its middle is taken, which leaves both neighbours the same margin on images not seen yet.
        target_fpr: the smallest threshold (in float64, so the next number above a normal score) at which at most the
            share `target_fpr` of the normal images is predicted anomalous.
    A tie in F1 goes to the highest specificity. What is tied then decides alike on every validation image, since F1
    and false positives together fix the true positives; the middle of these thresholds is taken, again for its margin.

    Raises:
        AdshiftError: no scores, a score that is not finite, or images of one kind only.
    """
    scores, anomalous = np.asarray(scores, np.float64), np.asarray(anomalous)
    if scores.ndim != 1 or scores.shape != anomalous.shape or anomalous.dtype != bool:
        raise ValueError(
            f"scores {scores.shape}, anomalous {anomalous.shape} {anomalous.dtype}: expected (N,), (N,) bool"
        )
    if not np.isfinite(scores).all():
        raise AdshiftError(
            f"{source}: {np.sum(~np.isfinite(scores))} of {len(scores)} are not finite", "run `dvc repro`"
        )
    if anomalous.all() or not anomalous.any():
        raise AdshiftError(
            f"{source}: {np.sum(~anomalous)} normal and {np.sum(anomalous)} defective images; a threshold needs both",
            "raise split.val_defect_fraction or lower split.train_fraction in params.yaml",
        )
    if settings.rule == "target_fpr":
        threshold = _above_normal(scores[~anomalous], settings.target_fpr)
    elif settings.rule == "f1_grid":
        threshold = _best_f1(np.linspace(scores.min(), scores.max(), settings.steps), scores, anomalous)
    else:
        distinct = np.unique(scores)
        between = (distinct[:-1] + distinct[1:]) / 2
        # Between two adjacent floats there is no number: the upper one then decides as the middle would.
        between = np.where(between > distinct[:-1], between, distinct[1:])
        threshold = _best_f1(np.append(distinct[0], between), scores, anomalous)
    return Threshold.of(threshold, on, settings.rule, scores, anomalous)


def _best_f1(thresholds: np.ndarray, scores: np.ndarray, anomalous: np.ndarray) -> float:
    """The F1-optimal one of (T,) ascending thresholds, ties as `calibrate` says. O((N + T) log N)."""
    positives = np.sort(scores[anomalous])
    negatives = np.sort(scores[~anomalous])
    tp = len(positives) - np.searchsorted(positives, thresholds)
    fp = len(negatives) - np.searchsorted(negatives, thresholds)
    f1 = F1(Counts(fp=fp, fn=len(positives) - tp, tp=tp))
    best = np.flatnonzero(f1 == f1.max())
    best = best[fp[best] == fp[best].min()]
    return float(thresholds[best[len(best) // 2]])


def _above_normal(normal: np.ndarray, target: float) -> float:
    """The smallest threshold that at most `target` of these scores reach."""
    allowed = int(np.searchsorted(np.arange(len(normal) + 1) / len(normal), target, side="right")) - 1
    return float(np.nextafter(np.sort(normal)[::-1][allowed], np.inf))
