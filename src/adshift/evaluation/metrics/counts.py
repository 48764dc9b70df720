"""Confusion counts and their rates. NumPy only. No other module computes them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


def decide(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Whether each image is predicted anomalous, score >= threshold: bool of the shape of `scores`.

    The comparison is in float64: NumPy would round the threshold to the scores' float32.
    """
    return np.asarray(scores, np.float64) >= threshold


class Counts(NamedTuple):
    """Images by truth and prediction; positive means anomalous. Each is an int, or an integer array of one shape."""

    tn: Any = 0
    fp: Any = 0
    fn: Any = 0
    tp: Any = 0

    @classmethod
    def of(cls, scores: np.ndarray, anomalous: np.ndarray, threshold: float) -> "Counts":
        """Counts of a threshold on (N,) raw scores with (N,) bool labels."""
        predicted, anomalous = decide(scores, threshold), np.asarray(anomalous)
        tp, fp = int((predicted & anomalous).sum()), int((predicted & ~anomalous).sum())
        return cls(tn=int((~anomalous).sum()) - fp, fp=fp, fn=int(anomalous.sum()) - tp, tp=tp)


@dataclass(frozen=True)
class Rate:
    """A quotient of weighted sums of counts. 0/0 is 0.

    A quotient of integers is rounded correctly, so equal rates are equal floats.

    Attributes:
        part, whole: the weight of each count in the numerator and in the denominator.
    """

    part: Counts
    whole: Counts

    def __call__(self, counts: Counts) -> Any:
        """The rate of these counts: a float, or float64 of the shape of the counts."""
        part, whole = (
            sum(weight * count for weight, count in zip(weights, counts, strict=True) if weight)
            for weights in (self.part, self.whole)
        )
        if isinstance(whole, np.ndarray):
            return np.where(whole > 0, part / np.maximum(whole, 1), 0.0)
        return part / whole if whole else 0.0


F1 = Rate(Counts(tp=2), Counts(fp=1, fn=1, tp=2))
ACCURACY = Rate(Counts(tn=1, tp=1), Counts(tn=1, fp=1, fn=1, tp=1))
PRECISION = Rate(Counts(tp=1), Counts(fp=1, tp=1))
RECALL = Rate(Counts(tp=1), Counts(fn=1, tp=1))
SPECIFICITY = Rate(Counts(tn=1), Counts(tn=1, fp=1))
FALSE_POSITIVE_RATE = Rate(Counts(fp=1), Counts(tn=1, fp=1))
