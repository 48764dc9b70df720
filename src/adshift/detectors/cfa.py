"""CFA (Lee et al., 2022): a small trained layer moves patch features towards a memory bank of mean normal features.

Only this layer, the descriptor, is trained, on stored feature maps; scoring is NumPy and a nearest-neighbour search.
Tests compare both with anomalib's CfaModel. Its gamma_c and gamma_d, which shrink the bank, are 1 here.

Notation: N images, P = H x W positions of the first layer used, D channels of all layers used, K neighbours.
"""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from adshift.detectors import storage
from adshift.detectors.base import Detector
from adshift.detectors.components import training
from adshift.detectors.components.patches import locally_aware
from adshift.detectors.components.settings import Epochs, Layers, LearningRate, Neighbours, Smoothing
from adshift.detectors.components.whole_maps import predictions_of
from adshift.detectors.records import Predictions
from adshift.errors import AdshiftError
from adshift.features.store import Features
from adshift.runtime import device
from adshift.runtime.parallel import map_ordered
from adshift.runtime.settings import Batch, Number, Section
from adshift.search.neighbors import Neighbors

warm_up = training.warm_up

CHUNK = 8  # images in memory at a time
MARGIN = 0.1  # the paper's alpha
SCALE, DECAY = 1000, 5e-4  # of the loss and of the weights, as in the authors' code


class Fit(Section):
    """Parameters of the descriptor and the bank.

    Attributes:
        layers: levels of the features; the first one gives the grid. A step costs P^2.
        neighbours: K nearest rows of the bank, which attract a patch in training and give its score.
        hard_negatives: number of the next nearest rows, which repel it.
        radius: of the hyperspheres around the rows; a patch inside is not attracted.
        epochs: passes over the training images.
        batch: images per step.
        learning_rate: of AdamW.
    """

    layers: Layers
    neighbours: Neighbours
    hard_negatives: Neighbours
    radius: Annotated[Number, Field(ge=0, le=1000)]
    epochs: Epochs
    batch: Batch
    learning_rate: LearningRate


class Score(Section):
    """Parameters of scoring.

    Attributes:
        smoothing: standard deviation in pixels of the Gaussian that smooths the enlarged map.
    """

    smoothing: Smoothing


def patches(features: Features, layers: tuple[int, ...]) -> np.ndarray:
    """(N, H, W, D + 2) float32: 3 x 3 means of all layers on the first one's grid, then row and column in [-1, 1]."""
    maps = locally_aware(features, layers, pool=3, stride=1)
    sides = (np.linspace(-1, 1, side, dtype=np.float32) for side in maps.shape[1:3])
    coordinates = np.stack(np.meshgrid(*sides, indexing="ij"), -1)
    return np.concatenate([maps, np.broadcast_to(coordinates, (len(features), *coordinates.shape))], axis=-1)


def soft_boundary(squares: Any, settings: Fit) -> Any:
    """Attraction and repulsion by squared distances (..., K + hard negatives), nearest first: the paper's loss."""
    radius = settings.radius**2
    attraction = (squares[..., : settings.neighbours] - radius).clamp(min=0).mean()
    # The authors' code, and anomalib's, counts the repelling rows from the number of hard negatives, not from K.
    repulsion = (radius - squares[..., settings.hard_negatives :] - MARGIN).clamp(min=0).mean()
    return (attraction + repulsion) * SCALE


class Cfa(Detector):
    """The distance of a patch, after the descriptor, from the memory bank.

    Attributes:
        weight, bias: of the descriptor, (D, D + 2) and (D,) float32.
        bank: (P, D) float32, mean of the training images' patches after the untrained descriptor.
        history: mean loss in each epoch of the fit.
    """

    name = "cfa"
    label = "CFA"
    artifact = "CFA: features pulled towards a memory bank"
    settings: Fit

    def fit(self, features: Features, generator: np.random.Generator) -> None:
        """Make the bank and train the descriptor.

        Raises:
            AdshiftError: no image, a missing level, or fewer positions than neighbours.
        """
        import torch

        if not len(features):
            raise AdshiftError("CFA got no training image", "check the split")
        settings, self.spec = self.settings, dict(features.spec)
        wanted = settings.neighbours + settings.hard_negatives
        with training.reproducible(generator):
            mean = device.to_device(torch.from_numpy(self._mean(features)))
            if len(mean) < wanted:
                raise AdshiftError(f"cfa: {wanted} neighbours of {len(mean)} positions", "lower cfa.neighbours")
            descriptor = device.to_device(torch.nn.Linear(mean.shape[1], mean.shape[1] - 2))
            bank = descriptor(mean).detach()  # a linear map of the mean is the mean of its outputs
            optimizer = torch.optim.AdamW(
                descriptor.parameters(), settings.learning_rate, weight_decay=DECAY, amsgrad=True
            )

            def loss(part: Features) -> Any:
                inputs = device.to_device(torch.from_numpy(patches(part, settings.layers)))
                points = descriptor(inputs.flatten(0, 2))
                with torch.no_grad():  # the search itself has no gradient, only the distances to its results
                    nearest = torch.cdist(points, bank).topk(wanted, largest=False).indices
                return soft_boundary((points[:, None] - bank[nearest]).square().sum(-1), settings)

            self.history = training.descend(
                descriptor, optimizer, loss, features, generator, epochs=settings.epochs, batch=settings.batch
            )
        arrays = training.arrays_of(descriptor)
        self.weight, self.bias, self.bank = arrays["weight"], arrays["bias"], bank.cpu().numpy()

    def _mean(self, features: Features) -> np.ndarray:
        """Mean patches of all images: (P, D + 2) float32."""
        total: Any = 0
        for start in range(0, len(features), CHUNK):
            total = total + patches(features[start : start + CHUNK], self.settings.layers).sum(0, dtype=np.float64)
        return (total / len(features)).reshape(-1, total.shape[-1]).astype(np.float32)

    @cached_property
    def neighbors(self) -> Neighbors:
        """The index of the bank, built at the first search."""
        return Neighbors(self.bank, "euclidean")

    def _predict(self, features: Features, scoring: Score) -> Predictions:
        """Weighted distance of every patch to its nearest row; the image score is the smoothed map's maximum."""
        images = [features[image : image + 1] for image in range(len(features))]
        _ = self.neighbors  # built here, once, and not in each thread
        maps = np.concatenate(map_ordered(self._distances, images, what="scoring with CFA"))
        return predictions_of(features, maps, scoring.smoothing)

    def _distances(self, image: Features) -> np.ndarray:
        """(1, H, W) float32: the nearest distance times its share in the softmin of the K nearest."""
        patch_maps = patches(image, self.settings.layers)
        points = patch_maps.reshape(-1, patch_maps.shape[-1]) @ self.weight.T + self.bias
        distances, _ = self.neighbors.search(points, self.settings.neighbours)
        scores = distances[:, 0] / np.exp(distances[:, :1] - distances).sum(1)
        return scores.reshape(patch_maps.shape[:3])

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The descriptor's weight and bias, and the bank."""
        return {"weight": self.weight, "bias": self.bias, "bank": self.bank}

    def from_arrays(self, folder: Path, arrays: dict[str, np.ndarray]) -> None:
        """Check and take the arrays of `to_arrays`."""
        layers = self.settings.layers
        width = sum(self.spec["layers"][level - 1]["shape"][-1] for level in layers)
        height, wide, _ = self.spec["layers"][layers[0] - 1]["shape"]
        storage.demand(folder, arrays, {
            "weight": ("float32", (width, width + 2)),
            "bias": ("float32", (width,)),
            "bank": ("float32", (height * wide, width)),
        })  # fmt: skip
        self.weight, self.bias, self.bank = arrays["weight"], arrays["bias"], arrays["bank"]
