"""The clean model, adapted with a few normal images of the shifted domain ("today's").

A method that cannot adapt a model is fitted again, on the training images and today's together.

Today's normal images alone set its threshold, as in `adshift adapt`: the defective validation images are of the clean
domain. A model would score images that it was adapted with too low, so they are scored in five folds, each by the model
adapted with the other four: nearly as many images as the model that the threshold is for.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from adshift.detectors.base import Detector
from adshift.detectors.records import Predictions
from adshift.evaluation.levers import Lever, Part
from adshift.evaluation.settings import Adapt as Settings
from adshift.features.store import Features
from adshift.runtime.files import read_json

__all__ = ["Adapt", "Settings"]

SHIFTED = "shift"
FOLDS = 5


class Adapt(Lever):
    """The names of today's images are in the lever's folder."""

    @cached_property
    def today(self) -> Features:
        """Today's normal images."""
        return self.run.stored(SHIFTED, "train").select(read_json(self.folder / "today.json"))

    @cached_property
    def model(self) -> Detector:
        """Adapted with all of today's images."""
        return self._adapted(self.today)

    def _adapted(self, today: Features) -> Detector:
        if self.run.detector.adaptable:
            return self.run.clean.adapted(today, self.settings.rows)
        model: Detector = self.run.detector(self.run.settings)
        model.fit(self.run.stored("clean", "train") + today, self.run.generator())
        return model

    def predictions(self, domain: str, part: Part, scoring: Any) -> Predictions:
        """Of `val`: today's images, cross-fitted."""
        if part == "val":
            return cross_fitted(self.run.clean, self._adapted, self.today, scoring)
        return super().predictions(domain, part, scoring)


def cross_fitted(model: Detector, adapt: Callable[[Features], Detector], images: Features, scoring: Any) -> Predictions:
    """Predictions of normal images, each of `FOLDS` by the model adapted with the others; of one image, by the model.

    Every fifth image is of one fold, so that each fold covers the whole time in which they were taken.
    """
    count = len(images)
    if count < 2:
        return model.predict(images, scoring)
    return joined([adapt(images.take(rest)).predict(images.take(fold), scoring) for fold, rest in folds(count)])


def folds(count: int) -> list[tuple[range, list[int]]]:
    """(indices of a fold, indices of all other images) for each fold; at most `FOLDS`, and none is empty."""
    each = [range(first, count, FOLDS) for first in range(min(FOLDS, count))]
    return [(fold, [index for index in range(count) if index not in fold]) for fold in each]


def joined(sets: list[Predictions]) -> Predictions:
    """Predictions of several sets of images as one."""
    return Predictions(
        tuple(name for one in sets for name in one.names),
        np.concatenate([one.scores for one in sets]),
        np.concatenate([one.maps for one in sets]),
        sets[0].size,
        sets[0].smoothing,
    )
