"""`features.store: needed`: which layers are stored, that results are those of all layers, what a lack is called."""

import json
from pathlib import Path

import numpy as np
import pytest

from adshift.data.images import sha256
from adshift.data.manifest import Item
from adshift.detectors import registry
from adshift.errors import AdshiftError
from adshift.features import extract
from adshift.features.backbones import Backbone
from adshift.features.settings import Features as Settings
from adshift.features.store import Features, levels_of
from adshift.project import params
from tiny import ROOT, texture

SETTINGS = Settings(
    backbone="tf_efficientnet_lite0", weights=None, layers=None, resize=64, fit="squeeze", crop=None,
    tiles=None, options={},
    mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), precision="float32", dtype="float16", images=False, batch=4,
)  # fmt: skip


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    from PIL import Image

    found = []
    for index in range(6):
        path = tmp_path / f"{index}.png"
        Image.fromarray(texture("dots", np.random.default_rng(index))).save(path)
        found.append(Item(f"train/good/{index}", "train", "good", str(path), "", sha256(path), "", 64, 64))
    return found


def values(**changes: object) -> dict:
    shipped = params.read(ROOT / "params.yaml")
    return {**shipped, "methods": ["patchcore"], "ablation": {"ratios": []}, **changes}


def levels(store: str = "needed", **changes: object) -> object:
    given = values(**changes)
    return params.stored_values({**given, "features": {**given["features"], "store": store}})["features"]["levels"]


def test_the_levels_are_those_of_the_methods_in_use() -> None:
    assert levels("all") is None
    assert levels() == [2, 3]
    assert levels(methods=["patchcore", "padim"]) == [1, 2, 3]
    paste = {**params.read(ROOT / "params.yaml")["paste"], "layers": [3]}
    assert levels(methods=["paste"], paste=paste) == [1, 3]  # its shared level too
    padim = {**params.read(ROOT / "params.yaml")["padim"], "layers": [1]}
    assert levels(methods=["padim"], padim=padim) == [1]
    assert levels(methods=["padim"], padim=padim, ablation={"ratios": [0.1]}) == [1, 2, 3]  # PatchCore's


def test_no_method_changes_what_is_stored_of_all_layers() -> None:
    features = [params.stored_values(values(methods=methods))["features"] for methods in (["patchcore"], ["padim"])]
    assert features[0] == features[1]
    assert "store" not in features[0]


def test_scores_are_those_of_all_layers_and_the_rest_takes_no_room(tmp_path: Path, items: list[Item]) -> None:
    backbone = Backbone(SETTINGS)
    extract.embed(items, backbone, tmp_path / "all", what="all")
    extract.embed(items, backbone, tmp_path / "needed", what="needed", levels=[2, 3])
    assert {path.name for path in (tmp_path / "needed").iterdir()} == {"level2.npy", "level3.npy", "features.json"}
    whole, part = (Features.open(tmp_path / name) for name in ("all", "needed"))
    assert (levels_of(whole.spec), levels_of(part.spec)) == ([1, 2, 3], [2, 3])
    for level in (2, 3):
        np.testing.assert_array_equal(whole.maps(level), part.maps(level))
    section = params.read(ROOT / "params.yaml")["patchcore"] | {"coreset": 0.5}
    halves = registry.halves("patchcore", section)
    fit, score = (registry.schemas("patchcore")[half].of(halves[half]) for half in ("fit", "score"))
    scores = []
    for features in (whole, part):
        detector = registry.detector_class("patchcore")(fit)
        detector.fit(features[:4], np.random.default_rng(0))
        scores.append(detector.predict(features, score).scores)
    np.testing.assert_array_equal(*scores)
    with pytest.raises(AdshiftError, match=r"level 1 of the features is not stored, only \[2, 3\]\n.*store: all"):
        part.maps(1)


@pytest.mark.parametrize("stored", [[], [0], [4], [3, 2], [2, 2], ["1"], 2])
def test_a_record_that_names_other_levels_is_refused(tmp_path: Path, items: list[Item], stored: object) -> None:
    extract.embed(items[:1], Backbone(SETTINGS), tmp_path / "made", what="made", levels=[2])
    record = json.loads((tmp_path / "made" / "features.json").read_text())
    record.pop("checksum")
    record["stored"] = stored
    (tmp_path / "made" / "features.json").write_text(json.dumps(record))
    with pytest.raises(AdshiftError, match=r"features\.json: not how features were made"):
        Features.open(tmp_path / "made")
