"""What detectors that train a network share: one thread, one seed, batches in a drawn order, a network as arrays."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from adshift.features.store import Features
from adshift.runtime.parallel import progress, torch_threads


def tensor(maps: np.ndarray) -> Any:
    """(N, H, W, C) maps as a tensor (N, C, H, W) over the same memory, which is what torch calls channels-last."""
    import torch

    return torch.from_numpy(maps).permute(0, 3, 1, 2)


def warm_up() -> None:
    """Load what `reproducible` needs, which takes seconds."""
    with reproducible(np.random.default_rng(0)):
        pass


@contextmanager
def reproducible(generator: np.random.Generator) -> Iterator[None]:
    """Torch on one thread, seeded by `generator`, deterministic algorithms alone; its own generator is put back."""
    import torch

    strict = torch.are_deterministic_algorithms_enabled()
    # On one thread: sums in another order would change the model's bytes.
    with torch.random.fork_rng(devices=[]), torch_threads(1):
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
        network: put into training mode here and into evaluation mode at the end.
        optimizer: of its parameters.
        loss: of some images, a tensor that knows its gradient.
        features: all images.
        generator: draws the orders.
        epochs: passes over all images.
        batch: images a step.

    Returns:
        Mean loss of an image, epoch by epoch.
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
    """A network's parameters and buffers as arrays, by name."""
    return {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}


def restore(network: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The network with the parameters that `arrays_of` gave, in evaluation mode.

    Raises:
        RuntimeError: they are another network's.
    """
    import torch

    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    return network.eval().requires_grad_(False)
