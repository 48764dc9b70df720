"""Random features and points for the memory banks' tests."""

from typing import Any

import numpy as np

from adshift.features.store import Features

FIT: dict[str, Any] = {
    "layers": (2, 3), "pool": 3, "stride": 1, "projection": 8, "coreset": 0.2, "chunk_patches": None,
    "metric": "euclidean", "index": "exact",
}  # fmt: skip


def features(count: int, seed: int = 0, sides: tuple[tuple[int, int], ...] = ((16, 16), (8, 8), (4, 4))) -> Features:
    """Smooth random maps of three layers with 3, 5 and 7 channels."""
    generator = np.random.default_rng(seed)
    arrays, layers = {}, []
    for level, (side, channels) in enumerate(zip(sides, (3, 5, 7), strict=True), start=1):
        maps = generator.normal(size=(count, *side, channels)).cumsum(axis=1).cumsum(axis=2) / 4
        arrays[level] = maps.astype(np.float16)
        layers.append({"name": f"layer{level}", "shape": [*side, channels]})
    return Features.of([f"{seed}/{i}" for i in range(count)], arrays, {"size": 32, "layers": layers})


def clustered(total: int, dimensions: int, seed: int = 0) -> np.ndarray:
    """Points as features are: clusters of unequal size in a few of many directions, far from the origin."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(20, dimensions)) * 3
    spread = np.geomspace(1, 0.01, dimensions)
    which = generator.choice(20, total, p=generator.dirichlet(np.ones(20)))
    return (centres[which] + generator.normal(size=(total, dimensions)) * spread + 5).astype(np.float32)


def plain(points: np.ndarray, count: int, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Farthest-point sampling by the book: picks and squared radii."""
    points = points.astype(np.float64)
    picks, radii, keys = [start], [], np.full(len(points), np.inf)
    while True:
        squared = np.zeros(len(points))
        for dimension in range(points.shape[1]):
            squared += (points[:, dimension] - points[picks[-1], dimension]) ** 2
        keys = np.minimum(keys, squared)
        keys[picks] = -1.0
        radii.append(max(keys.max(), 0.0))
        if len(picks) == count:
            return np.array(picks), np.array(radii)
        picks.append(int(keys.argmax()))
