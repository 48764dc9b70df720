"""`adshift adapt`: a new model directory beside the old one, its evidence, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trained
from adshift.deploy import export, loading
from adshift.deploy.adaptation import EVIDENCE
from adshift.detectors import registry
from adshift.evaluation.conformal import attainable
from adshift.runtime.files import read_json
from tiny import flip

NAME = trained.NAMES[0]


@pytest.fixture
def photos(study: Path, tmp_path: Path) -> Path:
    """Six good photographs of today, a third darker."""
    folder = tmp_path / "today"
    folder.mkdir()
    for path in sorted((study / "photos" / NAME / "train/good").iterdir())[:6]:
        darker = np.asarray(Image.open(path).convert("RGB")) * 0.67
        Image.fromarray(darker.astype(np.uint8)).save(folder / f"{path.stem}.png")
    return folder


@pytest.fixture(params=trained.METHODS)
def model(study: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A model of the clean domain."""
    return Path(shutil.copytree(study / "models/mvtec" / request.param / NAME / "clean", tmp_path / "line"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_new_model_and_its_evidence(model: Path, photos: Path, study: Path) -> None:
    before = contents(model)
    earlier = study / "photos" / NAME / "train/good"
    text, code = trained.adshift("adapt", str(model), "--normal", str(photos), "--earlier", str(earlier))
    assert code == 0, text
    assert contents(model) == before  # the old one is left as it is
    old, new = loading.load(model), loading.load(model.with_name("line-adapted"))
    images = sorted(photos.iterdir())
    maps = old.features(images)
    adapted = old.detector.adapted(maps)
    by_hand = adapted.predict(maps, old.scoring).scores
    np.testing.assert_array_equal([one.score for one in new.predict(images)], by_hand)
    unseen = []
    for fold in ([0, 5], [1], [2], [3], [4]):
        model_of_rest = old.detector.adapted(maps.take([index for index in range(6) if index not in fold]))
        unseen += model_of_rest.predict(maps.take(fold), old.scoring).scores.tolist()
    threshold, rate = attainable(np.array(unseen), 0.05)
    assert new.threshold == threshold
    assert rate.value == pytest.approx(1 / 7)
    card, of_old = read_json(new.folder / "card.json"), read_json(model / "card.json")
    assert export.fitted_on(new.folder) == {"class": NAME, "domain": "clean"}
    assert card["thresholds"] == {"threshold.json": read_json(new.folder / "threshold.json")}
    assert set(of_old) - set(card) == {"metrics", "false_alarms"} and card["adapted"] == EVIDENCE
    evidence = read_json(new.folder / EVIDENCE)
    assert [one["name"] for one in evidence["images"]] == [path.name for path in images]
    old_scores = old.detector.predict(maps, old.scoring).scores
    assert evidence["today"]["before"]["fp"] == (old_scores >= old.threshold).sum()
    assert evidence["today"]["after"]["fp"] == (np.array(unseen) >= threshold).sum() == 0
    old_maps = old.features(sorted(earlier.iterdir()))
    scores = adapted.predict(old_maps, old.scoring).scores
    assert evidence["earlier"][1]["fp"] == (scores >= threshold).sum()
    assert f"false alarms on {len(scores)} images from before" in text
    assert "6 normal images of today" in text and "line-adapted" in text
    np.testing.assert_array_equal(new.reference.scores, np.array(unseen, np.float32))
    assert len(new.reference.features) == 6


def test_fewer_rows(study: Path, photos: Path, tmp_path: Path) -> None:
    folder = study / "models/mvtec/patchcore" / NAME / "clean"
    _, code = trained.adshift(
        "adapt", str(folder), "--normal", str(photos), "--out", str(tmp_path / "new"), "--rows", "3"
    )
    assert code == 0
    old, new = (registry.detector_class("patchcore").load(one) for one in (folder, tmp_path / "new"))
    assert len(new.bank) == len(old.bank) + 3
    assert read_json(tmp_path / "new" / EVIDENCE)["rows"] == {"most": 3, "gained": 3}


def test_an_aligned_model_stays_aligned(study: Path, photos: Path, tmp_path: Path) -> None:
    folder = study / "models/mvtec/patchcore" / NAME / "align"
    assert trained.adshift("adapt", str(folder), "--normal", str(photos), "--out", str(tmp_path / "new"))[1] == 0
    assert (tmp_path / "new/alignment.npz").read_bytes() == (folder / "alignment.npz").read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "MODEL"], "is there already"),
        (["--rows", "0"], "--rows 0"),
        (["--target-fpr", "1.5"], "not between 0 and 1"),
        (["--normal", "ONE"], "1 images"),
        (["--normal", "NONE"], "NONE"),
    ],
)
def test_what_is_refused(study: Path, photos: Path, tmp_path: Path, options: list[str], words: str) -> None:
    folder = study / "models/mvtec/patchcore" / NAME / "clean"
    stands_for = {"MODEL": str(folder), "ONE": str(next(photos.iterdir())), "NONE": str(tmp_path / "NONE")}
    given = [stands_for.get(word, word) for word in options]
    out = tmp_path / "new"
    arguments = ["adapt", str(folder), "--normal", str(photos), "--out", str(out), *given]
    _, code = trained.adshift(*arguments)
    assert words in str(code)
    assert not out.exists()


def test_models_that_cannot_be_adapted_are_refused(study: Path, photos: Path, tmp_path: Path) -> None:
    models = study / "models/mvtec/patchcore"
    for folder, words in ((models / "unified/clean", "one model for all classes"), (tmp_path, "model.json")):
        _, code = trained.adshift("adapt", str(folder), "--normal", str(photos), "--out", str(tmp_path / "new"))
        assert words in str(code)
    trained_model = Path(shutil.copytree(models / NAME / "clean", tmp_path / "stfpm"))
    about = json.loads((trained_model / "model.json").read_text())
    (trained_model / "model.json").write_text(json.dumps({"method": "stfpm", "sha256": about["sha256"]}))
    _, code = trained.adshift("adapt", str(trained_model), "--normal", str(photos), "--out", str(tmp_path / "new"))
    assert "stfpm cannot be adapted" in str(code)
    damaged = Path(shutil.copytree(models / NAME / "clean", tmp_path / "damaged"))
    flip(damaged / "model.safetensors")
    _, code = trained.adshift("adapt", str(damaged), "--normal", str(photos), "--out", str(tmp_path / "new"))
    assert "damaged" in str(code)
    assert not (tmp_path / "new").exists()
