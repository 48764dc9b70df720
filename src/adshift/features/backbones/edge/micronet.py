"""MicroNet (Li et al., "MicroNet: Improving Image Recognition with Extremely Low FLOPs", ICCV 2021).

Convolutions factorised into low-rank, grouped ones (section 3), and Dynamic Shift-Max (section 4), an activation that
mixes each channel with one a circular shift away, by weights that depend on the image.

Parameters are named as in the authors' checkpoints (`features.4.layers.5.fc.0.weight`), which number every step of a
block, those without parameters too. Layer `features.2` is the output of the second micro-block: `features.0` is the
stem.

Notation: N images, C channels, G groups.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import make_divisible
from torch import nn
from torch.nn import functional

REDUCTION = 8  # of the channels, in the two layers that see the whole map
REACH = 4.0  # the dynamic weights leave their start by at most half of it


@dataclass(frozen=True)
class Block:
    """A micro-block (figure 5).

    Attributes:
        stride: of its spatial filters.
        channels: that leave it.
        kernel: side of its spatial filters, pixels.
        widening: channels of the rows' and of the columns' filters for each channel before them.
        inner: groups of the first pointwise convolution, 0 where there is none (Micro-Block-A), and of the shuffle
            behind the wide part.
        outer: groups of the last pointwise convolution, 0 where there is none (the last block), and of the shuffle
            behind it.
        dynamic: for the three activations 0 for a plain one or none, 1 for Shift-Max with one fusion, 2 with two.
        ratio: a factor on REDUCTION.
    """

    stride: int
    channels: int
    kernel: int
    widening: tuple[int, int]
    inner: tuple[int, int]
    outer: tuple[int, int]
    dynamic: tuple[int, int, int]
    ratio: int


def _blocks(dynamic: tuple[int, int, int], *rows: tuple[int, ...]) -> tuple[Block, ...]:
    """Rows (stride, channels, kernel, widening x 2, inner x 2, outer groups, ratio); both outer groups are equal."""
    return tuple(Block(s, c, k, (e, f), (g, h), (o, o), dynamic, r) for s, c, k, e, f, g, h, o, r in rows)


@dataclass(frozen=True)
class Variant:
    """A MicroNet.

    Attributes:
        stem: channels of the rows' filters, and for each of them of the columns'.
        head: channels before the classifier.
        start: the weights (of the channel, of the shifted one) that two fusions start from, one pair a fusion.
        blocks: in their order (table 1).
    """

    stem: tuple[int, int]
    head: int
    start: tuple[tuple[float, float], tuple[float, float]]
    blocks: tuple[Block, ...]


MAX = ((1.0, 0.0), (1.0, 0.0))
FIRST, ALL, ONE = (2, 0, 1), (2, 2, 1), (0, 2, 0)
VARIANTS = {
    "micronet-m0": Variant((2, 2), 640, MAX, (
        *_blocks(FIRST, (2, 8, 3, 2, 2, 0, 4, 2, 1)),
        *_blocks(
            ALL,
            (2, 12, 3, 2, 2, 0, 8, 4, 1),
            (2, 16, 5, 2, 2, 0, 12, 4, 1),
            (1, 32, 5, 1, 4, 4, 4, 4, 1),
            (2, 64, 5, 1, 4, 8, 8, 8, 1),
            (1, 96, 3, 1, 4, 8, 8, 8, 2),
            (1, 384, 3, 1, 4, 12, 12, 0, 2),
        ),
    )),
    "micronet-m1": Variant((3, 2), 960, MAX, (
        *_blocks(FIRST, (2, 8, 3, 2, 2, 0, 6, 2, 1)),
        *_blocks(
            ALL,
            (2, 16, 3, 2, 2, 0, 8, 4, 1),
            (2, 16, 5, 2, 2, 0, 16, 4, 1),
            (1, 32, 5, 1, 6, 4, 4, 4, 1),
            (2, 64, 5, 1, 6, 8, 8, 8, 1),
            (1, 96, 3, 1, 6, 8, 8, 8, 2),
            (1, 576, 3, 1, 6, 12, 12, 0, 2),
        ),
    )),
    "micronet-m2": Variant((4, 2), 1024, MAX, (
        *_blocks(FIRST, (2, 12, 3, 2, 2, 0, 8, 4, 1)),
        *_blocks(
            ALL,
            (2, 16, 3, 2, 2, 0, 12, 4, 1),
            (1, 24, 3, 2, 2, 0, 16, 4, 1),
            (2, 32, 5, 1, 6, 6, 6, 4, 1),
            (1, 32, 5, 1, 6, 8, 8, 4, 2),
            (1, 64, 5, 1, 6, 8, 8, 8, 2),
            (2, 96, 5, 1, 6, 8, 8, 8, 2),
            (1, 128, 3, 1, 6, 12, 12, 8, 2),
            (1, 768, 3, 1, 6, 16, 16, 0, 2),
        ),
    )),
    "micronet-m3": Variant((4, 3), 1024, ((1.0, 0.0), (0.5, 0.5)), _blocks(
        ONE,
        (2, 16, 3, 2, 2, 0, 12, 4, 1),
        (2, 24, 3, 2, 2, 0, 16, 4, 1),
        (1, 24, 3, 2, 2, 0, 24, 4, 1),
        (2, 32, 5, 1, 6, 6, 6, 4, 1),
        (1, 32, 5, 1, 6, 8, 8, 4, 2),
        (1, 64, 5, 1, 6, 8, 8, 8, 2),
        (1, 80, 5, 1, 6, 8, 8, 8, 2),
        (1, 80, 5, 1, 6, 10, 10, 8, 2),
        (2, 120, 5, 1, 6, 10, 10, 10, 2),
        (1, 120, 5, 1, 6, 12, 12, 10, 2),
        (1, 144, 3, 1, 6, 12, 12, 12, 2),
        (1, 864, 3, 1, 6, 12, 12, 0, 2),
    )),
}  # fmt: skip


class ShiftMax(nn.Module):
    """Dynamic Shift-Max (equations 8 and 9): the largest of K weighted sums of a channel and a shifted one.

    The shift is by one group and one channel within the group (the authors' code), K is 2, or 1 for a mere fusion.
    """

    shift: torch.Tensor

    def __init__(self, channels: int, groups: int, reduction: int, start: tuple[tuple[float, float], ...]) -> None:
        super().__init__()
        self.start = start
        squeezed = make_divisible(channels // reduction, 4)
        self.fc = nn.Sequential(
            nn.Linear(channels, squeezed),
            nn.ReLU(),
            nn.Linear(squeezed, channels * 2 * len(start)),
            nn.Hardsigmoid(),
        )
        shift = torch.arange(channels).view(groups, -1).roll((-1, -1), (0, 1)).flatten()
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        weights = (self.fc(maps.mean((2, 3))) - 0.5) * REACH
        shifted = maps[:, self.shift]
        parts = [part[..., None, None] for part in weights.chunk(2 * len(self.start), 1)]
        fused = [
            maps * (own + a) + shifted * (other + b)
            for own, other, (a, b) in zip(parts[::2], parts[1::2], self.start, strict=True)
        ]
        return fused[0] if len(fused) == 1 else torch.maximum(*fused)

    def multiply_adds(self, out: torch.Tensor) -> int:
        """Two for each fusion and value; the paper counts them in."""
        return 2 * len(self.start) * out.numel()


def _under(name: str, *modules: nn.Module) -> nn.Sequential:
    """One module of this name that holds them all: the authors' wrapper, which parameters' names show."""
    return nn.Sequential(OrderedDict([(name, nn.Sequential(*modules))]))


def _pointwise(inputs: int, outputs: int, groups: int) -> nn.Sequential:
    """One of the two grouped factors of a pointwise convolution (section 3.1)."""
    return _under("conv", nn.Conv2d(inputs, outputs, 1, groups=groups, bias=False), nn.BatchNorm2d(outputs))


def _spatial(
    inputs: int, widening: tuple[int, int], kernel: int, stride: int, *more: nn.Module, first_groups: int
) -> nn.Sequential:
    """A kernel x kernel filter as one of rows and one of columns (section 3.2), each widening the channels."""
    rows = widening[0] * first_groups
    columns, pad = rows * widening[1], kernel // 2
    return _under(
        "conv",
        nn.Conv2d(inputs, rows, (kernel, 1), (stride, 1), (pad, 0), groups=first_groups, bias=False),
        nn.BatchNorm2d(rows),
        nn.Conv2d(rows, columns, (1, kernel), (1, stride), (0, pad), groups=rows, bias=False),
        nn.BatchNorm2d(columns),
        *more,
    )


def _shuffle(groups: int) -> nn.Module:
    return nn.ChannelShuffle(groups) if groups else nn.Identity()


class MicroBlock(nn.Module):
    """Micro-Block-A (wide filters, then a narrowing), -B or -C (pointwise, filters, pointwise), or the last one."""

    def __init__(self, inputs: int, block: Block, start: tuple[tuple[float, float], tuple[float, float]]) -> None:
        super().__init__()
        wide, out = inputs * block.widening[0] * block.widening[1], block.channels
        before, between, after = block.dynamic
        reduction = REDUCTION * block.ratio

        def activation(fusions: int, groups: int) -> nn.Module:
            return ShiftMax(wide, groups, reduction, start[:fusions]) if fusions else nn.ReLU6()

        def last(channels: int, groups: int, reduction: int) -> nn.Module:
            return ShiftMax(channels, groups, reduction, ((1.0, 0.0),)) if after else nn.Identity()

        def narrowing(reduction: int) -> list[nn.Module]:
            return [
                _pointwise(wide, out, block.outer[0]),
                last(out, block.outer[1], reduction),
                _shuffle(block.outer[1]),
                _shuffle(out // 2 if after else 0),
            ]

        if not block.inner[0]:
            steps = [
                _spatial(inputs, block.widening, block.kernel, block.stride, first_groups=inputs),
                activation(between, block.inner[1]),
                _shuffle(block.inner[1]),
                _shuffle(wide // 2 if between else 0),
                *narrowing(reduction // 2),
            ]
        elif not block.outer[1]:
            steps = [_pointwise(inputs, wide, block.inner[0]), last(wide, block.inner[1], reduction)]
        else:
            dynamic = bool(before) + bool(between)
            steps = [
                _pointwise(inputs, wide, block.inner[0]),
                activation(before, block.inner[1]),
                _shuffle(block.inner[1]),
                _spatial(wide, (1, 1), block.kernel, block.stride, first_groups=wide),
                nn.Identity(),
                # Behind the shuffle a group's channels lie apart: the shift is in groups the other way round.
                activation(between, wide // block.inner[1]),
                _shuffle(wide // (2 * dynamic) if dynamic else 0),
                *narrowing(reduction // 2 if out < wide else reduction),
            ]
        self.layers = nn.Sequential(*steps)
        self.shortcut = block.stride == 1 and inputs == out

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out = self.layers(maps)
        return out + maps if self.shortcut else out


def _dense(inputs: int, outputs: int) -> nn.Sequential:
    return _under("linear", nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.Hardswish())


class MicroNet(nn.Module):
    """The network of a name in `VARIANTS`: (N, 3, S, S) to (N, classes)."""

    def __init__(self, name: str, classes: int = 1000) -> None:
        super().__init__()
        variant = VARIANTS[name]
        rows, channels = variant.stem[0], variant.stem[0] * variant.stem[1]
        stem = _spatial(3, variant.stem, 3, 2, nn.ChannelShuffle(rows), first_groups=1)
        self.features = nn.Sequential(_under("stem", stem, nn.ReLU6()))
        for block in variant.blocks:
            self.features.append(MicroBlock(channels, block, variant.start))
            channels = block.channels
        self.classifier = nn.Sequential(_dense(channels, variant.head), nn.Identity(), _dense(variant.head, classes))

    def steps(self) -> dict[str, nn.Module]:
        """Layers in the order in which they run."""
        return {f"features.{i}": step for i, step in enumerate(self.features)}

    def forward(self, images: torch.Tensor) -> Any:
        maps = functional.relu6(self.features(images)).mean((2, 3))
        return self.classifier(functional.hardswish(maps))


def build(name: str) -> MicroNet:
    """The untrained network of that name."""
    return MicroNet(name)
