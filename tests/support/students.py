"""A backbone with random weights and its features of smooth images, for the detectors that train a student."""

from functools import cache
from typing import Any

import numpy as np

from adshift.features.store import Features
from adshift.runtime.parallel import torch_threads

SIZE, LAYERS = (
    64,
    {"resnet18": ("layer1", "layer2", "layer3"), "tf_efficientnet_lite0": ("blocks.1", "blocks.2", "blocks.4")},
)
PREPROCESSING = {"resize": SIZE, "crop": None, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@cache
@torch_threads(1)
def network(backbone: str) -> Any:
    """The frozen teacher, of random weights."""
    import timm
    import torch

    torch.manual_seed(0)
    modules = [stage["module"] for stage in timm.create_model(backbone).feature_info]
    indices = [modules.index(name) for name in LAYERS[backbone]]
    return timm.create_model(backbone, features_only=True, out_indices=indices).eval().requires_grad_(False)


def images(count: int, seed: int = 0) -> np.ndarray:
    """(N, 64, 64, 3) uint8: one texture in random brightness."""
    generator = np.random.default_rng(seed)
    wave = np.sin(np.mgrid[:SIZE, :SIZE] / 5).sum(0)[None, :, :, None]
    light = generator.uniform(0.7, 1, (count, 1, 1, 3))
    return ((120 + 50 * wave + generator.normal(0, 8, (count, SIZE, SIZE, 3))) * light).clip(0, 255).astype(np.uint8)


def normalised(given: np.ndarray) -> Any:
    """The network's input: (N, 3, S, S)."""
    import torch

    mean, std = (np.array(PREPROCESSING[key], np.float32) for key in ("mean", "std"))
    return torch.from_numpy(((given / np.float32(255) - mean) / std).transpose(0, 3, 1, 2).copy())


@torch_threads(1)
def features(given: np.ndarray, backbone: str = "resnet18", kept: bool = False) -> Features:
    """The teacher's maps of some images, and the images if they are kept."""
    maps = [m.permute(0, 2, 3, 1).contiguous().numpy() for m in network(backbone)(normalised(given))]
    layers = [{"name": n, "shape": list(m.shape[1:])} for n, m in zip(LAYERS[backbone], maps, strict=True)]
    spec = {"backbone": backbone, "size": SIZE, "layers": layers, "preprocessing": PREPROCESSING}
    arrays = {0: given} if kept else {}
    names = [f"test/good/{index}" for index in range(len(given))]
    return Features.of(names, arrays | dict(enumerate(maps, 1)), spec | ({"images": "images.npy"} if kept else {}))
