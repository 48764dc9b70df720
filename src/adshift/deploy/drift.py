"""Is a calibrated threshold still valid? Recent images without labels against the normal ones kept with the model.

Two two-sample tests, one family:

scores      Kolmogorov-Smirnov, exact, one-sided upwards and downwards: it sees any change of the scores' distribution,
            its spread as well as its place.
features    energy distance (Szekely, Rizzo 2013) of pooled features, each dimension scaled by its standard deviation in
            both samples together; p-value by permutation of the images.

Recent images may hold a few defects, which is no drift. Let at most K of them be defective, a share the user states.
Upwards the K highest recent scores are set aside: of all ways to drop K images this one looks least like an upward
shift, so the test keeps its level whichever K images are the defects. Downwards nothing is set aside, since defects
score higher and only make that test more careful. The energy distance leaves out the K recent images farthest from the
reference, and does the same in every permutation, so that the test stays exact without defects.

Levels. Holm's step-down method (1979) corrects for the two tests. Look number L may err with the chance ALPHA / (L (L +
1)), which sums to ALPHA over all looks: spending the error (Lan, DeMets 1983), by a series that needs no number of
looks beforehand. It is the union bound, so looks may overlap and share their reference. That is why it is not a test
martingale: those multiply evidence of batches that are independent under the null hypothesis, but ours are all held
to the same few reference images, and a reference unlucky once is unlucky at every look. No state is kept: the user
says which look it is.

The verdict, from levels and effect sizes set beforehand, not fitted to any result:

fine         no test rejects
refit        one does, and a threshold cannot correct it: the normal scores' spread (mean absolute deviation from
             the median) is WIDENED times the reference's, which halves the ratio of a defect's effect to the noise (the
             d' of signal detection) if the effect stays as it was; or more than OUTSIDE of the recent images lie
             farther from the reference images than WITHIN of these do from each other, so that the model has hardly
             seen their like
recalibrate  one does, and neither is seen

Notation: V reference images, N recent ones, K possibly defective among them, D dimensions, B permutations.
"""

from dataclasses import asdict, dataclass
from math import ceil, comb
from typing import Any, Literal

import numpy as np

from adshift.detectors.records import Reference
from adshift.errors import AdshiftError
from adshift.runtime import seeding

ALPHA = 0.05  # chance of any false alarm, over all looks
DEFECTS = 0.1  # share of the recent images that may be defective
WIDENED = 2.0
OUTSIDE = 0.5
WITHIN = 0.95
TESTS = 2
PERMUTATIONS = 999  # at least; more where the level asks for more
CHUNK = 256  # permutations at once: bounds memory

Verdict = Literal["fine", "recalibrate", "refit"]


@dataclass(frozen=True)
class Drift:
    """What one look found.

    Attributes:
        verdict: `fine`, `recalibrate` or `refit`.
        reference, images: V and N.
        set_aside: K.
        look, level: the look's number, and the chance of a false alarm granted to it.
        scores_p, features_p: p-values, corrected for there being two tests; below `level` they reject.
        scores_moved: difference of medians in units of the reference's spread, positive upwards; K set aside.
        spread: of the recent scores, K set aside, in units of the reference's.
        outside: share of the recent images that lie outside of what the reference spans.
    """

    verdict: Verdict
    reference: int
    images: int
    set_aside: int
    look: int
    level: float
    scores_p: float
    features_p: float
    scores_moved: float
    spread: float
    outside: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    @property
    def reasons(self) -> list[str]:
        """Why the verdict is what it is, a line each."""
        lines = []
        for kind, p in (("scores", self.scores_p), ("features", self.features_p)):
            seen = "changed" if p <= self.level else "not seen to have changed"
            lines.append(f"{kind} {seen}: p = {p:.2g}, level {self.level:.2g}")
        if self.verdict != "fine":
            limits = f"{WIDENED:g} times the reference's; {100 * OUTSIDE:g} %"
            lines.append(
                f"spread of scores {self.spread:.2f} times the reference's, {100 * self.outside:.0f} % of the images "
                f"outside of what it spans (refit from: {limits})"
            )
        return lines


def look(
    reference: Reference,
    scores: np.ndarray,
    features: np.ndarray,
    number: int = 1,
    defects: float = DEFECTS,
    seed: int = 0,
) -> Drift:
    """The verdict on recent images.

    Args:
        reference: the normal images kept with the model.
        scores: (N,) raw scores of the recent images by the same model.
        features: (N, D) their pooled features.
        number: which look at this reference it is, from 1.
        defects: at most this share of the recent images is defective.
        seed: of the permutations.

    Raises:
        AdshiftError: too few images for any verdict but `fine`, values that are not finite, or features of another
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
    high, wide = _location_and_spread(np.sort(recent.scores)[: count - aside])
    ratio, outside = wide / spread, outside_share(distances, kept)
    verdict: Verdict = "fine"
    if min(p_scores, p_features) <= level:
        verdict = "refit" if ratio >= WIDENED or outside > OUTSIDE else "recalibrate"
    return Drift(
        verdict, kept, count, aside, number, level, p_scores, p_features, (high - low) / spread, ratio, outside
    )


def spent(number: int) -> float:
    """The chance of a false alarm granted to a look.

    Raises:
        AdshiftError: there is no such look.
    """
    if number < 1:
        raise AdshiftError(f"look {number}: looks are counted from 1", "give --look 1 for the first one")
    return ALPHA / (number * (number + 1))


def set_aside(count: int, defects: float) -> int:
    """K, how many of the recent images may be defective.

    Raises:
        AdshiftError: a share outside [0, 0.5).
    """
    if not 0 <= defects < 0.5:
        raise AdshiftError(f"share of defects {defects}: expected 0 to less than 0.5", "give one such as 0.1")
    return ceil(defects * count - 1e-9)


def needed(kept: int, number: int = 1, defects: float = DEFECTS) -> int:
    """How many recent images it takes until the clearest change of all is called one, by either test."""
    level = spent(number) / TESTS
    count = 1
    # The clearest change: all recent images, but those set aside, lie beyond the reference. Two sides.
    while 2 / comb(kept + count - set_aside(count, defects), kept) > level:
        count += 1
    return count


def permutations(level: float) -> int:
    """B: the smallest p-value, 1 / (B + 1), is a tenth of the level of one test or less."""
    return max(PERMUTATIONS, ceil(10 * TESTS / level) - 1)


def scores_p(reference: np.ndarray, recent: np.ndarray, aside: int) -> float:
    """p-value of the scores' test: twice the smaller one of its two sides'."""
    from scipy.stats import ks_2samp

    kept = np.sort(recent)[: len(recent) - aside]
    upwards = ks_2samp(kept, reference, alternative="less").pvalue  # its distribution function lies below
    downwards = ks_2samp(recent, reference, alternative="greater").pvalue
    return float(min(1.0, 2 * min(upwards, downwards)))


def features_p(distances: np.ndarray, kept: int, aside: int, count: int, generator: np.random.Generator) -> float:
    """p-value of the features' test, of (V + N, V + N) distances whose first V rows are the reference."""
    total = len(distances)
    observed = _energy(distances, (np.arange(total) >= kept)[:, None], aside)[0]
    reached = 1  # the images as they came are one of the permutations
    for start in range(0, count, CHUNK):
        labels = np.tile(np.arange(total) >= kept, (min(CHUNK, count - start), 1))
        energies = _energy(distances, generator.permuted(labels, axis=1).T, aside)
        reached += int((energies >= observed * (1 - 1e-9)).sum())  # equal but for the order of a sum is equal
    return reached / (count + 1)


def outside_share(distances: np.ndarray, kept: int) -> float:
    """Share of the recent images that lie farther from the reference, on average, than WITHIN of its own images."""
    among = distances[:kept, :kept].sum(1) / (kept - 1)
    return float((distances[kept:, :kept].mean(1) > np.quantile(among, WITHIN, method="higher")).mean())


def _distances(features: np.ndarray) -> np.ndarray:
    """(M, M) Euclidean distances, each dimension scaled by its standard deviation in both samples together."""
    from scipy.spatial.distance import pdist, squareform

    scale = features.std(0)
    return squareform(pdist(features / np.where(scale > 0, scale, 1)))


def _energy(distances: np.ndarray, recent: np.ndarray, aside: int) -> np.ndarray:
    """Energy distances (B,) of B ways (M, B) bool to call images recent, the farthest recent ones left out."""
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
    """Median, and mean absolute deviation from it."""
    median = float(np.median(scores))
    return median, max(float(np.abs(scores - median).mean()), np.finfo(float).tiny)


def _holm(first: float, second: float) -> tuple[float, float]:
    """p-values of two tests, corrected (Holm 1979)."""
    low, high = sorted((first, second))
    low = min(1.0, TESTS * low)
    high = max(low, high)
    return (low, high) if first <= second else (high, low)
