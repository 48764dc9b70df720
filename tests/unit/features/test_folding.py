"""Batch normalization and activations folded into convolutions change nothing but the time."""

import pytest
import torch

from adshift.features.backbones import USUAL_LAYERS, cut, untrained
from adshift.features.backbones.folding import fold
from adshift.features.backbones.fusing import ACTIVATIONS, _Fused, fuse


def normalizations(network: torch.nn.Module) -> int:
    return sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def scrambled(network: torch.nn.Module) -> torch.nn.Module:
    """Statistics as training leaves them: those of a fresh network, 0 and 1, would hide a mistake."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean = torch.randn(shape, generator=generator) / 10
            module.running_var = torch.rand(shape, generator=generator) + 0.5
            module.weight.data = torch.rand(shape, generator=generator) + 0.5
            module.bias.data = torch.randn(shape, generator=generator) / 10
    return network


def activations(network: torch.nn.Module) -> int:
    return sum(isinstance(module, tuple(ACTIVATIONS)) for module in network.modules())


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "resnet18", "mobilenetv2_100", "micronet-m0", "phinet_0.9_0.5_4_downsampling"]
)
@pytest.mark.parametrize("side", [96, 65])  # of which "same" padding is uneven, and another than the probing image's
def test_the_maps_are_the_same(name: str, side: int) -> None:
    network = scrambled(cut(untrained(name), name, USUAL_LAYERS[name]))
    folded = fold(network)
    fused = fuse(folded)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for a, b, c in zip(network(images), folded(images), fused(images), strict=True):
            assert (a - b).abs().max() <= 1e-5 * a.abs().max()
            assert (a - c).abs().max() <= 1e-5 * a.abs().max()
    assert normalizations(network) > normalizations(folded) == 0
    assert activations(folded) > activations(fused)
    assert {id(weight) for weight in fused.parameters()} == {id(weight) for weight in folded.parameters()}


def test_weights_in_order_for_another_call_change_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes, batches and threads that come and go, against weights that are brought into order at every call."""
    fused = fuse(fold(scrambled(cut(untrained("resnet18"), "resnet18", USUAL_LAYERS["resnet18"]))))
    generator = torch.Generator().manual_seed(0)
    calls = [(torch.randn(n, 3, side, side, generator=generator), threads)
             for n, side, threads in ((1, 96, 1), (1, 96, 2), (3, 96, 2), (1, 65, 1), (1, 96, 1))]  # fmt: skip
    before = torch.get_num_threads()

    def bytes_of(images: torch.Tensor, threads: int) -> list[bytes]:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return [maps.contiguous().numpy().tobytes() for maps in fused(images)]

    try:
        kept = [bytes_of(*call) for call in calls for _ in range(2)]  # made, and then used again
        monkeypatch.setattr(_Fused, "_ordered", lambda self, maps: self.weight)
        assert kept == [bytes_of(*call) for call in calls for _ in range(2)]
    finally:
        torch.set_num_threads(before)


class Branch(torch.nn.Module):
    """What the convolution gives is a map of its own, beside its activation."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.activation = torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        maps = self.convolution(images)
        return [maps, self.activation(maps)]


def test_a_convolution_seen_by_more_than_its_activation_stays_as_it_is() -> None:
    network = Branch().eval().requires_grad_(False)
    assert fuse(network) is network


def test_a_torch_without_the_operator_leaves_the_network_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    network = fold(cut(untrained("resnet18"), "resnet18", USUAL_LAYERS["resnet18"]))
    assert fuse(network) is network


class Both(torch.nn.Module):
    """What the convolution gives is a map of its own, beside its normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        maps = self.convolution(images)
        return [maps, self.norm(maps)]


def test_a_convolution_that_is_used_twice_stays_as_it_is() -> None:
    network = scrambled(Both().eval().requires_grad_(False))
    assert fold(network) is network
