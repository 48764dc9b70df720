"""Locally aware patch features (PatchCore, section 3.1): the neighbourhood of every position, over several levels."""

from collections.abc import Iterable

import numpy as np

from adshift.detectors.resample import average_pool, bilinear
from adshift.features.store import Features


def locally_aware(features: Features, levels: Iterable[int], pool: int, stride: int) -> np.ndarray:
    """Means of pool x pool neighbourhoods of all levels, on the grid of the first: (N, H, W, D) float32."""
    grid: tuple[int, ...] = ()
    parts = []
    for level in levels:
        maps = features.maps(level)
        count, high, wide, channels = maps.shape
        means = [average_pool(side, pool, stride) for side in (high, wide)]
        grid = grid or (len(means[0]), len(means[1]))
        # Averaging and enlarging are linear: one small matrix per side does both.
        rows, columns = (bilinear(len(matrix), side) @ matrix for matrix, side in zip(means, grid, strict=True))
        tall = rows @ maps.reshape(count, high, wide * channels)
        parts.append(columns @ tall.reshape(count, grid[0], wide, channels))
    return np.concatenate(parts, axis=-1)
