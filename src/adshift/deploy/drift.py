"""Is a calibrated threshold still valid? Compare recent images, without labels, with normal ones kept with the model.

Two two-sample tests, one family:

scores      Kolmogorov-Smirnov, exact, one-sided upwards and downwards: it detects any change of the scores'
            distribution, of its spread as well as of its location.
features    energy distance (Szekely, Rizzo 2013) of pooled features, each dimension scaled by its standard deviation in
            both samples together; p-value by permutation of the images.

A few defects among the recent images are not drift. The user states the largest share of defective images, K images.
The upward test leaves out the K highest recent scores. No other choice of K images looks less like an upward shift, so
the test keeps its level whichever images are defective. The downward test leaves out none: defects score higher, which
only makes it more conservative. The energy distance leaves out the K recent images farthest from the reference, also in
every permutation, so that the test is exact if there are no defects.

Levels. Holm's step-down method (1979) corrects for the two tests. Look number L has the level ALPHA / (L (L + 1));
these sum to ALPHA over all looks. This is error spending (Lan, DeMets 1983) with a series that does not need the number
of looks beforehand. It relies on the union bound, so looks may overlap and share their reference. A test martingale
would not do: it multiplies evidence of batches that are independent under the null hypothesis, but all looks here share
the same few reference images, and an unlucky reference is unlucky at every look. No state is stored: the user states
the number of the look.

A change is no fault by itself. What to do about it is another question (`adshift.deploy.advice`).

Notation: V reference images, N recent ones, at most K of them defective, D dimensions, B permutations.
"""

from dataclasses import asdict, dataclass
from math import ceil, comb
from typing import Any

import numpy as np

from adshift.detectors.records import Reference
from adshift.errors import AdshiftError
from adshift.runtime import seeding

ALPHA = 0.05  # probability of any false alarm over all looks
DEFECTS = 0.1  # largest share of the recent images that may be defective
TESTS = 2
PERMUTATIONS = 999  # at least; more if the level requires more
CHUNK = 256  # permutations in memory at a time


@dataclass(frozen=True)
class Drift:
    """The result of one look.

    Attributes:
        reference, images: V and N.
        set_aside: K.
        look, level: number of the look, and its probability of a false alarm.
        scores_p, features_p: p-values, corrected for two tests; a test rejects if its p-value is at most `level`.
        scores_moved: recent median minus the reference's, in units of the reference's spread (mean absolute deviation
            from the median), without the K highest.
    """

    reference: int
    images: int
    set_aside: int
    look: int
    level: float
    scores_p: float
    features_p: float
    scores_moved: float

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values for JSON."""
        return asdict(self)

    @property
    def changed(self) -> bool:
        """Whether a test rejects."""
        return min(self.scores_p, self.features_p) <= self.level

    @property
    def reasons(self) -> list[str]:
        """The results of the tests, one per line."""
        lines = []
        for kind, p in (("scores", self.scores_p), ("features", self.features_p)):
            result = "changed" if p <= self.level else "no change detected"
            lines.append(f"{kind}: {result} (p = {p:.2g}, level {self.level:.2g})")
        return lines


def look(
    reference: Reference,
    scores: np.ndarray,
    features: np.ndarray,
    number: int = 1,
    defects: float = DEFECTS,
    seed: int = 0,
) -> Drift:
    """Test recent images.

    Args:
        reference: the normal images kept with the model.
        scores: (N,) raw scores of the recent images by the same model.
        features: (N, D) their pooled features.
        number: of the look at this reference, from 1.
        defects: upper bound on the share of defective recent images.
        seed: of the permutations.

    Raises:
        AdshiftError: too few images to detect any change, values that are not finite, or features of another
            network.
    """
    if not np.isfinite(scores).all() or not np.isfinite(features).all():
        raise AdshiftError("a score or a feature of these images is not finite", "check the images and the model")
    recent = Reference(np.asarray(scores, np.float64), np.asarray(features, np.float64))
    count, kept = len(recent.scores), len(reference.scores)
    if recent.features.shape[1] != reference.features.shape[1]:
        message = (
            f"features of {recent.features.shape[1]} dimensions, the reference's have {reference.features.shape[1]}"
        )
        raise AdshiftError(message, "use the model that the reference was made with")
    aside, level = set_aside(count, defects), spent(number)
    if kept < 2 or count < (least := needed(kept, number, defects)):
        if kept < 2:
            raise AdshiftError(f"{kept} reference images: no spread to compare with", "recalibrate with more images")
        message = f"{count} images cannot tell at look {number}, beside {kept} reference images"
        raise AdshiftError(message, f"give at least {least}")

    distances = _distances(np.concatenate([reference.features, recent.features]))
    generator = seeding.generator(seed, "drift", str(number))
    p_scores = scores_p(reference.scores, recent.scores, aside)
    p_features = features_p(distances, kept, aside, permutations(level), generator)
    p_scores, p_features = _holm(p_scores, p_features)
    low, spread = _location_and_spread(reference.scores)
    high, _ = _location_and_spread(np.sort(recent.scores)[: count - aside])
    return Drift(kept, count, aside, number, level, p_scores, p_features, (high - low) / spread)


def spent(number: int) -> float:
    """The level of a look: its probability of a false alarm.

    Raises:
        AdshiftError: the number is out of range.
    """
    if number < 1:
        raise AdshiftError(f"look {number}: looks are counted from 1", "give --look 1 for the first one")
    return ALPHA / (number * (number + 1))


def set_aside(count: int, defects: float) -> int:
    """K, the largest number of recent images that may be defective.

    Raises:
        AdshiftError: a share outside [0, 0.5).
    """
    if not 0 <= defects < 0.5:
        raise AdshiftError(f"share of defects {defects}: expected 0 to less than 0.5", "give one such as 0.1")
    return ceil(defects * count - 1e-9)


def needed(kept: int, number: int = 1, defects: float = DEFECTS) -> int:
    """Least number of recent images with which either test can detect the clearest possible change."""
    level = spent(number) / TESTS
    count = 1
    # The clearest change: all recent images that count lie beyond the reference, on one of two sides.
    while 2 / comb(kept + count - set_aside(count, defects), kept) > level:
        count += 1
    return count


def permutations(level: float) -> int:
    """B: the smallest p-value, 1 / (B + 1), is a tenth of the level of one test or less."""
    return max(PERMUTATIONS, ceil(10 * TESTS / level) - 1)


def scores_p(reference: np.ndarray, recent: np.ndarray, aside: int) -> float:
    """p-value of the scores' test: twice the smaller of the two one-sided p-values."""
    from scipy.stats import ks_2samp

    kept = np.sort(recent)[: len(recent) - aside]
    upwards = ks_2samp(kept, reference, alternative="less").pvalue  # its distribution function lies below
    downwards = ks_2samp(recent, reference, alternative="greater").pvalue
    return float(min(1.0, 2 * min(upwards, downwards)))


def features_p(distances: np.ndarray, kept: int, aside: int, count: int, generator: np.random.Generator) -> float:
    """p-value of the features' test, from (V + N, V + N) distances; the first V rows are the reference."""
    total = len(distances)
    observed = _energy(distances, (np.arange(total) >= kept)[:, None], aside)[0]
    reached = 1  # the observed order is one of the permutations
    for start in range(0, count, CHUNK):
        labels = np.tile(np.arange(total) >= kept, (min(CHUNK, count - start), 1))
        energies = _energy(distances, generator.permuted(labels, axis=1).T, aside)
        reached += int((energies >= observed * (1 - 1e-9)).sum())  # tolerance for sums in another order
    return reached / (count + 1)


def _distances(features: np.ndarray) -> np.ndarray:
    """(M, M) Euclidean distances, each dimension scaled by its standard deviation in both samples together."""
    from scipy.spatial.distance import pdist, squareform

    scale = features.std(0)
    return squareform(pdist(features / np.where(scale > 0, scale, 1)))


def _energy(distances: np.ndarray, recent: np.ndarray, aside: int) -> np.ndarray:
    """Energy distances (B,) of B labelings (M, B) bool of images as recent, without the farthest recent images."""
    other, recent = (~recent).astype(float), recent.astype(float)
    to_other = distances @ other
    if aside:
        farthest = np.argpartition(np.where(recent > 0, -to_other, np.inf), aside - 1, axis=0)[:aside]
        np.put_along_axis(recent, farthest, 0.0, axis=0)
    count, kept = recent.sum(0), other.sum(0)
    between = (to_other * recent).sum(0) / (count * kept)
    within = ((distances @ recent) * recent).sum(0) / count**2
    return 2 * between - within - (to_other * other).sum(0) / kept**2


def _location_and_spread(scores: np.ndarray) -> tuple[float, float]:
    """Median, and mean absolute deviation from the median."""
    median = float(np.median(scores))
    return median, max(float(np.abs(scores - median).mean()), np.finfo(float).tiny)


def _holm(first: float, second: float) -> tuple[float, float]:
    """p-values of two tests, corrected (Holm 1979)."""
    low, high = sorted((first, second))
    low = min(1.0, TESTS * low)
    high = max(low, high)
    return (low, high) if first <= second else (high, low)
