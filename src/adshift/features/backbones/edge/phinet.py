"""PhiNet (Paissan et al., "PhiNets: A Scalable Backbone for Low-power AI at the Edge", ACM TECS 2022).

Inverted residuals with squeeze-and-excitation, scaled by width alpha, expansion t0 and its course beta.

Parameters are named as in the authors' checkpoints, which count every step of a block, those without parameters too
(`_layers.6._layers.7.se_conv.weight`). Layer `_layers.6` is the output of the seventh step of the network, counted from
0: 0 pads, 1 is the separable stem, 2 the block that does not widen, 3 the paper's block 1, and so on.
"""

from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import make_divisible
from torch import nn
from torch.nn import functional

STEM, NARROW, WIDE = 48, 24, 48  # channels at alpha 1: of the stem, blocks 0 to 2, block 3
EPS = 1e-3


@dataclass(frozen=True)
class Variant:
    """How a PhiNet is scaled.

    Attributes:
        alpha: width, a factor on all channels.
        beta: expansion of the last block as a share of the first one's.
        t0: expansion before the first block.
        blocks: number of those that widen.
        halving: blocks, counted from 1, that halve the maps and double the channels, beside 1 and 3, which halve them.
        divisor: channels are rounded to a multiple of it.
    """

    alpha: float
    beta: float
    t0: float
    blocks: int = 7
    halving: tuple[int, ...] = (5, 7)
    divisor: int = 8

    def channels(self, base: int) -> int:
        """`base` channels at this width."""
        return self.rounded(base * self.alpha)

    def rounded(self, channels: float) -> int:
        return make_divisible(int(channels), self.divisor)

    def expansion(self, block: int) -> float:
        """Of a block counted from 1: falls (or rises) linearly from t0 to beta t0."""
        return self.t0 * self.beta * block / self.blocks + self.t0 * (self.blocks - block) / self.blocks


VARIANTS = {
    "phinet_2.3_0.75_5": Variant(2.3, 0.75, 5),
    "phinet_1.2_0.5_6_downsampling": Variant(1.2, 0.5, 6, halving=(4, 5, 7)),
    "phinet_0.8_0.75_8_downsampling": Variant(0.8, 0.75, 8, halving=(4, 5, 7)),
    "phinet_1.3_0.5_7_downsampling": Variant(1.3, 0.5, 7, halving=(4, 5, 7)),
    "phinet_0.9_0.5_4_downsampling": Variant(0.9, 0.5, 4, halving=(4, 5, 7)),
    "phinet_0.9_0.5_4_downsampling_deep": Variant(0.9, 0.5, 4, blocks=9, halving=(4, 5, 7)),
}


class Steps(nn.Module):
    """Modules run one after another, numbered as the authors do; what came in is added if asked for."""

    def __init__(self, *modules: nn.Module, shortcut: bool = False) -> None:
        super().__init__()
        self._layers = nn.ModuleList(modules)
        self.shortcut = shortcut

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out = maps
        for layer in self._layers:
            out = layer(out)
        return out + maps if self.shortcut else out


class Pad(nn.Module):
    """A border of zeros, so that the stem's stride halves odd and even sizes alike."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        return functional.pad(images, (width % 2, 1, height % 2, 1))


class SqueezeExcite(nn.Module):
    """Channels weighted by what is in the whole map."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.se_conv = nn.Conv2d(channels, squeezed, 1, bias=False)
        self.se_conv2 = nn.Conv2d(squeezed, channels, 1, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        weights = self.se_conv2(functional.hardswish(self.se_conv(maps.mean((2, 3), keepdim=True))))
        return maps * weights.sigmoid()


def _normalised(inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs, EPS)]


def _block(variant: Variant, inputs: int, outputs: int, block: int, stride: int) -> Steps:
    """Widen, filter each channel, weigh the channels, narrow (figure 2); block 0 neither widens nor weighs."""
    wide = variant.rounded(variant.expansion(block) * inputs) if block else inputs

    return Steps(
        *([*_normalised(inputs, wide, 1), nn.Hardswish()] if block else []),
        nn.Identity(),  # dropout, while the authors trained
        *_normalised(wide, wide, 3, stride, groups=wide),
        nn.Hardswish(),
        *([SqueezeExcite(wide, variant.rounded(max(1, wide / 6)))] if block else []),
        *_normalised(wide, outputs, 1),
        shortcut=stride == 1 and inputs == outputs,
    )


class PhiNet(nn.Module):
    """(N, 3, S, S) to (N, classes)."""

    def __init__(self, variant: Variant, classes: int = 1000) -> None:
        super().__init__()
        stem, narrow = variant.channels(STEM), variant.channels(NARROW)
        separable = [nn.Conv2d(3, 3, 3, 2, groups=3, bias=False), nn.Conv2d(3, stem, 1, bias=False)]
        self._layers = nn.ModuleList(
            [
                Pad(),
                Steps(*separable, nn.BatchNorm2d(stem, EPS), nn.Hardswish()),
                _block(variant, stem, narrow, 0, 1),
                _block(variant, narrow, narrow, 1, 2),
                _block(variant, narrow, narrow, 2, 1),
                _block(variant, narrow, variant.channels(WIDE), 3, 2),
            ]
        )
        base, channels = WIDE, variant.channels(WIDE)
        for block in range(4, variant.blocks + 1):
            halving = block in variant.halving
            base *= 2 if halving else 1
            self._layers.append(_block(variant, channels, variant.channels(base), block, 2 if halving else 1))
            channels = variant.channels(base)
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))

    def steps(self) -> dict[str, nn.Module]:
        """Layers in the order in which they run."""
        return {f"_layers.{i}": layer for i, layer in enumerate(self._layers)}

    def forward(self, images: torch.Tensor) -> Any:
        maps = images
        for step in self.steps().values():
            maps = step(maps)
        return self.classifier(maps)


def build(name: str) -> PhiNet:
    """The untrained network of that name."""
    return PhiNet(VARIANTS[name])
