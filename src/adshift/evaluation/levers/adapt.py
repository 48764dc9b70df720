"""The clean model, adapted with a few normal images of the shifted domain ("today's").

A method that cannot adapt a model is fitted again, on the training images and today's together.

Today's normal images alone set its threshold, as in `adshift adapt`: the defective validation images are of the clean
domain. A model would score images that it was adapted with too low, so half of them are scored by the model adapted
with the other half, and the other way round.
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
    """Predictions of normal images, each half by the model adapted with the other half; of one image, by the model."""
    if len(images) < 2:
        return model.predict(images, scoring)
    halves = [images.take(range(start, len(images), 2)) for start in (0, 1)]
    return joined([adapt(halves[1 - part]).predict(halves[part], scoring) for part in (0, 1)])


def joined(sets: list[Predictions]) -> Predictions:
    """Predictions of several sets of images as one."""
    return Predictions(
        tuple(name for one in sets for name in one.names),
        np.concatenate([one.scores for one in sets]),
        np.concatenate([one.maps for one in sets]),
        sets[0].size,
        sets[0].smoothing,
    )
