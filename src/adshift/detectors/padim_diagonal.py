"""PaDiM with a diagonal covariance: mean and variance of every channel at every position, in one pass, in NumPy.

Without covariances, layers are only combined when their squared distances are added. So each layer keeps its own
resolution, while PaDiM repeats the deeper ones to the first one's grid: a smaller model with the same distances.
"""

from pathlib import Path
from typing import Self

import numpy as np

from adshift.detectors import storage
from adshift.detectors.components import gaussian
from adshift.detectors.components.gaussian import Gaussians, chunks, nearest
from adshift.detectors.components.settings import Regularisation
from adshift.features.store import Features
from adshift.runtime.parallel import progress

Score = gaussian.Score


class Fit(gaussian.Fit):
    """Parameters of the Gaussians.

    Attributes:
        layers: levels of the features, shallow to deep.
        n_features: D, channels drawn at random from all of them.
        regularisation: added to every variance; PaDiM adds 0.01 to the covariance's diagonal.
    """

    regularisation: Regularisation


def warm_up() -> None:
    """Nothing: `fit` needs no further import."""


class Moments:
    """Count, mean and sum of squared deviations over the first axis of batches, merged exactly (Chan et al., 1983).

    Attributes:
        count: rows seen.
        mean, squares: of a row's shape, float64.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = np.zeros(())

    def add(self, batch: np.ndarray) -> None:
        """Add (n, ...) rows."""
        batch = batch.astype(np.float64)
        mean, total = batch.mean(0), self.count + len(batch)
        delta = mean - self.mean
        self.mean = self.mean + delta * (len(batch) / total)
        self.squares = self.squares + ((batch - mean) ** 2).sum(0) + delta**2 * (self.count * len(batch) / total)
        self.count = total

    def variance(self) -> np.ndarray:
        """The unbiased variance, as in PaDiM's covariance."""
        return self.squares / (self.count - 1)


class PadimDiagonal(Gaussians):
    """One Gaussian per position and channel; the score is the distance in standard deviations.

    Attributes:
        mean, inverse_deviation: per level (height, width, its drawn channels) float32.
    """

    name = "padim_diagonal"
    label = "PaDiM, diagonal"
    artifact = "PaDiM with a diagonal covariance"

    def fit(self, features: Features, generator: np.random.Generator) -> None:
        """Draw the channels as PaDiM does and add the images in one pass.

        Raises:
            AdshiftError: fewer than two images, or `n_features` above the number of channels.
        """
        self._draw(features, generator)
        moments = {level: Moments() for level in self.settings.layers}
        for part in progress(chunks(features), what="mean and variance", unit="batch"):
            for level, _, channels in self._drawn():
                moments[level].add(part.maps(level).take(channels, axis=-1))
        self.mean, self.inverse_deviation = {}, {}
        for level, of_level in moments.items():
            self.mean[level], self.inverse_deviation[level] = self._gaussians(of_level)

    def adapted(self, features: Features, rows: int | None = None) -> Self:
        """Merge the moments of further normal images into each position's (Chan et al., 1983); `rows` has no effect."""
        new = self._grown()
        new.images = self.images + len(features)
        new.mean, new.inverse_deviation = {}, {}
        for level, _, channels in self._drawn():
            moments = Moments()
            moments.count, moments.mean = self.images, self.mean[level].astype(np.float64)
            variance = 1 / self.inverse_deviation[level].astype(np.float64) ** 2 - self.settings.regularisation
            moments.squares = variance * (self.images - 1)
            for part in chunks(features):
                moments.add(part.maps(level).take(channels, axis=-1))
            new.mean[level], new.inverse_deviation[level] = self._gaussians(moments)
        return new

    def _gaussians(self, moments: Moments) -> tuple[np.ndarray, np.ndarray]:
        """Means and inverse deviations, float32."""
        deviation = np.sqrt(moments.variance() + self.settings.regularisation)
        return moments.mean.astype(np.float32), (1 / deviation).astype(np.float32)

    def _distances(self, features: Features, threads: int) -> np.ndarray:
        """sqrt(sum over channels of (x - mean)^2 / variance): PaDiM, equation 2, with a diagonal covariance."""
        height, width, _ = self._shape(self.settings.layers[0])
        squared = np.zeros((len(features), height, width), np.float32)
        for level, _, channels in self._drawn():
            scaled = (features.maps(level).take(channels, axis=-1) - self.mean[level]) * self.inverse_deviation[level]
            own = np.einsum("nhwd,nhwd->nhw", scaled, scaled)
            squared += own[:, nearest(own.shape[1], height)][:, :, nearest(own.shape[2], width)]
        return np.sqrt(squared)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The drawn channels, and each level's means and inverse deviations."""
        arrays = self._common()
        for level in self.settings.layers:
            arrays |= {f"mean{level}": self.mean[level], f"inverse_deviation{level}": self.inverse_deviation[level]}
        return arrays

    def from_arrays(self, folder: Path, arrays: dict[str, np.ndarray]) -> None:
        """Check and take the arrays of `to_arrays`."""
        settings, arrays = self.settings, self._without_images(folder, arrays)
        self.channels = arrays.get("channels", np.empty(0, np.int64))
        wanted: dict[str, tuple[str, storage.Shape]] = {"channels": ("int64", (settings.n_features,))}
        for level, own, _ in self._drawn():
            shape = (*self._shape(level)[:2], int(own.sum()))
            wanted |= {f"mean{level}": ("float32", shape), f"inverse_deviation{level}": ("float32", shape)}
        storage.demand(folder, arrays, wanted)
        self._check_channels(folder, self.channels)
        for level in settings.layers:
            positive = (arrays[f"inverse_deviation{level}"] > 0).all()
            storage.demand_that(positive, folder, f"inverse_deviation{level} is not positive")
        self.mean = {level: arrays[f"mean{level}"] for level in settings.layers}
        self.inverse_deviation = {level: arrays[f"inverse_deviation{level}"] for level in settings.layers}
