"""The graph from an image of any size to score, anomaly map and verdict: the part that all methods share.

Notation: N images, S side of the network's input, or its height and width, H x W positions and C channels of a layer,
D channels of all layers.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from adshift.data.normalising import of_spec
from adshift.data.shapes import Size, sides
from adshift.deploy.export.inputs import Normalise, Resize
from adshift.detectors.resample import enlargement
from adshift.features.backbones import Backbone


class Constant(nn.Module):
    """An array stored in the graph."""

    value: torch.Tensor

    def __init__(self, array: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("value", torch.from_numpy(np.ascontiguousarray(array)))

    def forward(self) -> torch.Tensor:
        return self.value


class Enlarge(nn.Module):
    """(N, H, W) to (N, S, S), smoothed: `adshift.detectors.resample.enlarge`."""

    def __init__(self, height: int, width: int, size: Size, smoothing: float) -> None:
        super().__init__()
        high, wide = sides(size)
        self.rows = Constant(enlargement(height, high, smoothing))
        self.columns = Constant(enlargement(width, wide, smoothing).T)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.rows() @ maps @ self.columns()


class Graph(nn.Module):
    """Preprocessing, backbone and a detector's head.

    Args:
        backbone: gives the network, mean and standard deviation. Its activations no longer work in place afterwards.
        head: from a list of maps (N, C, H, W), one per layer, to scores (N,) and anomaly maps (N, S, S), float32.
        spec: of the features: network, layers, preprocessing.
        pixels: uint8 in 0 to 255, or float32 in 0 to 1.
        layout: of the images.
        threshold: score from which on an image is anomalous; None for a graph without a verdict.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        spec: Mapping[str, Any],
        pixels: str,
        layout: str,
        threshold: float | None = None,
    ) -> None:
        super().__init__()
        self.network, self.tiling, self.head, self.layout = backbone.network, backbone.tiling, head, layout
        for module in self.network.modules():
            if hasattr(module, "inplace"):
                module.inplace = False  # torch takes twice as long to trace an activation in place; the graph is equal
        self.pixels = pixels
        preprocessing = spec["preprocessing"]
        self.resize = Resize(preprocessing["resize"], preprocessing["crop"])
        reference = of_spec(preprocessing)
        self.normalise = Normalise(reference) if reference else nn.Identity()
        self.mean, self.std = Constant(backbone.mean.numpy()), Constant(backbone.std.numpy())
        self.rounded = spec["dtype"] == "float16"
        self.threshold = None if threshold is None else Constant(np.array(least_float32(threshold)))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Scores (N,), maps (N, S, S), features averaged over positions (N, D), verdicts (N,) if there is a threshold.

        Args:
            image: of any height and width.
        """
        if self.layout == "NHWC":
            image = image.permute(0, 3, 1, 2)
        levels = image.float() if self.pixels == "uint8" else torch.floor(image * 255 + 0.5)
        inputs = self.normalise(self.resize(levels))
        maps = self._maps((inputs / 255.0 - self.mean()) / self.std())
        # The model was fitted on stored features, which are rounded, so they are rounded here too.
        maps = [level.half().float() if self.rounded else level for level in maps]
        scores, full = self.head(maps)
        features = torch.cat([level.mean((2, 3)) for level in maps], 1)
        return (
            (scores, full, features) if self.threshold is None else (scores, full, features, scores >= self.threshold())
        )

    def _maps(self, image: torch.Tensor) -> list[torch.Tensor]:
        """As `Backbone.__call__`, for a normalized image (N, 3, h, w)."""
        if self.tiling is None:
            maps: list[torch.Tensor] = self.network(image)
            return maps
        tiles = [self.network(image[:, :, rows, columns]) for rows, columns in self.tiling.pixels()]
        whole = []
        for level in zip(*tiles, strict=True):
            rows, columns = self.tiling.parts(level[0].shape[-1])
            waiting = iter(level)
            bands = [torch.cat([next(waiting)[:, :, row, column] for _, column in columns], -1) for _, row in rows]
            whole.append(torch.cat(bands, -2))
        return whole


def least_float32(threshold: float) -> np.float32:
    """The least float32 that is at least `threshold`: a float32 score reaches both or neither."""
    near = np.float32(threshold)
    return near if float(near) >= threshold else np.nextafter(near, np.float32(np.inf))
