"""PatchCore's heads, with a bank of rows or of codes: the computation of `adshift.detectors.patchcore` as a graph.

The bank's mean is subtracted from rows and queries. This changes no distance, and |x|^2 - 2 q'x of the shorter vectors
loses few digits. It selects the K nearest rows; their distances are then computed from differences, as in Python.

Notation: N images, P = H x W positions of the first layer used, D dimensions, B rows of the bank, K neighbors.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from adshift.deploy.export.graph import Constant, Enlarge
from adshift.detectors.components.foreground import CENTRE, LEAST, STEPS
from adshift.detectors.components.memory_bank import MemoryBank, Scoring
from adshift.detectors.patchcore import PatchCore
from adshift.detectors.patchcore import Score as PatchCoreScore
from adshift.detectors.patchcore_pq import PatchCorePQ
from adshift.detectors.patchcore_pq import Score as PatchCorePQScore
from adshift.detectors.resample import average_pool, bilinear
from adshift.search.quantized import CENTROIDS, Codes
from adshift.search.rows import prepared


class Patches(nn.Module):
    """Maps of all layers to patches (N, P, D): `MemoryBank.patches`.

    Attributes:
        grid: H, W.
    """

    def __init__(self, settings: Any, spec: Mapping[str, Any]) -> None:
        super().__init__()
        self.levels = settings.layers
        grid: tuple[int, ...] = ()
        self.rows, self.columns = nn.ModuleList(), nn.ModuleList()
        for level in self.levels:
            sides = spec["layers"][level - 1]["shape"][:2]
            pool = [average_pool(side, settings.pool, settings.stride) for side in sides]
            grid = grid or (len(pool[0]), len(pool[1]))
            rows, columns = (bilinear(len(matrix), side) @ matrix for matrix, side in zip(pool, grid, strict=True))
            self.rows.append(Constant(rows))
            self.columns.append(Constant(columns.T))
        self.grid = grid

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        parts = [
            rows() @ maps[level - 1] @ columns()
            for level, rows, columns in zip(self.levels, self.rows, self.columns, strict=True)
        ]
        return torch.cat(parts, dim=1).flatten(2).transpose(1, 2)


class Bank(nn.Module, ABC):
    """Rows that patches are compared with, in the form that `prepare` gives them."""

    def __init__(self, metric: str) -> None:
        super().__init__()
        self.metric = metric

    @abstractmethod
    def rows(self) -> torch.Tensor:
        """(B, D)."""

    @abstractmethod
    def prepare(self, patches: torch.Tensor) -> torch.Tensor:
        """Patches (N, P, D) in the form of the rows."""

    def _prepared(self, patches: torch.Tensor) -> torch.Tensor:
        if self.metric == "euclidean":
            return patches
        norms = patches.square().sum(-1, keepdim=True).sqrt()
        return patches / torch.where(norms > 0, norms, 1.0)

    def search(self, queries: torch.Tensor, rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Distances to and indices of the K nearest of the rows to queries (N, P, D), nearest first: (N, P, K) each."""
        rough = rows.square().sum(-1) - 2 * (queries @ rows.T)
        nearest = rough.topk(k, dim=-1, largest=False).indices
        distances, order = self.measure(queries, rows[nearest])
        return distances, nearest.gather(-1, order)

    def measure(self, queries: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Distances of queries (..., D) to rows (..., K, D), nearest first, and that order: (..., K) each."""
        squared = (queries.unsqueeze(-2) - rows).square().sum(-1)
        near, order = squared.topk(squared.shape[-1], dim=-1, largest=False)
        return near.sqrt() if self.metric == "euclidean" else near / 2, order


class Rows(Bank):
    """A bank of rows."""

    def __init__(self, bank: np.ndarray, metric: Any) -> None:
        super().__init__(metric)
        bank = prepared(bank, metric)
        mean = bank.mean(axis=0)
        self.bank, self.mean = Constant(bank - mean), Constant(mean)

    def rows(self) -> torch.Tensor:
        return self.bank()

    def prepare(self, patches: torch.Tensor) -> torch.Tensor:
        return self._prepared(patches) - self.mean()


class Decompressed(Bank):
    """A bank of codes, decompressed by the graph. Patches are split into the parts of the code."""

    def __init__(self, codes: Codes, metric: Any) -> None:
        super().__init__(metric)
        self.codes = Constant(codes.codes)
        parts, _, width = codes.codebooks.shape
        self.codebooks = Constant(codes.codebooks.reshape(parts * CENTROIDS, width))
        self.first = Constant(np.arange(parts) * CENTROIDS)
        self.halves = Constant(np.stack([np.arange(256) % CENTROIDS, np.arange(256) // CENTROIDS], axis=1))  # of a byte
        # For each column of the parts, the column it comes from; 0 for a column of zeros.
        numbered = np.arange(1, codes.dimensions + 1, dtype=np.float32)[None]
        self.dealt = Constant(codes.split(numbered)[0].astype(np.int64))
        self.mean = Constant(np.zeros(parts * width, np.float32))
        with torch.no_grad():
            self.mean.value += self.rows().mean(0)

    def rows(self) -> torch.Tensor:
        chosen = self.halves()[self.codes().long()].flatten(1) + self.first()
        rows = self.codebooks()[chosen].flatten(1)
        return self._prepared(rows) - self.mean()

    def prepare(self, patches: torch.Tensor) -> torch.Tensor:
        padded = nn.functional.pad(self._prepared(patches), (1, 0))
        return padded.index_select(-1, self.dealt()) - self.mean()


def foreground(patches: torch.Tensor, grid: tuple[int, ...], threshold: float) -> torch.Tensor:
    """`adshift.detectors.components.foreground` of patches (N, P, D): (N, P) float32, 1 on the object and else 0."""
    centred = patches - patches.mean(1, keepdim=True)
    covariance = centred.mT @ centred
    direction = torch.full_like(covariance[..., :1], patches.shape[-1] ** -0.5)
    for _ in range(STEPS):
        moved = covariance @ direction
        direction = moved / moved.norm(dim=1, keepdim=True).clamp(min=1e-30)
    direction = direction * direction.gather(1, direction.abs().argmax(1, keepdim=True)).sign()
    component = (centred @ direction).squeeze(-1)
    rows, columns = (slice(int(side * CENTRE), int(side * (1 - CENTRE))) for side in grid)
    inside = (component > threshold).float().unflatten(1, grid)[:, rows, columns].flatten(1).mean(1, keepdim=True)
    mask = (torch.where(inside > LEAST, component, -component) > threshold).float()
    mask = torch.where(mask.sum(1, keepdim=True) > 0, mask, torch.ones_like(mask)).unflatten(1, grid)
    for sign in (1, 1, -1):  # two dilations and an erosion
        mask = sign * nn.functional.max_pool2d(sign * mask[:, None], 3, stride=1, padding=1)[:, 0]
    return mask.flatten(1)


class BankHead(nn.Module):
    """Scores and maps from distances to a bank: `MemoryBank.predict`."""

    def __init__(self, detector: MemoryBank, bank: Bank, scoring: Scoring, most: int) -> None:
        """`most`: upper bound of the neighbors of a patch."""
        super().__init__()
        self.patches, self.bank, self.scoring = Patches(detector.settings, detector.spec), bank, scoring
        self.k, self.threshold = min(scoring.neighbours, most), detector.settings.foreground
        height, width = self.patches.grid
        self.largest = (
            max(1, round(height * width * scoring.top_percent / 100)) if scoring.image_score == "top_mean" else 1
        )
        self.enlarge = Enlarge(height, width, detector.spec["size"], scoring.smoothing)

    def forward(self, maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        patches = self.patches(maps)
        bank, queries = self.bank.rows(), self.bank.prepare(patches)
        softmax = self.scoring.reweight == "softmax"
        distances, neighbors = self.bank.search(queries, bank, self.k if softmax else 1)
        patch_scores = distances[..., 0]
        if self.threshold is not None:
            patch_scores = patch_scores * foreground(patches, self.patches.grid, self.threshold)
        if softmax and self.k > 1:
            rest = (distances[..., :1] - distances[..., 1:]).exp().sum(-1)
            patch_scores = patch_scores * (rest / (1 + rest))
        scores = patch_scores.topk(self.largest, dim=1).values.mean(1)
        if self.scoring.reweight == "original" and self.k > 1:
            scores = scores * self._paper_weight(queries, bank, neighbors, patch_scores)
        return scores, self.enlarge(patch_scores.unflatten(1, self.patches.grid))

    def _paper_weight(
        self, queries: torch.Tensor, bank: torch.Tensor, neighbors: torch.Tensor, patch_scores: torch.Tensor
    ) -> torch.Tensor:
        """Equation 7, of the farthest patch of each image: (N,)."""
        farthest = patch_scores.argmax(1)[:, None, None]
        patch = queries.gather(1, farthest.expand(-1, -1, queries.shape[-1]))
        nearest = bank[neighbors.gather(1, farthest).squeeze(-1)]
        _, around = self.bank.search(nearest, bank, self.k)
        distances, _ = self.bank.measure(patch, bank[around])
        return (1 - 1 / (distances - distances[..., :1]).exp().sum(-1)).squeeze(1)


def patchcore(detector: PatchCore, scoring: PatchCoreScore) -> nn.Module:
    """PatchCore's head. The exported bank is always searched exactly, also under `hnsw`."""
    return BankHead(detector, Rows(detector.bank, detector.settings.metric), scoring, len(detector.bank))


def patchcore_pq(detector: PatchCorePQ, scoring: PatchCorePQScore) -> nn.Module:
    """PatchCore-PQ's head. All rows are candidates: ONNX has no operator for the first phase, FAISS's tables."""
    most = min(scoring.refined, len(detector.codes.codes))
    return BankHead(detector, Decompressed(detector.codes, detector.settings.metric), scoring, most)
