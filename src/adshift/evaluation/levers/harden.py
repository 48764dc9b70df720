"""A model fitted on normal images and drifted copies of them, with a threshold from validation normals and theirs."""

from functools import cached_property

from adshift.data.manifest import copies
from adshift.data.settings import Harden as Settings
from adshift.detectors.base import Detector
from adshift.evaluation.levers import Lever, Part
from adshift.features.store import Features

__all__ = ["Harden", "Settings"]


class Harden(Lever):
    """The copies' feature maps are in the lever's folder."""

    @cached_property
    def copies(self) -> Features:
        """Feature maps of all copies."""
        return Features.open(self.folder / "features")

    def _with_copies(self, part: Part) -> Features:
        """The clean images of a part, and the copies of the normal ones."""
        images = self.run.stored("clean", part)
        if not self.settings.copies:
            return images
        wanted = {copy for name in images.names for copy in copies(name, self.settings.copies)}
        return images + self.copies.select(name for name in self.copies.names if name in wanted)

    @cached_property
    def model(self) -> Detector:
        """Fitted as the clean model is, on more images."""
        settings = self.run.detector.hardened(self.run.settings, self.settings.copies)
        model: Detector = self.run.detector(settings)
        model.fit(self._with_copies("train"), self.run.generator())
        return model

    def images(self, domain: str, part: Part) -> Features:
        """Of `val`, the copies too."""
        return self._with_copies(part) if part == "val" else super().images(domain, part)
