"""What a backbone costs: parameters, multiply-adds, bytes, time on the device.

None of it depends on the weights, so they are random.

Notation: S side of the network's input in pixels; H, W, C height, width, channels of a layer's map.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from adshift.features.backbones import USUAL_LAYERS, cut, families, untrained, usual_layers
from adshift.runtime import device
from adshift.runtime.parallel import torch_threads

WARM_UP = 3
USUAL_SIZE = 224  # pixels; the studies'


@dataclass(frozen=True)
class Cost:
    """Of a network and one image.

    Attributes:
        parameters: learned numbers.
        multiply_adds: of convolutions, matrix products and Dynamic Shift-Max, as the papers count them.
        bytes: of its state dict in float32, with the statistics of the normalisations.
    """

    parameters: int
    multiply_adds: int
    bytes: int


@dataclass(frozen=True)
class Profile:
    """A backbone's cost.

    Attributes:
        backbone: its name.
        size: S.
        layers: those kept.
        shapes: (H, W, C) of their maps.
        whole: of the network with its classifier.
        cut: up to the deepest layer kept, which is what runs here.
        seconds: of the cut network for one image, the median of the repeats.
        fastest: seconds of the fastest repeat, which other programs on the machine disturb least.
        threads: that it ran on.
        repeats: how often.
    """

    backbone: str
    size: int
    layers: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], ...]
    whole: Cost
    cut: Cost
    seconds: float
    fastest: float
    threads: int
    repeats: int


def usual_size(backbone: str) -> int:
    """S that a backbone was made for, or the studies'."""
    family = families.of(backbone)
    return family.sizes.get(backbone, USUAL_SIZE) if family else USUAL_SIZE


def describe(
    backbone: str, size: int | None = None, layers: Sequence[str] = (), *, threads: int = 1, repeats: int = 30
) -> Profile:
    """Count and time a backbone, by default at its usual size and cut at its usual layers. Needs no weights.

    Raises:
        AdshiftError: unknown backbone or layers.
    """
    import torch

    full = device.to_device(untrained(backbone))
    names = tuple(layers or usual_layers(backbone))
    network = device.to_device(cut(full, backbone, names))
    size = size or usual_size(backbone)
    if hasattr(network, "resize"):
        full.set_input_size(img_size=(size, size))
        network.resize(size)
    image = device.to_device(torch.zeros(1, 3, size, size)).contiguous(memory_format=torch.channels_last)
    with torch_threads(threads), torch.inference_mode():
        whole, part = _cost(full, image), _cost(network, image)
        shapes = tuple((*maps.shape[2:], maps.shape[1]) for maps in network(image))
        seconds = [_seconds(network, image) for _ in range(WARM_UP + repeats)][WARM_UP:]
    return Profile(backbone, size, names, shapes, whole, part, median(seconds), min(seconds), threads, repeats)


def profiles(backbones: Sequence[str] = (), *, threads: int = 1, repeats: int = 30) -> Iterator[Profile]:
    """Of the backbones named, by default all that have usual layers, as `describe`."""
    for backbone in backbones or USUAL_LAYERS:
        yield describe(backbone, threads=threads, repeats=repeats)


def row(profile: Profile) -> dict[str, str | int | float]:
    """A profile as a row of a table."""
    parts = {"": profile.whole, "cut_": profile.cut}
    return {
        "backbone": profile.backbone,
        "size": profile.size,
        "layers": " ".join(profile.layers),
        "maps": " ".join("x".join(map(str, shape)) for shape in profile.shapes),
        **{f"{prefix}{name}": value for prefix, cost in parts.items() for name, value in vars(cost).items()},
        "cut_milliseconds": round(1000 * profile.seconds, 2),
        "cut_milliseconds_fastest": round(1000 * profile.fastest, 2),
        "threads": profile.threads,
    }


def _seconds(network: Any, image: Any) -> float:
    device.synchronize()
    start = time.perf_counter()
    network(image)
    device.synchronize()
    return time.perf_counter() - start


def _cost(network: Any, image: Any) -> Cost:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, _elementwise(network) as extra:
        network(image)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    return Cost(parameters, counter.get_total_flops() // 2 + sum(extra), size)  # torch counts both as an operation


@contextmanager
def _elementwise(network: Any) -> Iterator[list[int]]:
    """Multiply-adds of modules that count their own, since torch counts products of matrices and convolutions alone."""
    extra: list[int] = []
    hooks = [
        module.register_forward_hook(lambda module, _, out: extra.append(module.multiply_adds(out)))
        for module in network.modules()
        if hasattr(module, "multiply_adds")
    ]
    try:
        yield extra
    finally:
        for hook in hooks:
            hook.remove()
