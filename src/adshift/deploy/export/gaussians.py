"""Heads of PaDiM's family: `adshift.detectors.components.gaussian` and `padim_diagonal` as graphs.

Notation: N images, P = H x W positions of the first layer used, D drawn channels.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import nn

from adshift.deploy.export.graph import Constant, Enlarge
from adshift.detectors.components.gaussian import FullGaussians, Gaussians, Score, nearest
from adshift.detectors.padim_diagonal import PadimDiagonal


class Repeat(nn.Module):
    """(N, C, h, w) to (N, C, H, W), rows and columns repeated: `adshift.detectors.components.gaussian.nearest`."""

    def __init__(self, shape: tuple[int, int], grid: tuple[int, int]) -> None:
        super().__init__()
        self.same = shape == grid
        if not self.same:
            rows, columns = (Constant(nearest(side, wanted)) for side, wanted in zip(shape, grid, strict=True))
            self.rows, self.columns = rows, columns

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        if self.same:
            return maps
        return maps.index_select(2, self.rows()).index_select(3, self.columns())


class GaussianHead(nn.Module, ABC):
    """Distances as maps; the score is the largest value of the enlarged map: `Gaussians.predict`."""

    def __init__(self, detector: Gaussians, scoring: Score) -> None:
        super().__init__()
        shapes = {level: detector._shape(level) for level in detector.settings.layers}
        self.grid = next(iter(shapes.values()))[:2]
        self.drawn = [(level, channels) for level, _, channels in detector._drawn() if len(channels)]
        self.channels = nn.ModuleList(Constant(channels) for _, channels in self.drawn)
        self.repeat = nn.ModuleList(Repeat(shapes[level][:2], self.grid) for level, _ in self.drawn)
        self.enlarge = Enlarge(*self.grid, detector.spec["size"], scoring.smoothing)

    def forward(self, maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = [
            maps[level - 1].index_select(1, channels())
            for (level, _), channels in zip(self.drawn, self.channels, strict=True)
        ]
        enlarged = self.enlarge(self.squared(chosen).clamp(min=0).sqrt())
        return enlarged.amax((1, 2)), enlarged

    @abstractmethod
    def squared(self, chosen: list[torch.Tensor]) -> torch.Tensor:
        """Squared distances (N, H, W), from the drawn channels of each layer that has some."""


class FullHead(GaussianHead):
    """Mahalanobis distances: `FullGaussians._distances`."""

    def __init__(self, detector: FullGaussians, scoring: Score) -> None:
        super().__init__(detector, scoring)
        # The graph concatenates layers: means and covariances are put in the same order.
        order = np.concatenate([np.flatnonzero(own) for _, own, _ in detector._drawn()])
        count = len(order)
        upper = np.triu_indices(count)
        index = np.empty((count, count), np.int64)
        index[upper] = index[upper[::-1]] = np.arange(len(upper[0]))
        inverse = detector.inverse_covariance[:, order][:, :, order]
        self.mean = Constant(detector.mean[:, order])
        # The graph stores the upper triangles of the symmetric matrices and fills in the lower ones.
        self.inverse, self.index, self.count = Constant(inverse[:, *upper]), Constant(index.ravel()), count

    def squared(self, chosen: list[torch.Tensor]) -> torch.Tensor:
        embedding = torch.cat([repeat(maps) for repeat, maps in zip(self.repeat, chosen, strict=True)], dim=1)
        delta = embedding.flatten(2).permute(2, 0, 1) - self.mean().unsqueeze(1)  # (P, N, D)
        inverse = self.inverse().index_select(1, self.index()).unflatten(1, (self.count, self.count))
        return ((delta @ inverse) * delta).sum(-1).T.unflatten(1, self.grid)


class DiagonalHead(GaussianHead):
    """Distances in standard deviations: `PadimDiagonal._distances`."""

    def __init__(self, detector: PadimDiagonal, scoring: Score) -> None:
        super().__init__(detector, scoring)
        self.mean, self.scale = (
            nn.ModuleList(Constant(arrays[level].transpose(2, 0, 1)) for level, _ in self.drawn)
            for arrays in (detector.mean, detector.inverse_deviation)
        )

    def squared(self, chosen: list[torch.Tensor]) -> torch.Tensor:
        parts = [
            repeat(((maps - mean()) * scale()).square().sum(1, keepdim=True))
            for maps, mean, scale, repeat in zip(chosen, self.mean, self.scale, self.repeat, strict=True)
        ]
        return torch.stack(parts).sum(0).squeeze(1)
