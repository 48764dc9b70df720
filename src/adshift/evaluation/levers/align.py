"""The clean model, on feature maps whose statistics are brought to those of the training images when it scores."""

from functools import cached_property
from pathlib import Path

from adshift.detectors.base import Detector
from adshift.evaluation.levers import Lever, Part
from adshift.evaluation.settings import Align as Settings
from adshift.features.alignment import FILE, Alignment
from adshift.features.store import Features

__all__ = ["Align", "Settings"]


class Align(Lever):
    """The statistics of the training images are in the lever's folder."""

    @cached_property
    def alignment(self) -> Alignment:
        """Of the training images."""
        return Alignment.load(self.folder / FILE)

    @cached_property
    def model(self) -> Detector:
        """The clean model."""
        return self.run.clean

    def images(self, domain: str, part: Part) -> Features:
        """Aligned images; `align.per: batch` takes all images of the part for one batch."""
        return self.alignment(super().images(domain, part))

    def save(self, folder: Path) -> None:
        """The statistics lie beside the model."""
        super().save(folder)
        self.alignment.save(folder / FILE)
