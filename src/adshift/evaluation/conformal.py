"""What normal images alone say about a threshold: the false-positive rate that it leads to, and its interval.

A threshold from normal images is an order statistic of their scores, as in split conformal prediction (Vovk,
"Conditional validity of inductive conformal predictors", 2012): it lies just above the J-th largest of N scores. The
next normal image is as likely to fall into each of the N + 1 gaps between the scores, so its chance to be called
anomalous is J / (N + 1) at most, whatever the scores' distribution. Given these N images, the false-positive rate that
they lead to is a Beta(J, N + 1 - J): that is its interval. Both hold if the images that come are like the normal ones
given here; both are upper bounds where scores are tied.

Notation: N normal images, J of the N + 1 gaps lie above the threshold.
"""

from fractions import Fraction
from math import ceil, floor

import numpy as np

from adshift.errors import AdshiftError
from adshift.runtime.settings import Probability, Section

CONFIDENCE = 0.95  # of every interval
CONFORMAL = "conformal"  # the rule's name where normal images alone set the threshold


class Rate(Section):
    """A rate in [0, 1] with its interval."""

    value: Probability
    low: Probability
    high: Probability


def needed(target_fpr: float) -> int:
    """How many normal images a false-positive rate takes: below 1 / rate - 1 no order statistic promises it."""
    return max(1, ceil(1 / _exact(target_fpr)) - 1)


def enough(count: int, target_fpr: float) -> None:
    """Whether so many normal images can promise the rate.

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
    """The smallest threshold whose expected false-positive rate is at most the target, and what is expected.

    Args:
        normal: (N,) raw scores of normal images.
        target_fpr: in (0, 1).

    Raises:
        AdshiftError: a rate outside (0, 1), or too few images for it.
    """
    enough(len(normal), target_fpr)
    return attainable(normal, target_fpr)


def attainable(normal: np.ndarray, target_fpr: float) -> tuple[float, Rate]:
    """What `conformal` gives, or the lowest rate that so few images can promise: just above the highest score.

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
    """A share of images and its exact interval, which misses with at most the chance `miss` (Clopper, Pearson 1934).

    Of a threshold that these images did not choose.
    """
    low = _beta(hits, count - hits + 1, miss)[0] if hits else 0.0
    high = _beta(hits + 1, count - hits, miss)[1] if hits < count else 1.0
    return Rate(value=hits / count, low=low, high=high)


def chosen_rate(fp: int, count: int) -> Rate:
    """The false-positive rate of a threshold that these normal images helped to choose, in whatever way.

    The interval covers every threshold at once: each of the N order statistics is granted a N-th of the chance to miss
    (Bonferroni), and a threshold lies between two of them. The value, (fp + 1) / (N + 1), is what is expected just
    above the lower one, if its place had been fixed beforehand.
    """
    interval = clopper_pearson(fp, count, (1 - CONFIDENCE) / count)
    return Rate(value=(fp + 1) / (count + 1), low=interval.low, high=interval.high)


def _beta(a: float, b: float, miss: float) -> tuple[float, float]:
    """Central interval of a beta distribution."""
    from scipy.special import betaincinv

    return float(betaincinv(a, b, miss / 2)), float(betaincinv(a, b, 1 - miss / 2))


def _exact(rate: float) -> Fraction:
    """A rate as it was written: 0.1 is a tenth, so that 9 images are enough for it."""
    return Fraction(repr(float(rate)))
