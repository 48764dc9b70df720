"""Thresholds from normal images alone: the false-positive rate to expect, and its interval.

Such a threshold is an order statistic of the scores, as in split conformal prediction (Vovk, "Conditional validity of
inductive conformal predictors", 2012): it lies just above the J-th largest of N scores. The score of the next normal
image falls into each of the N + 1 gaps between the scores with the same probability, so the image is called anomalous
with a probability of at most J / (N + 1), for any distribution of scores. The false-positive rate has the distribution
Beta(J, N + 1 - J) over draws of the N images, which gives the interval. Both hold if future normal images are like the
given ones; both are upper bounds if scores are tied.

Notation: N normal images, J of the N + 1 gaps lie above the threshold.
"""

from fractions import Fraction
from math import ceil, floor

import numpy as np

from adshift.errors import AdshiftError
from adshift.runtime.settings import Probability, Section

CONFIDENCE = 0.95  # confidence level of every interval
CONFORMAL = "conformal"  # name of the rule by which normal images alone set the threshold


class Rate(Section):
    """A rate in [0, 1] with its interval."""

    value: Probability
    low: Probability
    high: Probability


def needed(target_fpr: float) -> int:
    """Least number of normal images that can promise a false-positive rate: 1 / rate - 1, rounded up."""
    return max(1, ceil(1 / _exact(target_fpr)) - 1)


def enough(count: int, target_fpr: float) -> None:
    """Check that `count` normal images can promise the rate.

    Raises:
        AdshiftError: they cannot, or the rate lies outside (0, 1).
    """
    if not 0 < target_fpr < 1:
        raise AdshiftError(f"target false-positive rate {target_fpr}: not between 0 and 1", "give one such as 0.05")
    if count < (least := needed(target_fpr)):
        raise AdshiftError(
            f"{count} normal images cannot promise a false-positive rate of {target_fpr:g}: that takes {least}",
            f"give {least - count} more, or ask for a rate of {ceil(1000 / (count + 1)) / 1000:g} or more",
        )


def conformal(normal: np.ndarray, target_fpr: float) -> tuple[float, Rate]:
    """The smallest threshold whose expected false-positive rate is at most the target, and that rate.

    Args:
        normal: (N,) raw scores of normal images.
        target_fpr: in (0, 1).

    Raises:
        AdshiftError: a rate outside (0, 1), or too few images for it.
    """
    enough(len(normal), target_fpr)
    return attainable(normal, target_fpr)


def attainable(normal: np.ndarray, target_fpr: float) -> tuple[float, Rate]:
    """As `conformal`; if there are too few images, the threshold just above the highest score and its rate.

    Args:
        normal: (N,) raw scores of normal images, N at least 1.
        target_fpr: in [0, 1).
    """
    count = len(normal)
    allowed = max(1, floor(_exact(target_fpr) * (count + 1)))
    limit = np.sort(np.asarray(normal, np.float64))[count - allowed]
    low, high = _beta(allowed, count + 1 - allowed, 1 - CONFIDENCE)
    return float(np.nextafter(limit, np.inf)), Rate(value=allowed / (count + 1), low=low, high=high)


def clopper_pearson(hits: int, count: int, miss: float = 1 - CONFIDENCE) -> Rate:
    """A share of images and its exact interval (Clopper, Pearson 1934). A threshold's images must not have chosen it.

    The interval misses the true share with a probability of at most `miss`.
    """
    low = _beta(hits, count - hits + 1, miss)[0] if hits else 0.0
    high = _beta(hits + 1, count - hits, miss)[1] if hits < count else 1.0
    return Rate(value=hits / count, low=low, high=high)


def chosen_rate(fp: int, count: int) -> Rate:
    """The false-positive rate of a threshold that was chosen, by any rule, with these normal images.

    The interval covers all thresholds at once: each of the N order statistics gets 1 / N of the probability to miss
    (Bonferroni), and a threshold lies between two of them. The value, (fp + 1) / (N + 1), is the expected rate just
    above the lower one, if its rank had been fixed beforehand.
    """
    interval = clopper_pearson(fp, count, (1 - CONFIDENCE) / count)
    return Rate(value=(fp + 1) / (count + 1), low=interval.low, high=interval.high)


def _beta(a: float, b: float, miss: float) -> tuple[float, float]:
    """Central interval of a beta distribution."""
    from scipy.special import betaincinv

    return float(betaincinv(a, b, miss / 2)), float(betaincinv(a, b, 1 - miss / 2))


def _exact(rate: float) -> Fraction:
    """A rate as a decimal fraction: 0.1 is exactly 1/10, so that 9 images are enough for it."""
    return Fraction(repr(float(rate)))
