"""Uncertainty of image-level metrics from the choice of test images: bootstrap replicates and percentile intervals.

Normal and defective images are resampled separately, with replacement, to their own numbers, so that no resample lacks
a kind (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 8). Models and thresholds are
fixed: the interval does not cover other splits or seeds. All detectors get the same resamples of the same images, so
the replicates of a difference are differences of replicates.

Notation: B resamples, N normal and P defective images; a resample is how often each image was drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adshift.errors import AdshiftError
from adshift.evaluation.metrics.counts import Counts, decide
from adshift.evaluation.metrics.image import BOOTSTRAPPED
from adshift.evaluation.metrics.metric import lacking_of
from adshift.evaluation.metrics.resampled import ResampledRanks
from adshift.runtime import seeding
from adshift.runtime.checksums import REMEDY

METRICS = tuple(metric.key for metric in BOOTSTRAPPED)  # rows of an array of replicates
LEVEL = 0.95  # confidence level of intervals
BLOCK = 1 << 21  # counts in memory at a time


@dataclass(frozen=True)
class Resamples:
    """B resamples of test images, in the order of their names.

    Attributes:
        normal: (B, N) uint16, how often each normal image was drawn; rows sum to N.
        defective: (B, P) uint16, the same of defective images.
    """

    normal: np.ndarray
    defective: np.ndarray

    @classmethod
    def draw(cls, normal: int, defective: int, count: int, seed: int, name: str) -> "Resamples":
        """`count` resamples for the class `name`, the same for all detectors and scenarios."""
        sizes = {"normal": normal, "defective": defective}
        return cls(*(_counts(size, count, seeding.generator(seed, "bootstrap", name, kind))
                     for kind, size in sizes.items()))  # fmt: skip


def _counts(size: int, count: int, generator: np.random.Generator) -> np.ndarray:
    drawn = generator.integers(0, max(size, 1), (count, size)) + size * np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size).astype(np.uint16)


def replicates(scores: np.ndarray, anomalous: np.ndarray, threshold: float, resamples: Resamples) -> np.ndarray:
    """Image-level metrics of every resample, computed as `image_metrics` does for the images themselves.

    Args:
        scores: (N + P,) raw scores, images in the order of their names.
        anomalous: (N + P,) bool.
        threshold: score from which on an image is predicted anomalous.
        resamples: of these images.

    Returns:
        (metrics, B) float64, rows as in `METRICS`; AUROC is NaN if all images are of one kind.

    Raises:
        ValueError: the resamples belong to other numbers of images.
    """
    scores, anomalous = np.asarray(scores, np.float64), np.asarray(anomalous)
    normal, defective = scores[~anomalous], scores[anomalous]
    if (len(normal), len(defective)) != (resamples.normal.shape[1], resamples.defective.shape[1]):
        raise ValueError(f"{len(normal)} normal and {len(defective)} defective images, resamples of other numbers")
    step = max(1, BLOCK // max(len(scores), 1))
    starts = range(0, len(resamples.normal), step)
    parts = [(resamples.normal[start : start + step], resamples.defective[start : start + step]) for start in starts]
    return np.concatenate([_metrics(normal, defective, threshold, *part) for part in parts], axis=1)


def _metrics(
    normal: np.ndarray, defective: np.ndarray, threshold: float, drawn_normal: np.ndarray, drawn_defective: np.ndarray
) -> np.ndarray:
    """(metrics, b) for b resamples."""
    ranks = ResampledRanks.of(normal, defective, drawn_normal, drawn_defective)
    tp = drawn_defective[:, decide(defective, threshold)].sum(1, dtype=np.int64)
    fp = drawn_normal[:, decide(normal, threshold)].sum(1, dtype=np.int64)
    counts = Counts(tn=len(normal) - fp, fp=fp, fn=len(defective) - tp, tp=tp)
    resampled = [metric.resampled(ranks) if metric.resampled else metric.measure(counts) for metric in BOOTSTRAPPED]
    lacking = lacking_of(len(normal), len(defective))
    return np.stack([
        np.full(len(row), np.nan) if metric.undefined(lacking) else row
        for metric, row in zip(BOOTSTRAPPED, resampled, strict=True)
    ])  # fmt: skip


def interval(values: np.ndarray) -> np.ndarray:
    """Percentile intervals of (..., B) replicates: (2, ...) lower and upper ends, NaN if a replicate is NaN."""
    tail = (1 - LEVEL) / 2
    return np.quantile(values, [tail, 1 - tail], axis=-1)


def mean(sets: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over classes of replicates, (metrics, B) each; a class without a metric is left out of its mean."""
    stacked = np.stack(sets)
    there = ~np.isnan(stacked)
    count = there.sum(0)
    return np.where(count, np.where(there, stacked, 0.0).sum(0) / np.maximum(count, 1), np.nan)


def save(path: Path, replicates: dict[tuple[str, str], np.ndarray]) -> None:
    """Write the replicates {(class, scenario): (metrics, B)} of a detector."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez(file, **{"/".join(key): values for key, values in replicates.items()})  # type: ignore[arg-type]


def load(path: Path) -> dict[tuple[str, str], np.ndarray]:
    """Read what `save` wrote.

    Raises:
        AdshiftError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            replicates = {(key.split("/")[0], key.split("/")[1]): file[key] for key in file.files}
    except Exception as error:  # readers of a damaged archive raise many kinds of errors; its parts have checksums
        raise AdshiftError(f"{path}: not readable replicates ({error})", REMEDY) from None
    if any(values.ndim != 2 or len(values) != len(METRICS) for values in replicates.values()):
        raise AdshiftError(f"{path}: replicates of other metrics", "run `dvc repro evaluate`")
    return replicates
