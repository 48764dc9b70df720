"""Feature maps for the detectors of PaDiM's family, and the embedding of them by other means than ours."""

import numpy as np

from adshift.features.store import Features

SHAPES = ((12, 12, 6), (6, 6, 8), (3, 3, 10))


def features(count: int, seed: int = 0, dtype: type = np.float16) -> Features:
    """Correlated random maps with an offset to which a careless variance would lose its digits."""
    generator = np.random.default_rng(seed)
    maps = {}
    for level, (height, width, channels) in enumerate(SHAPES, start=1):
        mixing = np.random.default_rng(level).normal(size=(channels, channels))
        maps[level] = (30 + generator.normal(size=(count, height, width, channels)) @ mixing).astype(dtype)
    layers = [{"name": f"layer{level}", "shape": list(shape)} for level, shape in enumerate(SHAPES, start=1)]
    spec = {"backbone": "none", "size": 48, "layers": layers}
    return Features.of([f"test/good/{index}" for index in range(count)], maps, spec)


def embedding(given: Features, channels: np.ndarray) -> np.ndarray:
    """PaDiM's embedding of all three levels: (N, P, D) float64."""
    maps = [given.maps(level).astype(np.float64) for level in (1, 2, 3)]
    large = [m.repeat(12 // m.shape[1], 1).repeat(12 // m.shape[2], 2) for m in maps]
    return np.concatenate(large, axis=-1).reshape(len(given), 144, -1)[..., channels]
