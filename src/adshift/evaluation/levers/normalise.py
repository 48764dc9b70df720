"""A model of images whose intensities are brought to those of the training images (`adshift.data.normalising`)."""

from functools import cached_property

from adshift.data.settings import Normalise as Settings
from adshift.detectors.base import Detector
from adshift.evaluation.levers import Lever, Part
from adshift.features.store import Features
from adshift.project.paths import feature_maps_path

__all__ = ["Normalise", "Settings"]


class Normalise(Lever):
    """The feature maps of normalized images are in the lever's folder, a domain each."""

    @cached_property
    def model(self) -> Detector:
        """Fitted as the clean model is, on normalized images."""
        model: Detector = self.run.detector(self.run.settings)
        model.fit(self.images("clean", "train"), self.run.generator())
        return model

    def images(self, domain: str, part: Part) -> Features:
        """Normalized images."""
        return Features.open(feature_maps_path(self.name, self.run.dataset, self.run.name, domain)).select(
            self.run.names(domain, part)
        )
