"""PaDiM with its full covariance in one pass over the images, in NumPy; model and scores are PaDiM's.

Images are added batch by batch (Chan et al., 1983), so that memory does not grow with their number. The sums over all P
positions, 8 P D^2 bytes, need the most memory: if they would exceed LIMIT, the positions are divided into blocks, with
one pass over the stored features for each.
"""

import numpy as np

from adshift.detectors.components import gaussian
from adshift.detectors.components.comoments import comoments
from adshift.detectors.components.gaussian import FullGaussians
from adshift.detectors.components.settings import Regularisation
from adshift.features.store import Features

LIMIT = 256 * 2**20  # bytes, enough for 3136 positions of 100 channels
BATCH = 32  # images merged at a time: every batch reads and writes all sums

Score = gaussian.Score


class Fit(gaussian.Fit):
    """Parameters of the Gaussians.

    Attributes:
        layers: levels of the features, shallow to deep.
        n_features: D, channels drawn at random from all of them.
        regularisation: added to the covariance's diagonal; PaDiM adds 0.01.
    """

    regularisation: Regularisation


def warm_up() -> None:
    """Nothing: `fit` needs no further import."""


class PadimStreaming(FullGaussians):
    """One Gaussian per position over randomly chosen channels; the score is the Mahalanobis distance."""

    name = "padim_streaming"
    label = "PaDiM, streaming"
    artifact = "PaDiM in one pass"

    def fit(self, features: Features, generator: np.random.Generator) -> None:
        """Draw the channels as PaDiM does and add the images batch by batch (PaDiM, section III-B).

        Raises:
            AdshiftError: fewer than two images, a missing level, or `n_features` above the number of channels.
        """
        self._draw(features, generator)
        height, width, _ = self._shape(self.settings.layers[0])
        positions, channels = height * width, self.settings.n_features
        self.mean = np.empty((positions, channels), np.float32)
        self.triangles = np.empty((positions, channels * (channels + 1) // 2), np.float32)
        size = max(1, LIMIT // (8 * channels**2))
        for start in range(0, positions, size):
            self._fit(features, slice(start, min(start + size, positions)))

    def _fit(self, features: Features, block: slice) -> None:
        """Fit the Gaussians of a block of positions."""
        batches = (features[start : start + BATCH] for start in range(0, len(features), BATCH))
        parts = (self.embed(part)[block] for part in batches)
        moments = comoments(parts, block.stop - block.start, self.settings.n_features)
        self.mean[block] = moments.mean
        moments.invert(self.settings.regularisation, self.triangles[block])
