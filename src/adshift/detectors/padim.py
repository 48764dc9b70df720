"""PaDiM (Defard et al., 2021), fitted by anomalib's PadimModel on cached feature maps, on the device.

anomalib fits the Gaussians; scoring evaluates the same formulas in NumPy, so that it starts without torch.
tests/unit/detectors/test_padim.py compares both with anomalib's own forward pass.
"""

import warnings
from typing import Any

import numpy as np

from adshift.detectors.components import gaussian
from adshift.detectors.components.comoments import upper_triangles
from adshift.detectors.components.gaussian import FullGaussians, chunks
from adshift.features.store import Features
from adshift.runtime import device
from adshift.runtime.parallel import torch_threads

Fit, Score = gaussian.Fit, gaussian.Score


def _anomalibs_model() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised by anomalib's own imports
        from anomalib.models.image.padim.torch_model import PadimModel
    return PadimModel


def warm_up() -> None:
    """Import what `fit` needs. This takes longer than a fit, whose time excludes it."""
    _anomalibs_model()


class Padim(FullGaussians):
    """One Gaussian per position over randomly chosen channels; the score is the Mahalanobis distance."""

    name = "padim"
    label = "PaDiM"
    artifact = "PaDiM: a Gaussian a position"

    @torch_threads(1)  # sums in another order would change the model's bytes
    def fit(self, features: Features, generator: np.random.Generator) -> None:
        """Draw the channels and fit mean and inverse covariance of each position (PaDiM, section III-B).

        Raises:
            AdshiftError: fewer than two images, or `n_features` above the number of channels.
        """
        import torch

        PadimModel = _anomalibs_model()

        self._draw(features, generator)
        names = [self.spec["layers"][level - 1]["name"] for level in self.settings.layers]
        # The model gets no image, so its own network can be any of timm's; timm may not have that of the features.
        model = PadimModel("resnet18", ["layer1"], pre_trained=False, n_features=1)
        model.layers = names
        model.idx = device.to_device(torch.from_numpy(self.channels))
        model = device.to_device(model)
        with device.explained("padim", "use padim_streaming, or ADSHIFT_DEVICE=cpu"):
            for part in chunks(features):
                maps = {
                    name: device.to_device(torch.from_numpy(part.maps(level).transpose(0, 3, 1, 2)))
                    for name, level in zip(names, self.settings.layers, strict=True)
                }
                model.memory_bank.append(model.generate_embedding(maps))
            model.fit()
        self.mean = model.gaussian.mean.cpu().numpy().T.copy()
        # A quadratic form depends on the symmetric part alone; the rest is from rounding.
        inverse = model.gaussian.inv_covariance.cpu().numpy()
        self.triangles = upper_triangles((inverse + inverse.transpose(0, 2, 1)) / 2)
