"""A network that is a row of steps, run up to the deepest one kept."""

from collections.abc import Collection, Mapping

import torch
from torch import nn


class Cut(nn.Module):
    """(N, 3, S, S) to the outputs (N, C, H, W) of the steps kept, in their order."""

    def __init__(self, steps: Mapping[str, nn.Module], kept: Collection[str]) -> None:
        """`steps`: {name: module}; nothing behind the last one kept is taken along."""
        super().__init__()
        last = max(index for index, name in enumerate(steps) if name in kept)
        self.steps = nn.ModuleList(list(steps.values())[: last + 1])
        self.keep = [name in kept for name in steps]

    def forward(self, maps: torch.Tensor) -> list[torch.Tensor]:
        outputs = []
        for step, keep in zip(self.steps, self.keep, strict=False):
            maps = step(maps)
            if keep:
                outputs.append(maps)
        return outputs
