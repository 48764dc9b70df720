"""A file of weights that ends behind the deepest layer kept is enough, and the record says what it lacks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from adshift.errors import AdshiftError
from adshift.features.backbones import Backbone, untrained
from adshift.features.settings import Features
from adshift.project import params
from tiny import ROOT

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
KEPT = {"resnet18": ("layer1", "layer2"), "micronet-m0": ("features.2", "features.4")}
NEEDED = {
    "resnet18": ("conv1.", "bn1.", "layer1.", "layer2."),
    "micronet-m0": tuple(f"features.{n}." for n in range(5)),
}


def backbone(name: str, weights: Path) -> Backbone:
    settings = dict(params.load("features", path=ROOT / "params.yaml").features)
    chosen = {"backbone": name, "weights": str(weights), "layers": KEPT[name], "resize": 64}
    return Backbone(Features.within({**settings, **chosen}))


def saved(path: Path, state: dict[str, torch.Tensor]) -> Path:
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


@pytest.mark.parametrize("name", KEPT)
def test_what_lies_behind_the_deepest_layer_may_be_missing(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    whole = untrained(name).state_dict()
    part = {key: one for key, one in whole.items() if key.startswith(NEEDED[name]) and "num_batches" not in key}
    assert len(part) < len(whole) / 1.5
    full, found = backbone(name, saved(tmp_path / "whole.safetensors", whole)), None
    hashes = set()
    for seed in (1, 2):  # what the file lacks is drawn at random, and must not show
        torch.manual_seed(seed)
        found = backbone(name, saved(tmp_path / "part.safetensors", part))
        hashes.add(found.record["weights"]["sha256"])
        for ours, theirs in zip(found(IMAGES), full(IMAGES), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert found is not None
    assert found.record["weights"]["not_in_file"] == [key for key in whole if key not in part]
    assert len(hashes) == 1
    assert "not_in_file" not in full.record["weights"]


def test_a_tensor_that_is_needed_may_not(tmp_path: Path) -> None:
    state = untrained("resnet18").state_dict()
    del state["layer2.1.conv2.weight"]
    with pytest.raises(AdshiftError, match=r"layer2\.1\.conv2\.weight \(128, 128, 3, 3\) is not there"):
        backbone("resnet18", saved(tmp_path / "w.safetensors", state))
    state["layer2.1.conv2.weight"] = torch.zeros(128, 128, 1, 1)
    with pytest.raises(AdshiftError, match=r"conv2\.weight \(128, 128, 3, 3\) is \(128, 128, 1, 1\) there"):
        backbone("resnet18", saved(tmp_path / "w.safetensors", state))
