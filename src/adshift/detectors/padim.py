"""PaDiM (Defard et al., 2021), fitted on the device.

The formulas and their constants are those of anomalib's PadimModel, which takes seconds to import;
tests/unit/detectors/test_padim.py compares scores and maps with its forward pass. Scoring is in NumPy, without torch.
"""

import numpy as np

from adshift.detectors.components import gaussian
from adshift.detectors.components.comoments import upper_triangles
from adshift.detectors.components.gaussian import BLOCK, FullGaussians
from adshift.features.store import Features
from adshift.runtime import device
from adshift.runtime.parallel import torch_threads

Fit, Score = gaussian.Fit, gaussian.Score


def warm_up() -> None:
    """Import what `fit` needs, so that its time excludes this."""
    import torch  # noqa: F401


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

        self._draw(features, generator)
        embedding = self.embed(features)
        positions, images, channels = embedding.shape
        self.mean = np.empty((positions, channels), np.float32)
        self.triangles = np.empty((positions, channels * (channels + 1) // 2), np.float32)
        with device.explained("padim", "use padim_streaming, or ADSHIFT_DEVICE=cpu"):
            ridge = device.to_device(self.regularisation * torch.eye(channels))
            for start in range(0, positions, BLOCK):
                block = slice(start, start + BLOCK)
                rows = device.to_device(torch.from_numpy(embedding[block]))
                mean = rows.mean(1)
                deviations = rows - mean[:, None]
                covariance = deviations.mT @ deviations / (images - 1)
                inverse = torch.linalg.inv(covariance + ridge)
                self.mean[block] = mean.cpu().numpy()
                # A quadratic form depends on the symmetric part alone; the rest is from rounding.
                self.triangles[block] = upper_triangles(((inverse + inverse.mT) / 2).cpu().numpy())
