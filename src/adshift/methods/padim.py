"""PaDiM (Defard et al., 2021), its modelling by anomalib's PadimModel, fed from cached feature maps.

anomalib fits the Gaussians; scoring evaluates the same formulas in NumPy, so that it starts without torch.
tests/test_padim.py holds both against anomalib's own forward pass.

Notation: N images, P = H x W positions of the shallowest layer, D random channels.
"""

import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from adshift.errors import AdshiftError
from adshift.features import Features
from adshift.methods import storage
from adshift.parallel import map_ordered
from adshift.params import Count, NotNegative, Section, Several
from adshift.records import Predictions
from adshift.resample import enlarge

CHUNK = 8  # images at once: bounds memory


class Fit(Section):
    """What the Gaussians depend on.

    Attributes:
        layers: levels of the features, shallow to deep.
        n_features: D, channels drawn at random from all of them.
    """

    layers: Several(Annotated[int, Field(ge=1)])  # type: ignore[valid-type]
    n_features: Count


class Score(Section):
    """What the scores depend on beyond the Gaussians.

    Attributes:
        smoothing: standard deviation in pixels of the Gaussian that smooths the enlarged map; anomalib's is 4.
    """

    smoothing: NotNegative


def _anomalibs_model() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of anomalib's own imports
        from anomalib.models.image.padim.torch_model import PadimModel
    return PadimModel


def warm_up() -> None:
    """Import what `fit` needs, which takes longer than fitting, so that it can be left out of a fit's time."""
    _anomalibs_model()


class Padim:
    """A Gaussian a position over randomly chosen channels; the score is the Mahalanobis distance."""

    def __init__(self, settings: Fit) -> None:
        self.settings = settings

    def fit(self, features: Features, generator: np.random.Generator) -> None:
        """Draw the channels and fit mean and inverse covariance of each position (PaDiM, section III-B).

        Raises:
            AdshiftError: fewer than two images, or more channels asked for than there are.
        """
        import torch

        PadimModel = _anomalibs_model()

        if len(features) < 2:
            raise AdshiftError(f"PaDiM needs at least 2 training images, not {len(features)}", "add normal images")
        self.spec = dict(features.spec)
        names = [self.spec["layers"][level - 1]["name"] for level in self.settings.layers]
        channels = sum(self.spec["layers"][level - 1]["shape"][-1] for level in self.settings.layers)
        if self.settings.n_features > channels:
            raise AdshiftError(
                f"padim.n_features: {self.settings.n_features} of {channels} channels", f"at most {channels}"
            )
        self.channels = generator.permutation(channels)[: self.settings.n_features]

        torch.set_num_threads(1)  # sums in another order would change the model's bytes
        # It never sees an image: its own network may be any of timm's, which need not have the one of the features.
        model = PadimModel("resnet18", ["layer1"], pre_trained=False, n_features=1)
        model.layers = names
        model.idx = torch.from_numpy(self.channels)
        for start in range(0, len(features), CHUNK):
            part = features[start : start + CHUNK]
            maps = {
                name: part.maps(level).transpose(0, 3, 1, 2)
                for name, level in zip(names, self.settings.layers, strict=True)
            }
            model.memory_bank.append(model.generate_embedding({name: torch.from_numpy(m) for name, m in maps.items()}))
        model.fit()
        self.mean = model.gaussian.mean.numpy().T.copy()
        # A quadratic form sees the symmetric part alone; rounding leaves the rest.
        inverse = model.gaussian.inv_covariance.numpy()
        self.inverse_covariance = (inverse + inverse.transpose(0, 2, 1)) / 2

    def predict(self, features: Features, how: Score) -> Predictions:
        """Mahalanobis distance of every position (PaDiM, equation 2); the image score is the smoothed map's maximum."""
        parts = [features[start : start + CHUNK] for start in range(0, len(features), CHUNK)]
        maps = np.concatenate(map_ordered(self._distances, parts, what="scoring with PaDiM", unit="batch"))
        size = self.spec["size"]
        scores = [enlarge(maps[i : i + CHUNK], size, how.smoothing).max((1, 2)) for i in range(0, len(maps), CHUNK)]
        return Predictions(features.names, np.concatenate(scores), maps, size, how.smoothing)

    def _distances(self, features: Features) -> np.ndarray:
        """(N, H, W) float32."""
        height, width, _ = self.spec["layers"][self.settings.layers[0] - 1]["shape"]
        delta = self._embed(features, height, width) - self.mean[:, None]
        squared = np.einsum("pnd,pnd->pn", delta @ self.inverse_covariance, delta)
        return np.sqrt(np.maximum(squared, 0)).T.reshape(-1, height, width)

    def _embed(self, features: Features, height: int, width: int) -> np.ndarray:
        """(P, N, D) float32: deeper layers repeated to the first one's grid (nearest), the drawn channels alone."""
        embedding = np.empty((height * width, len(features), self.settings.n_features), np.float32)
        first = 0
        for level in self.settings.layers:
            maps = features.maps(level)
            kept = (self.channels >= first) & (self.channels < first + maps.shape[-1])
            rows, columns = (np.arange(n) * m // n for n, m in ((height, maps.shape[1]), (width, maps.shape[2])))
            chosen = maps[:, rows][:, :, columns][..., self.channels[kept] - first]
            embedding[..., kept] = chosen.transpose(1, 2, 0, 3).reshape(height * width, len(features), -1)
            first += maps.shape[-1]
        return embedding

    def save(self, folder: Path) -> None:
        """Write the model; of the symmetric inverse covariances, the upper triangles."""
        upper = np.triu_indices(self.settings.n_features)
        arrays = {
            "channels": self.channels,
            "mean": self.mean,
            "inverse_covariance": np.ascontiguousarray(self.inverse_covariance[:, *upper]),
        }
        storage.save(folder, "padim", dict(self.settings), self.spec, arrays)

    @classmethod
    def load(cls, folder: Path) -> "Padim":
        """Read what `save` wrote.

        Raises:
            AdshiftError: the folder holds no sound PaDiM model.
        """
        settings, spec, arrays = storage.load(folder, "padim")
        model = cls(settings)
        model.spec, model.channels, model.mean = spec, arrays["channels"], arrays["mean"]
        upper = np.triu_indices(settings.n_features)
        full = np.empty((len(model.mean), settings.n_features, settings.n_features), np.float32)
        full[:, *upper] = arrays["inverse_covariance"]
        full[:, *upper[::-1]] = arrays["inverse_covariance"]
        model.inverse_covariance = full
        return model
