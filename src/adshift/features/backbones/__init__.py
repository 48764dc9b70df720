"""Frozen pretrained networks, cut at named layers: any of timm's, and the families in this folder.

Other modules import from here alone. No name of a family's file is a library's.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from adshift.errors import AdshiftError
from adshift.features.backbones import families
from adshift.features.backbones.cutting import channels_last, covering, cut, filled, used
from adshift.features.backbones.folding import fold, unfolded
from adshift.features.backbones.tiling import Tiling, stitched
from adshift.features.backbones.weights import (
    PACKAGED,
    Weights,
    find_weights,
    named,
    offline_if_unreachable,
    packaged_file,
    read,
)
from adshift.features.network import create
from adshift.features.settings import Features as Settings
from adshift.runtime import device
from adshift.runtime.parallel import keep_memory

__all__ = [
    "PACKAGED",
    "STRIDES_4_8_16",
    "USUAL_LAYERS",
    "Backbone",
    "Weights",
    "cut",
    "find_weights",
    "from_spec",
    "full_model",
    "layers",
    "packaged_file",
    "untrained",
    "usual_layers",
    "whole_state",
    "with_weights",
]

# timm's with three layers, shallow to deep, at strides 4, 8 and 16: what the papers call layers 1, 2 and 3.
STRIDES_4_8_16 = {
    **dict.fromkeys(PACKAGED, ("blocks.1", "blocks.2", "blocks.4")),
    **dict.fromkeys(("resnet18", "resnet50", "wide_resnet50_2"), ("layer1", "layer2", "layer3")),
    "mobilenetv2_100": ("blocks.1", "blocks.2", "blocks.4"),
}
# Transformers have one stride; three blocks, a third of the depth apart, the last one among them.
TOKENS = dict.fromkeys(
    (
        "vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224",
        "vit_small_patch14_dinov2.lvd142m", "vit_base_patch14_dinov2.lvd142m",
        "vit_small_patch14_reg4_dinov2.lvd142m", "vit_base_patch14_reg4_dinov2.lvd142m",
        "vit_small_patch16_dinov3.lvd1689m", "vit_base_patch16_dinov3.lvd1689m",
    ),
    ("blocks.3", "blocks.7", "blocks.11"),
)  # fmt: skip
SQUEEZED = {"fit": "squeeze", "tiles": None}  # what preprocessing says in models of versions that knew nothing else
USUAL_LAYERS = {
    **STRIDES_4_8_16,
    **TOKENS,
    **{name: family.layers for family in families.FAMILIES for name in family.files},
}


def layers(settings: Settings) -> tuple[str, ...]:
    """Names of the layers to keep.

    Raises:
        AdshiftError: none are named, and the backbone has no usual ones.
    """
    return tuple(settings.layers or usual_layers(settings.backbone))


def usual_layers(backbone: str) -> tuple[str, ...]:
    """Names of the layers that are kept where none are named.

    Raises:
        AdshiftError: the backbone has no usual ones.
    """
    if backbone not in USUAL_LAYERS:
        raise AdshiftError(
            f"params.yaml: features.layers is empty, and {backbone} has no usual layers",
            f"name three layers of it; usual ones are known for {', '.join(USUAL_LAYERS)}",
        )
    return USUAL_LAYERS[backbone]


def _check_name(name: str) -> None:
    import timm

    if not families.of(name) and not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name[:8]}*")[:5])
        raise AdshiftError(
            f"features.backbone: timm has no {name}, nor is it one of ours",
            f"ours: {', '.join(families.names())}; timm's near it: {near or 'see timm.list_models()'}",
        )


def untrained(name: str, options: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """The whole network in evaluation mode, its weights drawn at random.

    Raises:
        AdshiftError: unknown backbone, or options that it does not have.
    """
    _check_name(name)
    if family := families.of(name):
        if options:
            remedy = "set features.options: {}"
            raise AdshiftError(f"features.options: {name} is not one of timm's networks, and has no options", remedy)
        return family.build(name).eval()
    return create(name, options, pretrained=False).eval()


def full_model(settings: Settings) -> Any:
    """The whole pretrained network, in evaluation mode.

    Raises:
        AdshiftError: unknown backbone, unreadable weights, or a hub that cannot be reached.
    """
    return _loaded(settings)[0]


def _loaded(settings: Settings, kept: Sequence[str] | None = None) -> tuple[Any, tuple[str, ...]]:
    """The pretrained network, and the names of its tensors that the file of weights does not cover.

    Args:
        settings: name the backbone and its weights.
        kept: layers; tensors behind the deepest of them may be missing in the file. All are needed if not given.
    """
    weights = find_weights(settings)
    if weights.path is not None:
        model = untrained(settings.backbone, settings.options)
        expected = model.state_dict()
        needed = None if kept is None else used(model, settings.backbone, kept, settings.options)
        state = named(unfolded(read(weights.path), model), expected, weights.path, needed)
        model.load_state_dict(state, strict=False)
        return model, tuple(name for name in expected if name not in state)
    with offline_if_unreachable():
        _check_name(settings.backbone)
        try:
            return create(settings.backbone, settings.options, pretrained=True).eval(), ()
        except AdshiftError:
            raise
        except Exception as error:  # the hub's client raises many kinds
            raise AdshiftError(
                f"weights of {settings.backbone} could not be had from its hub ({type(error).__name__})",
                f"connect to the network, or get a state dict of timm's {settings.backbone} (.pth or .safetensors)"
                " and name it: features.weights: PATH",
            ) from None


def with_weights(network: Any, name: str, path: Path) -> Any:
    """A network of timm's, whole or cut, with the weights of a file that has at least those of its tensors.

    Raises:
        AdshiftError: the file is not readable, or holds another network's weights.
    """
    full = untrained(name)
    state = named(unfolded(read(path), full), full.state_dict(), path, covering(full, network))
    return filled(network, name, {**full.state_dict(), **state})


def whole_state(name: str, path: Path | None) -> dict[str, Any]:
    """The state dict of a whole network: from a file, where it has the tensors, and random for the rest.

    Raises:
        AdshiftError: an unknown network, a file that is not readable, or that has less than half of the tensors.
    """
    full = untrained(name)
    expected = full.state_dict()
    if path is None:
        return dict(expected)
    state = unfolded(read(path), full)
    covered = [key for key in expected if key in state and state[key].shape == expected[key].shape]
    return {**expected, **named(state, expected, path, covered if 2 * len(covered) >= len(state) else None)}


class Backbone:
    """A frozen network that maps images to feature maps.

    Attributes:
        settings: what it was built from, with the preprocessing that it expects.
        names: the layers kept, shallow to deep.
        tiling: of the input, None where the network sees it whole.
        network: (N, 3, S, S) normalized to a list of maps (N, C, H, W); its batch normalization is folded away.
        fused: the same as it is run here, on the device, which cannot be exported.
        record: backbone, source and hash of its weights, layers' names: what made a feature. `not_in_file` lists
            the tensors that a file of weights does not cover; none of them is used.
    """

    def __init__(self, settings: Settings) -> None:
        """Build the network and load its weights.

        Raises:
            AdshiftError: as `full_model`, `cut` and `device.choose`, or a precision that the processor does not have.
        """
        keep_memory()
        card = device.on_card()
        if not settings.layers and settings.backbone not in USUAL_LAYERS:
            _check_name(settings.backbone)  # a name that no network has is the first thing to tell
        names = layers(settings)
        full, uncovered = _loaded(settings, names)

        import torch

        from adshift.features.backbones.fusing import fuse

        self.settings = settings
        self.tiling = Tiling.of(settings.resize, settings.tiles) if settings.fit == "tile" else None
        self.names = names
        self.dtype = getattr(torch, settings.precision)
        if self.dtype == torch.bfloat16 and not card and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            raise AdshiftError("features.precision: bfloat16 is not a type of this processor", "set float32")
        network = cut(full, settings.backbone, self.names, settings.options)
        plain = card or self.dtype == torch.float16  # the processor's operator does not have it
        if hasattr(network, "resize"):  # a transformer, which has nothing to fold
            side = self.tiling.side if self.tiling else settings.crop or settings.resize
            network.resize(side)
            self.network, fused = network, deepcopy(network) if card else network
        else:
            self.network = channels_last(fold(network))
            fused = deepcopy(self.network) if plain else fuse(self.network)
        self.fused = device.to_device(fused).to(self.dtype)
        self.network.to(self.dtype)
        self.mean = torch.tensor(settings.mean).view(1, 3, 1, 1)
        self.std = torch.tensor(settings.std).view(1, 3, 1, 1)
        self._statistics = [device.to_device(values) for values in (self.mean, self.std)]
        self._batches = device.Batches(settings.backbone)
        device.synchronize()
        weights = find_weights(settings)
        self.record: dict[str, Any] = {
            "backbone": settings.backbone,
            "layers": list(self.names),
            **({"options": dict(settings.options)} if settings.options else {}),
            "precision": settings.precision,
            "weights": {
                "source": weights.source,
                "sha256": _digest({name: one for name, one in full.state_dict().items() if name not in uncovered}),
                **({"not_in_file": list(uncovered)} if uncovered else {}),
            },
        }

    def __call__(self, images: np.ndarray, finish: Callable[[Any], Any] = lambda maps: maps) -> list[np.ndarray]:
        """Feature maps of a batch.

        Args:
            images: (N, h, w, 3) uint8 RGB.
            finish: applied to each layer's maps, a tensor on the device, such as a conversion to the stored type.

        Returns:
            Per layer (N, H, W, C) float32, or what `finish` makes of it. Where `features.fit` is `tile`, the maps of
            the tiles as one.

        Raises:
            AdshiftError: an image is too much for the card's memory.
        """
        parts = self._batches.run(lambda some: self._layers(images[some], finish), len(images))
        return parts[0] if len(parts) == 1 else [np.concatenate(level) for level in zip(*parts, strict=True)]

    def _layers(self, images: np.ndarray, finish: Callable[[Any], Any]) -> list[np.ndarray]:
        if self.tiling is None:
            return self._maps(images, finish)
        import torch

        tiles = [self._maps(np.ascontiguousarray(images[:, rows, columns])) for rows, columns in self.tiling.pixels()]
        whole = (stitched(self.tiling, level) for level in zip(*tiles, strict=True))
        return [finish(torch.from_numpy(level)).numpy() for level in whole]

    def _maps(self, images: np.ndarray, finish: Callable[[Any], Any] = lambda maps: maps) -> list[np.ndarray]:
        """Of one run of the network. The bytes go to the card, and everything else is computed there."""
        import torch

        def work() -> list[np.ndarray]:
            # The NHWC bytes seen as NCHW are channels-last already.
            batch = device.sent(torch.from_numpy(images)).permute(0, 3, 1, 2)
            mean, std = self._statistics
            levels = self.fused(batch.float().div_(255).sub_(mean).div_(std).to(self.dtype))
            return device.received([finish(maps.float().permute(0, 2, 3, 1).contiguous()) for maps in levels])

        return device.run(work)


def from_spec(spec: Mapping[str, Any], weights: Path | str | None = None) -> Backbone:
    """The network that made a model's features, from the model's `spec`; it refuses any other weights.

    Args:
        spec: as features.json and model.json have it.
        weights: the file that holds the weights, for a model whose backbone got them from one.

    Raises:
        AdshiftError: the spec is damaged, or the weights cannot be had or are others than those recorded.
    """
    try:
        kept = {key: spec[key] for key in ("backbone", "precision", "dtype")} | SQUEEZED | dict(spec["preprocessing"])
        kept.pop("normalise", None)  # of images, before the network sees them
        names = [layer["name"] for layer in spec["layers"]]
        source, expected = str(spec["weights"]["source"]), spec["weights"]["sha256"]
        chosen = {"weights": str(weights) if weights else None, "images": "images" in spec, "batch": 1}
        chosen["options"] = spec.get("options", {})
        settings = Settings.of({**kept, "layers": names, **chosen})
    except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise AdshiftError(f"what the model says of its features is damaged ({reason})", "fetch it again") from None
    if weights is None and source.startswith("file "):
        message = f"weights of {settings.backbone}: the model's came from a {source}, which is not kept with it"
        raise AdshiftError(message, "name that file: weights=PATH, or --weights PATH")
    backbone = Backbone(settings)
    record = backbone.record["weights"]
    if record["sha256"] != expected:
        raise AdshiftError(
            f"weights of {settings.backbone}: those of {record['source']} have sha256 {record['sha256'][:12]}..., the "
            f"model was fitted with {source}, {str(expected)[:12]}...",
            "install or name the weights that it was fitted with",
        )
    return backbone


def _digest(state: dict[str, Any]) -> str:
    """SHA-256 over names and values of a state dict, the same whichever file they came in."""
    digest = hashlib.sha256()
    for name, value in state.items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()
