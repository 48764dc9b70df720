"""Shared parts of PaDiM's family (Defard et al., 2021): channels, grid, scoring, and the model of full Gaussians.

The embedding of a position holds the drawn channels of all layers; deeper layers are repeated to the first one's grid.

Notation: N images, P = H x W positions of the first layer used, D random channels.
"""

from abc import abstractmethod
from collections.abc import Iterator
from copy import copy
from functools import partial
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from adshift.detectors import storage
from adshift.detectors.base import Detector
from adshift.detectors.components.comoments import Comoments
from adshift.detectors.components.settings import Layers, Smoothing
from adshift.detectors.components.whole_maps import predictions_of
from adshift.detectors.records import Predictions
from adshift.errors import AdshiftError
from adshift.features.store import Features
from adshift.runtime.parallel import in_slices, map_ordered, share
from adshift.runtime.settings import Count, Section

CHUNK = 8  # images in memory at a time
MOST_IMAGES = 10**9
BLOCK = 512  # positions whose covariances are in memory together while a model is fitted or adapted
ANOMALIBS_REGULARISATION = 0.01 + 1e-5  # it adds the second part just before the inversion


class Fit(Section):
    """Parameters of the Gaussians.

    Attributes:
        layers: levels of the features, shallow to deep.
        n_features: D, channels drawn at random from all of them.
    """

    layers: Layers
    n_features: Annotated[Count, Field(le=4096)]


class Score(Section):
    """Parameters of scoring.

    Attributes:
        smoothing: standard deviation in pixels of the Gaussian that smooths the enlarged map; anomalib's is 4.
    """

    smoothing: Smoothing


def chunks(features: Features) -> Iterator[Features]:
    """The images in order, in chunks of at most CHUNK."""
    return (features[start : start + CHUNK] for start in range(0, len(features), CHUNK))


def nearest(size_in: int, size_out: int) -> np.ndarray:
    """(size_out,) indices that repeat `size_in` positions to `size_out`, as torch's interpolate(nearest)."""
    return np.arange(size_out) * size_in // size_out


class Gaussians(Detector):
    """One Gaussian per position over randomly chosen channels; the score is the distance from its mean.

    Attributes:
        channels: (D,) drawn channels, numbered over all layers used.
        images: number of training images; 0 for a model of an earlier version, which does not hold it.
    """

    least_images = 2
    adaptable = True
    images: int

    def _draw(self, features: Features, generator: np.random.Generator) -> None:
        """Draw the channels (section III-A).

        Raises:
            AdshiftError: fewer than two images, a missing level, or `n_features` above the number of channels.
        """
        if len(features) < self.least_images:
            raise AdshiftError(f"PaDiM needs at least 2 training images, not {len(features)}", "add normal images")
        self.spec, self.images = dict(features.spec), len(features)
        channels = sum(features[:1].maps(level).shape[-1] for level in self.settings.layers)
        if self.settings.n_features > channels:
            raise AdshiftError(
                f"{self.name}.n_features: {self.settings.n_features} of {channels} channels", f"at most {channels}"
            )
        self.channels = generator.permutation(channels)[: self.settings.n_features]

    def _grown(self) -> Self:
        """A copy that may be changed, for `adapted`.

        Raises:
            AdshiftError: the number of training images is not known.
        """
        if not self.images:
            message = f"a {self.name} model of an earlier version: its number of training images is not known"
            raise AdshiftError(message, "fit it again with `dvc repro`")
        return copy(self)

    def _shape(self, level: int) -> tuple[int, int, int]:
        """Height, width and channels of a level."""
        height, width, channels = self.spec["layers"][level - 1]["shape"]
        return height, width, channels

    def _drawn(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """For each level: (level, indices of its channels among the D, their numbers within the level)."""
        first = 0
        for level in self.settings.layers:
            count = self._shape(level)[-1]
            own = (self.channels >= first) & (self.channels < first + count)
            yield level, own, self.channels[own] - first
            first += count

    def _common(self) -> dict[str, np.ndarray]:
        """The arrays of every model of the family."""
        return {"channels": self.channels} | ({"images": np.array(self.images)} if self.images else {})

    def _without_images(self, folder: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Check and take the number of training images; the other arrays."""
        images = arrays.get("images", np.array(0))
        sound = images.dtype == np.int64 and images.shape == () and 0 <= images <= MOST_IMAGES
        storage.demand_that(sound, folder, "images is no number of images")
        self.images = int(images)
        return {name: array for name, array in arrays.items() if name != "images"}

    def _check_channels(self, folder: Path, channels: np.ndarray) -> None:
        """Refuse channels that the layers do not have, and duplicates.

        Raises:
            AdshiftError: naming the folder of the model.
        """
        total = sum(self._shape(level)[-1] for level in self.settings.layers)
        storage.demand_that(storage.distinct(channels, total), folder, f"channels are not {len(channels)} of {total}")

    def _predict(self, features: Features, scoring: Score) -> Predictions:
        """Distance of every position from its mean; the image score is the smoothed map's maximum (section III-C)."""
        parts = list(chunks(features))
        distances = partial(self._distances, threads=share(len(parts)))
        maps = np.concatenate(map_ordered(distances, parts, what=f"scoring with {self.name}", unit="batch"))
        return predictions_of(features, maps, scoring.smoothing)

    @abstractmethod
    def _distances(self, features: Features, threads: int) -> np.ndarray:
        """(N, H, W) float32."""


class FullGaussians(Gaussians):
    """Gaussians with full covariance matrices and Mahalanobis distances.

    Attributes:
        mean: (P, D) float32.
        triangles: (P, D (D + 1) / 2) float32, the upper triangles of the inverse covariances, row by row. Reading them
            takes most of the time of scoring, so nothing else is stored.
    """

    mean: np.ndarray
    triangles: np.ndarray

    @property
    def regularisation(self) -> float:
        """What was added to the diagonals of the covariances."""
        return float(getattr(self.settings, "regularisation", ANOMALIBS_REGULARISATION))

    def adapted(self, features: Features, rows: int | None = None) -> Self:
        """Merge the moments of further normal images into each position's (Chan et al., 1983); `rows` has no effect.

        The covariances come from the stored inverses, which are float32: scores differ from a refit's by about 1e-4.
        """
        new = self._grown()
        new.images = self.images + len(features)
        new.mean, new.triangles = self.mean.copy(), self.triangles.copy()
        batch = self.embed(features)
        for start in range(0, len(self.mean), BLOCK):
            block = slice(start, start + BLOCK)
            moments = Comoments.of_inverses(self.images, self.mean[block], self.triangles[block], self.regularisation)
            moments.add(batch[block])
            new.mean[block] = moments.mean
            moments.invert(self.regularisation, new.triangles[block])
        return new

    @property
    def inverse_covariance(self) -> np.ndarray:
        """(P, D, D) float32, symmetric; computed at each call."""
        upper = np.triu_indices(self.mean.shape[1])
        full = np.empty((*self.mean.shape, self.mean.shape[1]), np.float32)
        full[:, *upper] = full[:, *upper[::-1]] = self.triangles
        return full

    def embed(self, features: Features) -> np.ndarray:
        """(P, N, D) float32: the drawn channels, deeper layers repeated to the first one's grid (nearest)."""
        height, width, _ = self._shape(self.settings.layers[0])
        embedding = np.empty((height * width, len(features), self.settings.n_features), np.float32)
        for level, own, channels in self._drawn():
            high, wide, _ = self._shape(level)
            rows, columns = nearest(high, height), nearest(wide, width)
            chosen = features.maps(level).take(channels, 3).take(rows, 1).take(columns, 2)
            embedding[..., own] = chosen.transpose(1, 2, 0, 3).reshape(height * width, len(features), -1)
        return embedding

    def _distances(self, features: Features, threads: int) -> np.ndarray:
        """Mahalanobis distances (N, H, W): PaDiM, equation 2."""
        from adshift.search.kernels import quadratic_forms  # compiled code: not loaded when params.yaml is read

        height, width, _ = self._shape(self.settings.layers[0])
        delta = self.embed(features) - self.mean[:, None]
        squared = np.empty(delta.shape[:2], np.float32)

        def work(part: slice) -> None:
            quadratic_forms(delta[part], self.triangles[part], squared[part])

        in_slices(work, len(delta), threads)
        return np.sqrt(np.maximum(squared, 0)).T.reshape(-1, height, width)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The drawn channels, the means, and the upper triangles of the symmetric inverse covariances."""
        return self._common() | {"mean": self.mean, "inverse_covariance": self.triangles}

    def from_arrays(self, folder: Path, arrays: dict[str, np.ndarray]) -> None:
        """Check and take the arrays of `to_arrays`."""
        count = self.settings.n_features
        height, width, _ = self._shape(self.settings.layers[0])
        arrays = self._without_images(folder, arrays)
        storage.demand(folder, arrays, {
            "channels": ("int64", (count,)),
            "mean": ("float32", (height * width, count)),
            "inverse_covariance": ("float32", (height * width, count * (count + 1) // 2)),
        })  # fmt: skip
        self._check_channels(folder, arrays["channels"])
        first = np.arange(count)  # each row of the upper triangles begins on the diagonal
        diagonal = arrays["inverse_covariance"][:, first * count - first * (first - 1) // 2]
        storage.demand_that((diagonal > 0).all(), folder, "inverse_covariance has a variance that is not positive")
        self.channels, self.mean, self.triangles = (
            arrays["channels"], arrays["mean"], arrays["inverse_covariance"]
        )  # fmt: skip
