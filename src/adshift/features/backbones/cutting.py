"""Networks cut at their named layers, and the tensors that a part of a network has."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from adshift.errors import AdshiftError
from adshift.features.backbones import families
from adshift.features.network import TOKEN_NORM, create


def cut(full: Any, backbone: str, names: Sequence[str], options: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """The whole network `full` up to the deepest layer kept: (N, 3, S, S) to a list of maps (N, C, H, W), one a layer.

    `options` are those that `full` was built with.

    Raises:
        AdshiftError: the backbone does not have a layer, or they are out of order.
    """
    ours = families.of(backbone) is not None
    if not ours and not getattr(full, "feature_info", None):
        message = f"features.backbone: timm names no layers of {backbone} that could be kept"
        raise AdshiftError(message, "use another, such as resnet18")
    known = list(full.steps()) if ours else [stage["module"] for stage in full.feature_info]
    missing = [name for name in names if name not in known]
    if missing:
        raise AdshiftError(f"features.layers: {backbone} has no {missing[0]}", f"choose from {', '.join(known)}")
    indices = sorted(known.index(name) for name in names)
    if [known[index] for index in indices] != list(names):
        raise AdshiftError("features.layers: not from shallow to deep", f"order them as in {', '.join(known)}")
    if ours:
        from adshift.features.backbones.steps import Cut

        network: Any = Cut(full.steps(), names)
    else:
        from adshift.features.backbones.transformers import Tokens, is_transformer

        norm = options.get(TOKEN_NORM, False)
        if norm and not is_transformer(full):
            message = f"features.options: {TOKEN_NORM} is for transformers, and {backbone} is none"
            raise AdshiftError(message, "remove it from features.options")
        network = Tokens(full, indices, norm) if is_transformer(full) else _cut_timms(full, backbone, indices, options)
    return channels_last(network.eval())


def channels_last(network: Any) -> Any:
    """Its convolutions are several times as fast on a CPU, and the maps are stored that way anyway."""
    import torch

    return network.requires_grad_(False).to(memory_format=torch.channels_last)


def used(full: Any, backbone: str, names: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """Names of the tensors of the whole network that a `cut` at these layers computes with."""
    if families.of(backbone) is not None:
        used = {tensor.data_ptr() for tensor in cut(full, backbone, names).state_dict().values()}
        return [name for name, tensor in full.state_dict().items() if tensor.data_ptr() in used]
    return covering(full, cut(full, backbone, names, options))


def covering(full: Any, network: Any) -> list[str]:
    """Names of the tensors of the whole network of timm's that a part of it has."""
    used = set(network.state_dict())
    return [name for name in full.state_dict() if used & {name, name.replace(".", "_", 1), f"model.{name}"}]


def _cut_timms(full: Any, name: str, indices: list[int], options: Mapping[str, Any]) -> Any:
    network: Any = create(name, options, features_only=True, out_indices=indices, pretrained=False)
    last = full.feature_info[indices[-1]]["module"]
    if hasattr(network, "blocks") and last.startswith("blocks."):  # timm would run all of them, whichever are kept
        network.blocks = network.blocks[: int(last.removeprefix("blocks.")) + 1]
    return filled(network, name, full.state_dict())


def filled(network: Any, name: str, state: Mapping[str, Any]) -> Any:
    """`network` with the tensors of the whole network.

    timm flattens some networks (stages.0 becomes stages_0) and wraps others (model.stages.0).
    """
    flat = {key.replace(".", "_", 1): value for key, value in state.items()}
    wrapped = {f"model.{key}": value for key, value in state.items()}
    outcome = network.load_state_dict({**flat, **wrapped, **state}, strict=False)
    if outcome.missing_keys:
        raise AdshiftError(
            f"features.backbone: {name} cannot be cut at its layers ({outcome.missing_keys[0]} is lost)",
            "use another, such as resnet18",
        )
    return network
