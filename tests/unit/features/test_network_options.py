"""Options of timm's networks, and weights whose batch normalization is folded."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from adshift.errors import AdshiftError
from adshift.features.backbones import Backbone, cut, from_spec, untrained
from adshift.features.extract import spec_of
from adshift.features.settings import Features
from adshift.features.store import check_spec
from adshift.project import params
from tiny import ROOT

IMAGES = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)


def settings(**changes: object) -> Features:
    shipped = dict(params.load("features", path=ROOT / "params.yaml").features)
    return Features.within({**shipped, "resize": 64, **changes})


def saved(path: Path, state: dict[str, torch.Tensor]) -> str:
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return str(path)


def test_options_reach_the_network_and_the_spec(tmp_path: Path) -> None:
    state = timm.create_model("mobilenetv2_100").state_dict()
    file = saved(tmp_path / "w.safetensors", state)
    same = Backbone(settings(backbone="mobilenetv2_100", weights=file, options={"pad_type": "same"}))
    usual = Backbone(settings(backbone="mobilenetv2_100", weights=file))
    expected = timm.create_model("mobilenetv2_100", pad_type="same", features_only=True, out_indices=(1, 2, 3)).eval()
    expected.load_state_dict(state, strict=False)
    batch = (torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255 - same.mean) / same.std
    with torch.inference_mode():
        theirs = expected(batch)
    for ours, their, other in zip(same(IMAGES), theirs, usual(IMAGES), strict=True):
        np.testing.assert_allclose(ours, their.permute(0, 2, 3, 1), atol=1e-4, rtol=1e-3)
        assert np.abs(ours - other).max() > 0.01
    spec = spec_of(same)
    assert spec["options"] == {"pad_type": "same"}
    assert "options" not in spec_of(usual)
    for ours, again in zip(same(IMAGES), from_spec(spec, file)(IMAGES), strict=True):
        np.testing.assert_array_equal(ours, again)


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(AdshiftError, match=r"timm cannot build resnet18 with pad_type: same .*unexpected keyword"):
        untrained("resnet18", {"pad_type": "same"})
    with pytest.raises(AdshiftError, match=r"micronet-m0 is not one of timm's networks"):
        untrained("micronet-m0", {"pad_type": "same"})
    for bad in ({"checkpoint_path": "/tmp/w.pth"}, {"pretrained": True}, {"bn_eps": [1]}):
        with pytest.raises(ValueError):
            settings(options=bad)
        spec = {"size": 64, "layers": [{"shape": [1, 1, 1]}], "backbone": "resnet18", "options": bad}
        with pytest.raises(ValueError):
            check_spec(spec)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100"])
def test_folded_batch_norm_is_recognised(tmp_path: Path, name: str) -> None:
    """The same maps of weights as trained and of those with batch normalization folded into the convolutions."""
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    torch.manual_seed(0)
    whole = timm.create_model(name).eval()
    state = whole.state_dict()
    for key, value in state.items():
        if key.endswith(("running_var", "running_mean")) or ("bn" in key and value.ndim == 1):
            value.copy_(torch.rand(value.shape) + 0.5)
    folded, modules = dict(state), dict(whole.named_modules())
    last = None
    for key, module in modules.items():
        if isinstance(module, torch.nn.Conv2d):
            last = key, module
        elif isinstance(module, torch.nn.BatchNorm2d) and last:
            weight, bias = fuse_conv_bn_weights(
                last[1].weight, None, module.running_mean, module.running_var, module.eps, module.weight, module.bias
            )
            folded = {one: value for one, value in folded.items() if not one.startswith(f"{key}.")}
            folded |= {f"{last[0]}.weight": weight.detach(), f"{last[0]}.bias": bias.detach()}
    assert len(folded) < len(state) - 20
    plain = Backbone(settings(backbone=name, weights=saved(tmp_path / "plain.safetensors", state)))
    ours = Backbone(settings(backbone=name, weights=saved(tmp_path / "folded.safetensors", folded)))
    for one, other in zip(plain(IMAGES), ours(IMAGES), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3 * np.abs(one).max())
    del folded[next(key for key in folded if key.endswith(".bias") and "classifier" not in key and "fc" not in key)]
    with pytest.raises(AdshiftError, match="is not there"):
        Backbone(settings(backbone=name, weights=saved(tmp_path / "less.safetensors", folded)))


def test_a_backbone_without_layers_to_keep() -> None:
    with pytest.raises(AdshiftError, match="timm names no layers of resnet18 that could be kept"):
        cut(torch.nn.Conv2d(3, 8, 3), "resnet18", ("layer1",))
