"""PaDiM (Defard et al., 2021), its modelling by anomalib's PadimModel, fed from cached feature maps.

anomalib fits the Gaussians; scoring evaluates the same formulas in NumPy, so that it starts without torch.
tests/unit/detectors/test_padim.py holds both against anomalib's own forward pass.
"""

import warnings
from typing import Any

import numpy as np

from adshift.detectors.components import gaussian
from adshift.detectors.components.gaussian import FullGaussians, chunks, upper_triangles
from adshift.features.store import Features
from adshift.runtime.parallel import torch_threads

Fit, Score = gaussian.Fit, gaussian.Score


def _anomalibs_model() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of anomalib's own imports
        from anomalib.models.image.padim.torch_model import PadimModel
    return PadimModel


def warm_up() -> None:
    """Import what `fit` needs, which takes longer than fitting, so that it can be left out of a fit's time."""
    _anomalibs_model()


class Padim(FullGaussians):
    """A Gaussian a position over randomly chosen channels; the score is the Mahalanobis distance."""

    name = "padim"
    label = "PaDiM"
    artifact = "PaDiM: a Gaussian a position"

    @torch_threads(1)  # sums in another order would change the model's bytes
    def fit(self, features: Features, generator: np.random.Generator) -> None:
        """Draw the channels and fit mean and inverse covariance of each position (PaDiM, section III-B).

        Raises:
            AdshiftError: fewer than two images, or more channels asked for than there are.
        """
        import torch

        PadimModel = _anomalibs_model()

        self._draw(features, generator)
        names = [self.spec["layers"][level - 1]["name"] for level in self.settings.layers]
        # It never sees an image: its own network may be any of timm's, which need not have the one of the features.
        model = PadimModel("resnet18", ["layer1"], pre_trained=False, n_features=1)
        model.layers = names
        model.idx = torch.from_numpy(self.channels)
        for part in chunks(features):
            maps = {
                name: part.maps(level).transpose(0, 3, 1, 2)
                for name, level in zip(names, self.settings.layers, strict=True)
            }
            model.memory_bank.append(model.generate_embedding({name: torch.from_numpy(m) for name, m in maps.items()}))
        model.fit()
        self.mean = model.gaussian.mean.numpy().T.copy()
        # A quadratic form sees the symmetric part alone; rounding leaves the rest.
        inverse = model.gaussian.inv_covariance.numpy()
        self.triangles = upper_triangles((inverse + inverse.transpose(0, 2, 1)) / 2)
