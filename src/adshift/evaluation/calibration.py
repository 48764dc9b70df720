"""Decision thresholds from validation scores (the study, 4.2), or from test scores if the protocol has no validation.

NumPy only.

Notation: N validation images, P of them anomalous; T thresholds tried.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np

from adshift.errors import AdshiftError
from adshift.evaluation.conformal import CONFORMAL, Rate, attainable
from adshift.evaluation.metrics.counts import F1, PRECISION, RECALL, SPECIFICITY, Counts
from adshift.evaluation.settings import PASTED, Calibrate

AUTO = "auto"
F1_RULES = ("f1_grid", "f1_exact")
OPTIONAL = {"reason", "expected_fpr"}  # keys that a record may lack


@dataclass(frozen=True)
class Threshold:
    """A threshold, with its counts and rates on the images that set it. They do not estimate those on other images.

    Attributes:
        threshold: score from which on an image is anomalous.
        on: images that set it, `val` or `test`. If `test`, metrics on test images are upper bounds, not results.
        rule: that chose it, `f1_grid`, `f1_exact`, `target_fpr`, `pasted` or `conformal`.
        f1, precision, recall, specificity: of the counts; precision is 0 if no image is predicted anomalous. All but
            specificity are None if no image is anomalous.
        tp, fp, tn, fn: counts of images; positive means anomalous.
        reason: why this rule was chosen, if the settings do not name it.
        expected_fpr: of future normal images, with its interval, under `conformal`.
    """

    threshold: float
    on: Literal["val", "test"]
    rule: str
    f1: float | None
    precision: float | None
    recall: float | None
    specificity: float
    tp: int
    fp: int
    tn: int
    fn: int
    reason: str | None = None
    expected_fpr: Rate | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.threshold):
            raise ValueError(f"threshold {self.threshold} is not finite")
        if min(self.tp, self.fp, self.tn, self.fn) < 0 or not self.tn + self.fp:
            raise ValueError("counts are negative, or no image is normal")
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
        """The record of `threshold` on these images."""
        counts = Counts.of(scores, anomalous, threshold)
        return cls(float(threshold), on, rule, *_rates(counts), **counts._asdict())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which keeps every bit of a float; optional values that are None are left out."""
        values = {key: value for key, value in vars(self).items() if key not in OPTIONAL or value is not None}
        return {**values, **({"expected_fpr": self.expected_fpr.model_dump()} if self.expected_fpr else {})}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Threshold":
        """Check and read the result of `to_dict`.

        Raises:
            AdshiftError: a key is missing or unknown, or the values contradict each other.
        """
        try:
            if set(values) | OPTIONAL != {field.name for field in fields(cls)}:
                raise ValueError(f"keys {', '.join(sorted(values))}")
            expected = values.get("expected_fpr")
            return cls(**{**values, "expected_fpr": Rate(**expected) if expected else None})
        except (TypeError, ValueError) as error:
            raise AdshiftError(f"a calibrated threshold is damaged: {error}", "run `dvc repro calibrate`") from None


def _rates(counts: Counts) -> tuple[float | None, float | None, float | None, float]:
    """F1, precision, recall, specificity."""
    if not counts.tp + counts.fn:
        return None, None, None, SPECIFICITY(counts)
    return F1(counts), PRECISION(counts), RECALL(counts), SPECIFICITY(counts)


def calibrate(
    scores: np.ndarray,
    anomalous: np.ndarray,
    settings: Calibrate,
    on: Literal["val", "test"] = "val",
    source: str = "validation scores",
) -> Threshold:
    """The threshold that a rule chooses on validation images, or on test images that replace them.

    Args:
        scores: (N,) raw scores.
        anomalous: (N,) bool, the truth.
        settings: the rule and its parameters.
        on: part of these images, for the record.
        source: whose scores these are, for the error message.

    Rules:
        f1_grid: best F1 of `steps` evenly spaced thresholds from the smallest to the largest score, both included.
        f1_exact: best F1 of all thresholds, one for each gap between neighbouring scores. All thresholds in a gap
            decide alike on these images; its middle has the same margin to both neighbours on other images.
        target_fpr: the smallest threshold at which at most the share `target_fpr` of the normal images is predicted
            anomalous: the next float64 above a normal score.
        auto: `f1_grid` if there are at least `min_normal` normal and `min_defective` anomalous images. Else
            `conformal`: normal images alone set the threshold, and the expected false-alarm rate is at most
            `target_fpr`, or the lowest that so few images can promise. The record holds the rule and the reason.
    Of equal F1, the highest specificity wins. Thresholds that are still tied decide alike on every validation image,
    since F1 and false positives determine the true positives; the middle one is taken, for its margin.

    Raises:
        AdshiftError: no scores, a score that is not finite, or no image of a kind that the rule needs.
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
    normal, defective = int((~anomalous).sum()), int(anomalous.sum())
    if not normal or (not defective and settings.rule in F1_RULES):
        raise AdshiftError(
            f"{source}: {normal} normal and {defective} defective images; "
            + ("a threshold needs normal ones" if settings.rule not in F1_RULES else f"{settings.rule} needs both"),
            "lower split.train_fraction, raise split.val_defect_fraction or set calibrate.rule: auto in params.yaml",
        )
    if settings.rule == AUTO:
        return _automatic(scores, anomalous, settings, on)
    if settings.rule == "target_fpr":
        threshold = _above_normal(scores[~anomalous], settings.target_fpr)
    elif settings.rule == "f1_grid":
        threshold = _best_f1(np.linspace(scores.min(), scores.max(), settings.steps), scores, anomalous)
    else:
        distinct = np.unique(scores)
        between = (distinct[:-1] + distinct[1:]) / 2
        # Two adjacent floats have no number between them; the upper one decides as their middle would.
        between = np.where(between > distinct[:-1], between, distinct[1:])
        threshold = _best_f1(np.append(distinct[0], between), scores, anomalous)
    return Threshold.of(threshold, on, settings.rule, scores, anomalous)


def _automatic(scores: np.ndarray, anomalous: np.ndarray, settings: Calibrate, on: Literal["val", "test"]) -> Threshold:
    """The threshold of the rule `auto`."""
    normal, defective = int((~anomalous).sum()), int(anomalous.sum())
    held = f"{normal} normal and {defective} defective images"
    wanted = f"calibrate.min_normal {settings.min_normal} and calibrate.min_defective {settings.min_defective}"
    if normal >= settings.min_normal and defective >= settings.min_defective:
        record = calibrate(scores, anomalous, settings.model_copy(update={"rule": "f1_grid"}), on)
        return replace(record, reason=f"F1-optimal: {held} reach {wanted}")
    return by_rate(scores, anomalous, settings, on, f"from normal images alone: {held} do not reach {wanted}")


def by_rate(
    scores: np.ndarray, anomalous: np.ndarray, settings: Calibrate, on: Literal["val", "test"], reason: str
) -> Threshold:
    """The threshold whose expected false-alarm rate is `target_fpr`, or the lowest that so few images can promise.

    Args:
        scores, anomalous, on: as for `calibrate`; anomalous images have no say.
        settings: for its `target_fpr`.
        reason: why the rule is this one, for the record.
    """
    threshold, expected = attainable(scores[~anomalous], settings.target_fpr)
    if expected.value > settings.target_fpr:
        reason += f"; so few promise a false-alarm rate of {expected.value:.3g}, not {settings.target_fpr:g}"
    record = Threshold.of(threshold, on, CONFORMAL, scores, anomalous)
    return replace(record, reason=reason, expected_fpr=expected)


def by_pasted(normal: np.ndarray, pasted: np.ndarray, steps: int, on: Literal["val", "test"] = "val") -> Threshold:
    """The threshold of the rule `pasted`: the largest sum of specificity and recall.

    F1 would depend on how many copies there are: with many, its best threshold calls everything anomalous.

    Args:
        normal: (N,) raw scores of normal images.
        pasted: (P,) raw scores of copies of them with pasted defects; the record counts them as anomalous images.
        steps: number of thresholds tried, evenly spaced from the smallest to the largest score. Of equal sums the
            highest specificity wins, of thresholds that are still tied the middle one.
        on: part of the normal images, for the record.
    """
    normal, pasted = np.asarray(normal, np.float64), np.asarray(pasted, np.float64)
    scores, count, copies = np.concatenate([normal, pasted]), len(normal), len(pasted)
    tried = np.linspace(scores.min(), scores.max(), steps)
    tn, fn = np.searchsorted(np.sort(normal), tried), np.searchsorted(np.sort(pasted), tried)
    total = tn * copies - fn * count  # the sum times N P, less a constant: integers, so that ties are exact
    best = np.flatnonzero(total == total.max())
    best = best[tn[best] == tn[best].max()]
    record = Threshold.of(tried[best[len(best) // 2]], on, PASTED, scores, np.arange(len(scores)) >= count)
    return replace(
        record, reason=f"largest specificity plus recall: {count} normal images, {copies} with pasted defects"
    )


def _best_f1(thresholds: np.ndarray, scores: np.ndarray, anomalous: np.ndarray) -> float:
    """The F1-optimal of (T,) ascending thresholds; `calibrate` describes ties. O((N + T) log N)."""
    positives = np.sort(scores[anomalous])
    negatives = np.sort(scores[~anomalous])
    tp = len(positives) - np.searchsorted(positives, thresholds)
    fp = len(negatives) - np.searchsorted(negatives, thresholds)
    f1 = F1(Counts(fp=fp, fn=len(positives) - tp, tp=tp))
    best = np.flatnonzero(f1 == f1.max())
    best = best[fp[best] == fp[best].min()]
    return float(thresholds[best[len(best) // 2]])


def _above_normal(normal: np.ndarray, target: float) -> float:
    """The smallest threshold that at most the share `target` of these scores reaches."""
    allowed = int(np.searchsorted(np.arange(len(normal) + 1) / len(normal), target, side="right")) - 1
    return float(np.nextafter(np.sort(normal)[::-1][allowed], np.inf))
