"""Activations of a frozen network, computed by the convolutions before them while their values are at hand.

A pass over memory less for each. The operator is the one that torch's own compiler emits for a processor; where there
is none, networks stay as they are.

The operator brings weights into an order that suits the size of its input and the number of threads, at every call: for
one image a sixth of a ResNet-50's time. Here they stay so until either is another. No byte of a map depends on it.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from adshift.features.backbones.folding import agree, pairs, replace

# What the operator calls an activation, and its numbers.
ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.Hardswish: ("hardswish", []),
}


def fuse(network: Any) -> Any:
    """`network` with each convolution fused with the activation that alone sees its output; weights are shared.

    A network that would then compute something else is left as it is.

    Args:
        network: in evaluation mode, (N, 3, S, S) float32 to a list of maps.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return network
    fused = deepcopy(network, {id(tensor): tensor for tensor in network.state_dict(keep_vars=True).values()})
    followed = {one: other for one, other in pairs(fused, tuple(ACTIVATIONS)) if _plain(one)}
    replacements: dict[nn.Module, nn.Module] = {activation: nn.Identity() for activation in followed.values()}
    for module in fused.modules():
        if _plain(module):  # without an activation too: the operator itself is quicker
            replacements[module] = _Fused(module, followed.get(module))
    replace(fused, replacements)
    return fused if agree(network, fused) else network


def _plain(module: nn.Module) -> bool:
    """Whether it is a convolution as `_Fused` computes them."""
    return (type(module) is nn.Conv2d and module.padding_mode == "zeros" and module.padding != "same") or _same(module)


def _same(module: nn.Module) -> bool:
    """Whether it is a convolution of timm's that pads by the size of what it gets, whatever its own padding says."""
    return type(module).__name__ == "Conv2dSame"


class _Fused(nn.Module):
    """A convolution, and its activation if it has one."""

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module | None) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.side, self.stride = list(convolution.kernel_size), list(convolution.stride)
        self.dilation = list(convolution.dilation)
        self.groups = convolution.groups
        self.same = _same(convolution)
        self.padding = (0, 0) if self.same else convolution.padding
        self.activation, self.numbers = ACTIVATIONS[type(activation)] if activation else ("none", [])
        self._kept: tuple[Any, Any] = None, None  # for which input, and the weights in its order

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        if self.same:
            from timm.layers import pad_same

            maps = pad_same(maps, self.side, self.stride, self.dilation)
        return torch.ops.mkldnn._convolution_pointwise(
            maps, self._ordered(maps), self.bias, self.padding, self.stride, self.dilation, self.groups,
            self.activation, self.numbers, "",
        )  # fmt: skip

    def _ordered(self, maps: torch.Tensor) -> torch.Tensor:
        """The weights as the operator wants them for such maps and so many threads."""
        wanted = maps.shape, maps.dtype, torch.get_num_threads()
        kept, weight = self._kept  # as one: another thread may put others there
        if kept != wanted:
            weight = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, self.padding, self.stride, self.dilation, self.groups, maps.shape
            )
            self._kept = wanted, weight
        return weight
