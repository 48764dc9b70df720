"""Reproducible training for detectors: one thread, one seed, batches in random order, networks as arrays."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from adshift.features.store import Features
from adshift.runtime import device
from adshift.runtime.parallel import progress, torch_threads

SMALLER = "set a smaller batch of the method in params.yaml, or ADSHIFT_DEVICE=cpu"


def tensor(maps: np.ndarray) -> Any:
    """(N, H, W, C) maps as a tensor (N, C, H, W) on the device, in torch's channels-last format.

    On the processor it is over the same memory.
    """
    import torch

    return device.to_device(torch.from_numpy(maps)).permute(0, 3, 1, 2)


def warm_up() -> None:
    """Load what `reproducible` needs, which takes seconds."""
    with reproducible(np.random.default_rng(0)):
        pass


@contextmanager
def reproducible(generator: np.random.Generator) -> Iterator[None]:
    """Within: torch has one thread, a seed from `generator` and deterministic algorithms.

    Raises:
        AdshiftError: the card's memory is full.
    """
    import torch

    strict = torch.are_deterministic_algorithms_enabled()
    # On one thread: sums in another order would change the model's bytes.
    with torch.random.fork_rng(devices=[]), torch_threads(1), device.explained("training", SMALLER):
        torch.manual_seed(int(generator.integers(2**63)))
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(strict)


def descend(
    network: Any,
    optimizer: Any,
    loss: Callable[[Features], Any],
    features: Features,
    generator: np.random.Generator,
    *,
    epochs: int,
    batch: int,
) -> list[float]:
    """Minimise a loss over batches of images, each epoch in another order; the last batch may be smaller.

    Args:
        network: is in training mode during the call and in evaluation mode after it.
        optimizer: of its parameters.
        loss: of some images, a tensor with a gradient.
        features: all images.
        generator: for the order of images.
        epochs: passes over all images.
        batch: images per step.

    Returns:
        Mean loss per image of each epoch.
    """
    network.train()
    history = []
    for _ in progress(range(epochs), what="training", unit="epoch"):
        order, total = generator.permutation(len(features)), 0.0
        for start in range(0, len(order), batch):
            part = features.take(order[start : start + batch].tolist())
            optimizer.zero_grad()
            value = loss(part)
            value.backward()
            optimizer.step()
            total += float(value.detach()) * len(part)
        history.append(total / len(order))
    network.eval()
    return history


def arrays_of(network: Any) -> dict[str, np.ndarray]:
    """A network's parameters and buffers as arrays, by name; truth values as uint8."""
    arrays = {name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()}
    return {name: one.astype(np.uint8) if one.dtype == np.bool_ else one for name, one in arrays.items()}


def restore(network: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The network with the parameters that `arrays_of` gave, in evaluation mode. Buffers take the arrays' shapes.

    Raises:
        RuntimeError: the arrays belong to another network.
    """
    import torch

    expected, buffers = network.state_dict(), {name for name, _ in network.named_buffers()}
    state = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
    for name in expected.keys() & state.keys():
        state[name] = state[name].to(expected[name].dtype)
        if name in buffers and expected[name].shape != state[name].shape:  # the fit decides it, as of a memory bank
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, torch.empty_like(state[name]))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)
