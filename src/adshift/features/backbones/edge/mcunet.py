"""MCUNet (Lin et al., "MCUNet: Tiny Deep Learning on IoT Devices", NeurIPS 2020): inverted residuals found by search.

Parameters are named as in the authors' checkpoints (`blocks.3.mobile_inverted_conv.depth_conv.conv.weight`).
Layer `blocks.3` is the output of the fourth inverted residual block, counted from 0; the stem is `first_conv`.
tests/unit/features/test_backbones.py holds this against the authors' own package.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

# What the search found: channels of the stem, then a block each as (expansion, channels, stride, kernel).
ARCHITECTURES: dict[str, tuple[int, tuple[tuple[int, int, int, int], ...]]] = {
    "mcunet-in0": (24, (
        (1, 16, 1, 3),
        (4, 16, 2, 5), (3, 16, 1, 3), (4, 16, 1, 3),
        (5, 24, 2, 7), (4, 24, 1, 5), (5, 24, 1, 5),
        (5, 48, 2, 7), (4, 48, 1, 5), (5, 56, 1, 3), (4, 56, 1, 5), (5, 56, 1, 3),
        (6, 112, 2, 3), (4, 112, 1, 5), (6, 192, 1, 3),
    )),
    "mcunet-in1": (16, (
        (1, 8, 1, 3),
        (4, 16, 2, 3), (3, 16, 1, 3),
        (3, 24, 2, 7), (5, 24, 1, 3),
        (5, 40, 2, 3), (4, 40, 1, 7), (4, 48, 1, 5), (3, 48, 1, 3), (4, 48, 1, 3),
        (5, 96, 2, 7), (4, 96, 1, 5), (4, 96, 1, 5), (6, 160, 1, 3),
    )),
    "mcunet-in2": (16, (
        (1, 8, 1, 3),
        (3, 16, 2, 5), (6, 16, 1, 7), (5, 16, 1, 3), (5, 16, 1, 5),
        (5, 24, 2, 3), (6, 24, 1, 7), (6, 24, 1, 5),
        (4, 40, 2, 7), (5, 40, 1, 5), (5, 48, 1, 3), (5, 48, 1, 5), (4, 48, 1, 3),
        (6, 96, 2, 5), (4, 96, 1, 5), (3, 96, 1, 5), (4, 96, 1, 3), (5, 160, 1, 5),
    )),
    "mcunet-in3": (16, (
        (1, 8, 1, 3),
        (3, 16, 2, 7), (5, 16, 1, 3), (5, 16, 1, 7), (4, 16, 1, 5),
        (5, 24, 2, 5), (5, 24, 1, 5), (5, 24, 1, 5),
        (5, 40, 2, 3), (6, 40, 1, 7), (4, 40, 1, 5), (5, 48, 1, 5), (5, 48, 1, 7), (5, 48, 1, 3),
        (6, 96, 2, 3), (5, 96, 1, 7), (4, 96, 1, 3), (5, 160, 1, 7),
    )),
    "mcunet-in4": (32, (
        (1, 16, 1, 3),
        (3, 24, 2, 7), (5, 24, 1, 3), (4, 24, 1, 5),
        (5, 40, 2, 7), (4, 40, 1, 3), (4, 40, 1, 7),
        (3, 80, 2, 7), (3, 80, 1, 3), (3, 80, 1, 7), (4, 96, 1, 3), (3, 96, 1, 5), (3, 96, 1, 5),
        (4, 192, 2, 7), (3, 192, 1, 7), (3, 192, 1, 5), (4, 320, 1, 5),
    )),
}  # fmt: skip


def _named(parts: Iterable[tuple[str, nn.Module]]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(parts))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return _named([("conv", convolution), ("bn", nn.BatchNorm2d(outputs)), ("act", nn.ReLU6())])


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; what came in is added where its shape is kept."""

    def __init__(self, inputs: int, expansion: int, outputs: int, stride: int, kernel: int) -> None:
        super().__init__()
        wide = inputs * expansion
        parts = [
            ("inverted_bottleneck", _convolution(inputs, wide, 1)),
            ("depth_conv", _convolution(wide, wide, kernel, stride, groups=wide)),
            ("point_linear", _convolution(wide, outputs, 1)[:2]),  # linear: no activation
        ]
        self.mobile_inverted_conv = _named(parts if expansion > 1 else parts[1:])
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out = self.mobile_inverted_conv(maps)
        return out + maps if self.shortcut else out


class MCUNet(nn.Module):
    """The network of a name in `ARCHITECTURES`: (N, 3, S, S) to (N, classes)."""

    def __init__(self, name: str, classes: int = 1000) -> None:
        super().__init__()
        channels, blocks = ARCHITECTURES[name]
        self.first_conv = _convolution(3, channels, 3, 2)
        self.blocks = nn.ModuleList()
        for expansion, outputs, stride, kernel in blocks:
            self.blocks.append(InvertedResidual(channels, expansion, outputs, stride, kernel))
            channels = outputs
        self.classifier = _named([("linear", nn.Linear(channels, classes))])

    def steps(self) -> dict[str, nn.Module]:
        """Layers in the order in which they run."""
        return {"first_conv": self.first_conv, **{f"blocks.{i}": block for i, block in enumerate(self.blocks)}}

    def forward(self, images: torch.Tensor) -> Any:
        maps = images
        for step in self.steps().values():
            maps = step(maps)
        return self.classifier(maps.mean((2, 3)))


def build(name: str) -> MCUNet:
    """The untrained network of that name."""
    return MCUNet(name)
