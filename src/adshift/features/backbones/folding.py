"""Batch normalization of a frozen network, folded into the convolutions before it.

At inference it is a fixed scale and offset a channel (Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2), and a pass over memory that a convolution need
not be followed by.
"""

from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

SIDE = 64  # pixels, of the image that finds the pairs and checks the result
TOLERANCE = 1e-3  # of the largest value of a map; rounding alone makes about 1e-5


def fold(network: Any) -> Any:
    """A copy of `network` that folds each batch normalization whose input is a convolution's output, nothing else's.

    A network that would then compute something else (a convolution whose output is used twice) is left as it is.

    Args:
        network: in evaluation mode, (N, 3, S, S) float32 to a list of maps.
    """
    import torch

    folded = deepcopy(network)
    matched = [pair for pair in pairs(folded, torch.nn.BatchNorm2d) if pair[1].track_running_stats]
    replace(folded, {norm: _merge(convolution, norm) for convolution, norm in matched})
    return folded if agree(network, folded) else network


def unfolded(state: Mapping[str, Any], network: Any) -> dict[str, Any]:
    """A state dict whose batch normalizations are folded into convolutions with a bias, as the network's own names.

    Each normalization whose tensors are missing becomes one that only adds the bias of the convolution before it.

    Args:
        state: of a file; returned as it is if it has no bias of a convolution that the network lacks.
        network: in evaluation mode.
    """
    import torch

    expected = network.state_dict()
    biases = {name for name in state if name.endswith(".bias") and name not in expected}
    if not biases & {f"{name.removesuffix('weight')}bias" for name in expected if name.endswith(".weight")}:
        return dict(state)
    names = {module: name for name, module in network.named_modules()}
    result = dict(state)
    for convolution, norm in pairs(network, torch.nn.BatchNorm2d):
        bias, own = f"{names[convolution]}.bias", names[norm]
        if bias in biases and f"{own}.weight" not in state:
            value = result.pop(bias)
            ones, zeros = torch.ones_like(value), torch.zeros_like(value)
            result |= {f"{own}.weight": ones, f"{own}.bias": value, f"{own}.running_mean": zeros}
            result[f"{own}.running_var"] = ones - norm.eps
    return result


def agree(one: Any, other: Any) -> bool:
    """Whether two networks make the same maps of an image."""
    import torch

    with torch.inference_mode():
        maps = zip(one(_image()), other(_image()), strict=True)
    return all((a - b).abs().max() <= TOLERANCE * a.abs().max() for a, b in maps)


def replace(network: Any, replacements: Mapping[Any, Any]) -> None:
    """Put other modules in the places of some."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if child in replacements:
                setattr(module, name, replacements[child])


def pairs(network: Any, kinds: Any) -> list[tuple[Any, Any]]:
    """Convolutions and the modules of `kinds` that see their output, neither seen twice, in a forward order."""
    import torch

    # The outputs are kept, so that no later tensor has the identity of one that is gone. A version counts what was
    # written into a tensor since: the sum of a residual connection, for one.
    outputs: dict[tuple[int, int], tuple[Any, Any]] = {}
    matched: list[tuple[Any, Any]] = []

    def after(module: Any, _inputs: Any, output: Any) -> None:
        outputs[id(output), output._version] = module, output

    def before(module: Any, inputs: Any) -> None:
        if (known := (id(inputs[0]), inputs[0]._version)) in outputs:
            matched.append((outputs[known][0], module))

    hooks = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            hooks.append(module.register_forward_hook(after))
        elif isinstance(module, kinds):
            hooks.append(module.register_forward_pre_hook(before))
    with torch.no_grad():
        network(_image())
    for hook in hooks:
        hook.remove()
    seen = Counter(module for pair in matched for module in pair)
    return [pair for pair in matched if seen[pair[0]] == seen[pair[1]] == 1]


def _image() -> Any:
    """(1, 3, SIDE, SIDE) float32."""
    import torch

    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).sub_(0.5).mul_(4)


def _merge(convolution: Any, norm: Any) -> Any:
    """Give the convolution the normalization's scale and offset; what then stands in the normalization's place."""
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return getattr(norm, "act", torch.nn.Identity())  # timm's normalizations carry their activation
