"""What would help against a drift? Levers tried on unlabelled images of today, with pasted defects for real ones.

Each lever is applied to today's images, and its specificity and recall are estimated:

nothing      the model and its threshold.
recalibrate  a conformal threshold from today's images.
adapt        five folds of today's images, each scored by the model adapted with the others; a conformal threshold.
refit        likewise, models fitted on the other folds.

Recall is that on images with pasted defects (`adshift.data.pasting`). Specificity is the share of today's images below
the threshold, or, of a conformal threshold, what it promises. Today's images may hold a few defects: the K with the
highest scores are left out. The lever with the largest sum of specificity and recall is the best one; advised is the
cheapest of those that come within MARGIN of it in both. The same definition says which lever is right if labels are
known, so the advice can be tested (docs/results/drift_verdict.py).

Notation: N images of today, at most K of them defective; P images with a pasted defect.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from adshift.deploy.blindness import auroc_of
from adshift.evaluation.conformal import attainable
from adshift.evaluation.levers.adapt import folds
from adshift.evaluation.metrics.counts import decide
from adshift.runtime import seeding

if TYPE_CHECKING:
    from adshift.detectors.base import Detector
    from adshift.features.store import Features

Lever = Literal["nothing", "recalibrate", "adapt", "refit"]  # from the cheapest to the most expensive
LEVERS: tuple[Lever, ...] = get_args(Lever)
MARGIN = 0.05
CHANCE = 0.6  # AUROC on pasted defects below which no lever is advised


@dataclass(frozen=True)
class Estimate:
    """Figures of a lever on today's images.

    Attributes:
        lever: its name.
        threshold: that it would use.
        specificity: share of normal images below the threshold.
        recall: share of images with pasted defects at or above it.
        auroc: of pasted against today's images.
    """

    lever: Lever
    threshold: float
    specificity: float
    recall: float
    auroc: float

    @property
    def informedness(self) -> float:
        """Specificity plus recall; 1 is chance."""
        return self.specificity + self.recall

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        figures = f"specificity {self.specificity:.2f}, recall {self.recall:.2f}, AUROC {self.auroc:.2f}"
        return f"{self.lever:<12}{figures}"


@dataclass(frozen=True)
class Today:
    """Today's images and their pasted copies.

    Attributes:
        normal: feature maps of the N images.
        pasted: of the P images.
        owners: (P,) index of the image that a pasted one was made of.
    """

    normal: "Features"
    pasted: "Features"
    owners: np.ndarray

    def take(self, indices: Sequence[int] | np.ndarray) -> "Today":
        """Some of the images, with their pasted copies."""
        position = {int(index): number for number, index in enumerate(indices)}
        theirs = [number for number, owner in enumerate(self.owners) if int(owner) in position]
        owners = np.array([position[int(self.owners[number])] for number in theirs], int)
        return Today(self.normal.take(position), self.pasted.take(theirs), owners)


def estimates(
    detector: "Detector", scoring: Any, threshold: float, today: Today, aside: int, target_fpr: float, seed: int = 0
) -> list[Estimate]:
    """Estimates of the levers that the method allows, from the cheapest to the most expensive.

    Args:
        detector: the model, as it is.
        scoring: `Score` of the method's module.
        threshold: the model's.
        today: feature maps of N and P images.
        aside: K, fewer than N.
        target_fpr: false-positive rate wanted of a new threshold.
        seed: of a fit.
    """
    scores = detector.predict(today.normal, scoring).scores
    kept = likely_normal(scores, aside)
    rest = today.take(kept)
    tried = unchanged(scores[kept], detector.predict(rest.pasted, scoring).scores, threshold, target_fpr)
    if not detector.adaptable:
        return tried

    def refit(images: "Features") -> "Detector":
        model: Detector = type(detector)(detector.settings)
        model.fit(images, seeding.generator(seed, "refit"))
        return model

    makers: dict[Lever, Callable[[Features], Detector]] = {"adapt": detector.adapted, "refit": refit}
    least = {"adapt": 1, "refit": detector.least_images}
    for lever, make in makers.items():
        if min(len(others) for _, others in folds(len(kept))) >= least[lever]:
            tried.append(_recalibrated(lever, *_crossed(make, rest, scoring), target_fpr))
    return tried


def likely_normal(scores: np.ndarray, aside: int) -> np.ndarray:
    """Indices, ascending, of the images that are left if the K with the highest scores are not counted."""
    return np.sort(np.argsort(scores, kind="stable")[: len(scores) - aside])


def unchanged(scores: np.ndarray, pasted: np.ndarray, threshold: float, target_fpr: float) -> list[Estimate]:
    """Estimates of the levers that leave the model as it is, from its scores of normal and of pasted images."""
    specificity, recall = 1 - float(decide(scores, threshold).mean()), float(decide(pasted, threshold).mean())
    return [
        Estimate("nothing", threshold, specificity, recall, auroc_of(scores, pasted)),
        _recalibrated("recalibrate", scores, pasted, target_fpr),
    ]


def cheapest(tried: Sequence[Estimate]) -> Estimate:
    """The cheapest lever whose specificity and recall both come within `MARGIN` of those of the best one."""
    best = max(tried, key=lambda one: one.informedness)
    return next(
        one
        for one in tried
        if one.specificity >= best.specificity - MARGIN - 1e-9 and one.recall >= best.recall - MARGIN - 1e-9
    )


def judged(tried: Sequence[Estimate]) -> Lever | None:
    """The advice; None if no lever ranks pasted defects well enough above today's images to be judged."""
    return cheapest(tried).lever if max(one.auroc for one in tried) >= CHANCE else None


def _recalibrated(lever: Lever, scores: np.ndarray, pasted: np.ndarray, target_fpr: float) -> Estimate:
    threshold, promised = attainable(scores, target_fpr)
    recall = float(decide(pasted, threshold).mean())
    return Estimate(lever, threshold, 1 - promised.value, recall, auroc_of(scores, pasted))


def _crossed(make: "Callable[[Features], Detector]", today: Today, scoring: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scores of normal and of pasted images, each fold's by the model made with the others."""
    normal, pasted = [], []
    for fold, others in folds(len(today.normal)):
        model, scored = make(today.normal.take(others)), today.take(fold)
        normal.append(model.predict(scored.normal, scoring).scores)
        pasted.append(model.predict(scored.pasted, scoring).scores)
    return np.concatenate(normal), np.concatenate(pasted)
