"""What comes before the network, as part of the graph: resizing, the centre crop and normalized intensities.

The resizing is Pillow's bilinear filter, antialiased: columns, then rows, each rounded to whole grey levels. Both
are products with small matrices that the graph computes from the image's height and width. (ONNX's own `Resize` with
antialiasing differs by up to 12 grey levels in onnxruntime.) The bytes are Pillow's. Pillow 13 resizes rows first in
images that lose more than twice as many rows as columns, H - h > 2 (W - w), and so does the graph.

Notation: N images of H x W pixels, of any size, h x w pixels of the network's input before the crop.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from adshift.data.normalising import GAIN, LEVELS, TRIMMED, Reference
from adshift.data.shapes import Size, sides

BITS = 11  # Pillow rounds its weights to 2 * BITS binary places


class Resize(nn.Module):
    """(N, 3, H, W) float32 grey levels to (N, 3, rows, columns) whole ones: `adshift.data.geometry.fit`."""

    def __init__(self, resize: Size, crop: Size | None) -> None:
        super().__init__()
        self.height, self.width = sides(resize)
        self.rows, self.columns = sides(resize if crop is None else crop)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        height, width = (torch.full((), side) for side in image.shape[2:])
        rows_first = (height > self.height) & (height - self.height > 2 * (width - self.width))
        # With all products inside the branches, OpenVINO 2026.4 computed a wrong result at its first inference.
        image = torch.cond(rows_first, self._fit_rows, _copied, (image,))
        image = self._fit_rows(self._fit_columns(image))  # rows that fit already stay as they are, to the byte
        top, left = round((self.height - self.rows) / 2), round((self.width - self.columns) / 2)
        return image[:, :, top : top + self.rows, left : left + self.columns]

    def _fit_rows(self, image: torch.Tensor) -> torch.Tensor:
        high, low = _weights(image.shape[2], self.height)
        return _rounded(high @ image, low @ image)

    def _fit_columns(self, image: torch.Tensor) -> torch.Tensor:
        high, low = _weights(image.shape[3], self.width)
        return _rounded(image @ high.T, image @ low.T)


def _copied(image: torch.Tensor) -> torch.Tensor:
    """Branches may not return their input, and both need the same order in memory."""
    return image.clone(memory_format=torch.contiguous_format)


def _weights(given: Any, wanted: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The triangle filter around each centre, as wide as a step if that is more than a pixel: (wanted, given) float32.

    Whole numbers only: the weights are high / 2^BITS + low / 2^(2 BITS). So products with grey levels are exact in
    float32, and runtimes without float64 or int64 compute the same bytes.
    """
    pixels = (2 * torch.arange(given) + 1) * wanted  # in units of 1 / (2 wanted) pixels, as all that follows
    centres = (2 * torch.arange(wanted) + 1) * given
    reach = torch.maximum(torch.full((1,), 2 * given), torch.full((1,), 2 * wanted))
    triangle = (reach - (pixels[None] - centres[:, None]).abs()).clamp(min=0)
    total = triangle.sum(1, keepdim=True)
    high, rest = _divided(triangle << BITS, total)
    low, rest = _divided(rest << BITS, total)
    return high.float(), (low + (2 * rest >= total)).float()


def _divided(values: torch.Tensor, by: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    quotient = torch.div(values, by, rounding_mode="floor")
    return quotient, values - quotient * by


def _rounded(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """high / 2^BITS + low / 2^(2 BITS), half a level up: every intermediate value is a whole number below 2^24."""
    return torch.floor((high + torch.floor(low / 2**BITS) + 2 ** (BITS - 1)) / 2**BITS)


class Normalise(nn.Module):
    """Intensities brought to a model's reference: `adshift.data.normalising.Reference`, a table of levels an image."""

    given: torch.Tensor
    levels: torch.Tensor

    def __init__(self, reference: Reference) -> None:
        super().__init__()
        given = reference.quantiles if reference.quantiles else (reference.mean, reference.std)
        self.kind = reference.kind
        self.register_buffer("given", torch.tensor(np.array(given, np.float32)))
        self.register_buffer("levels", torch.arange(LEVELS, dtype=torch.float32))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, 3, h, w) whole grey levels, float32, to the same."""
        flat = image.flatten(2).long()
        counts = torch.zeros(flat.shape[0], 3, LEVELS).scatter_add(2, flat, torch.ones_like(image.flatten(2)))
        table = self._histogram(counts) if self.kind == "histogram" else self._moments(counts)
        return table.clamp(0, LEVELS - 1).round().gather(2, flat).reshape(image.shape)

    def _moments(self, counts: torch.Tensor) -> torch.Tensor:
        total = counts.cumsum(2)
        low, high = ((total < total[..., -1:] * (percent / 100)).sum(2, keepdim=True).float() for percent in TRIMMED)
        kept = counts * ((self.levels >= low) & (self.levels <= high))
        count = kept.sum(2, keepdim=True)
        mean = (kept * self.levels).sum(2, keepdim=True) / count
        std = ((kept * (self.levels - mean).square()).sum(2, keepdim=True) / count).sqrt()
        wanted_mean, wanted_std = self.given[0].reshape(1, 3, 1), self.given[1].reshape(1, 3, 1)
        gain = torch.where(std > 0, (wanted_std / std).clamp(1 / GAIN, GAIN), 1.0)
        return (self.levels - mean) * gain + wanted_mean

    def _histogram(self, counts: torch.Tensor) -> torch.Tensor:
        ranks = (counts.cumsum(2) - counts / 2) / counts.sum(2, keepdim=True)
        position = (ranks * LEVELS - 0.5).clamp(0, LEVELS - 1)
        below = position.floor().clamp(max=LEVELS - 2)
        quantiles = self.given.unsqueeze(0).expand(counts.shape[0], -1, -1)
        first, second = (quantiles.gather(2, index.long()) for index in (below, below + 1))
        return first + (position - below) * (second - first)
