"""A new threshold for a model that stays as it is, from images of today: threshold-only adaptation, and its evidence.

From normal images alone the threshold is an order statistic of their scores, as in split conformal prediction (Vovk,
"Conditional validity of inductive conformal predictors", 2012): it lies just above the J-th largest of N scores, with
J = floor(rate * (N + 1)). The next normal image is as likely to fall into each of the N + 1 gaps between the scores, so
its chance to be called anomalous is J / (N + 1) at most, whatever the scores' distribution. Given these N images, the
false-positive rate that they lead to is a Beta(J, N + 1 - J): that is its interval. Both hold if the images that come
are like the normal ones given here; both are upper bounds where scores are tied.

From normal and anomalous images it is what a rule of `adshift.evaluation.calibration` finds.

Notation: N normal images, J allowed places among N + 1.
"""

import os
import re
from collections.abc import Callable
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import numpy as np

from adshift.errors import AdshiftError
from adshift.evaluation.calibration import calibrate
from adshift.evaluation.metrics.counts import FALSE_POSITIVE_RATE, RECALL, Counts, decide
from adshift.evaluation.settings import Calibrate
from adshift.evaluation.threshold_file import Effect, Rate, Recalibration

CONFIDENCE = 0.95  # of every interval
CONFORMAL = "conformal"  # the rule's name where normal images alone set the threshold
STEPS = 1000  # of f1_grid, as the study has


def effect(threshold: float, normal: np.ndarray, anomalous: np.ndarray) -> Effect:
    """What a threshold does on these scores."""
    labels = np.arange(len(normal) + len(anomalous)) >= len(normal)
    counts = Counts.of(np.concatenate([normal, anomalous]), labels, threshold)
    return Effect(
        threshold=threshold, **counts._asdict(), fpr=FALSE_POSITIVE_RATE(counts),
        recall=RECALL(counts) if len(anomalous) else None,
    )  # fmt: skip


def recalibrate(
    normal: np.ndarray, anomalous: np.ndarray, old: float, target_fpr: float | None, rule: str = CONFORMAL
) -> Recalibration:
    """The new threshold from scores (N,) of normal and (P,) of anomalous images; P may be 0.

    Args:
        normal, anomalous: raw scores of the model.
        old: the threshold in force.
        target_fpr: the false-positive rate wanted; the normal images then set the threshold and the anomalous ones are
            evidence alone. None leaves it to `rule`.
        rule: `f1_grid` or `f1_exact`.

    Raises:
        AdshiftError: too few images for the rate or the rule, or a score that is not finite.
    """
    normal, anomalous = (_checked(scores, kind) for scores, kind in ((normal, "normal"), (anomalous, "anomalous")))
    if target_fpr is not None:
        rule = CONFORMAL
        threshold, expected = conformal(normal, target_fpr)
    else:
        if not len(normal) or not len(anomalous):
            what = f"{len(normal)} normal and {len(anomalous)} anomalous images: {rule} needs both"
            raise AdshiftError(what, "give both, or a target false-positive rate for normal images alone")
        scores = np.concatenate([normal, anomalous])
        labels = np.arange(len(scores)) >= len(normal)
        threshold = calibrate(scores, labels, Calibrate.of({"rule": rule, "steps": STEPS, "target_fpr": 0.0})).threshold
        expected = chosen_rate(int(decide(normal, threshold).sum()), len(normal))
    before, after = (effect(value, normal, anomalous) for value in (float(old), threshold))
    return Recalibration.model_validate({
        "threshold": threshold, "rule": rule, "target_fpr": target_fpr, "confidence": CONFIDENCE,
        "normal": len(normal), "anomalous": len(anomalous), "expected_fpr": expected,
        "before_fpr": clopper_pearson(before.fp, len(normal)), "before": before, "after": after,
    })  # fmt: skip


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

    Raises:
        AdshiftError: a rate outside (0, 1), or too few images for it.
    """
    count = len(normal)
    enough(count, target_fpr)
    places = floor(_exact(target_fpr) * (count + 1))
    limit = np.sort(np.asarray(normal, np.float64))[count - places]
    low, high = _beta(places, count + 1 - places, 1 - CONFIDENCE)
    return float(np.nextafter(limit, np.inf)), Rate(value=places / (count + 1), low=low, high=high)


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


def _checked(scores: np.ndarray, kind: str) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1:
        raise ValueError(f"scores {scores.shape}: expected (N,)")
    if not np.isfinite(scores).all():
        raise AdshiftError(f"{np.sum(~np.isfinite(scores))} scores of {kind} images are not finite", "check the images")
    return scores


def next_name(folder: Path) -> str:
    """The smallest number that no threshold file beside the model has."""
    number = 1
    while threshold_path(folder, str(number)).exists() or reference_path(folder, str(number)).exists():
        number += 1
    return str(number)


def threshold_path(folder: Path, name: str) -> Path:
    """Where a recalibrated threshold lies, beside the model."""
    return folder / f"threshold-{name}.json"


def reference_path(folder: Path, name: str) -> Path:
    """Where the normal images that a recalibration saw lie, scores and pooled features: what drift is then held to."""
    return folder / f"reference-{name}.npz"


def checked_name(folder: Path, name: str) -> str:
    """A name that may become a file's.

    Raises:
        AdshiftError: it is taken, or could lead out of the folder.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise AdshiftError(f"name {name!r}: letters, digits, `_`, `-` and `.` only", "give another --name")
    for path in (threshold_path(folder, name), reference_path(folder, name)):
        if path.exists():
            raise AdshiftError(f"{path} is there already, and no threshold is overwritten", "give another --name")
    return name


def create(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file that is not there yet, whole or not at all; never over another, even one that appears meanwhile.

    Raises:
        AdshiftError: it is there, or the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        os.link(temporary, path)  # fails where a rename would overwrite
    except FileExistsError:
        raise AdshiftError(f"{path} is there already, and no threshold is overwritten", "give another --name") from None
    except OSError as error:
        raise AdshiftError(f"{path}: {error.strerror}", "make the model's folder writable") from None
    finally:
        temporary.unlink(missing_ok=True)
