"""Complete model directories, as the package stage leaves them."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

import budgets
import trained
from adshift.data.images import sha256
from adshift.data.manifest import anomalous
from adshift.deploy import package
from adshift.detectors import registry
from adshift.detectors.records import Predictions
from adshift.errors import AdshiftError
from adshift.evaluation.pairs import pair
from adshift.evaluation.scenarios import SCENARIOS
from adshift.features.store import Features
from adshift.project import params
from adshift.project.paths import features_path, model_path, models_path, scores_path
from adshift.runtime.files import read_json, write_json
from tiny import ROOT

NAME = trained.NAMES[0]


@pytest.fixture(scope="module")
def study(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, hard links within it kept: stages run in it."""
    copy = tmp_path_factory.mktemp("packaged") / "study"
    subprocess.run(["cp", "-a", study, copy], check=True)
    return copy


def folder(study: Path, method: str = "patchcore", model: str = NAME, domain: str = "clean") -> Path:
    return study / models_path("mvtec", method) / model / domain


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


def test_every_model_is_whole(study: Path) -> None:
    """Files by name, models by class and domain; thresholds of both domains with a clean model of a class."""
    for method in trained.METHODS:
        places = [(model, one.variant) for model, one in package.models(trained.NAMES, SCENARIOS)]
        assert len(places) == 2 * 6 + 1
        for model, domain in places:
            expected = set(package.FILES)
            if domain != "clean" or model == registry.UNIFIED:
                expected -= {"threshold-shift.json"}
            if domain != "align":
                expected -= {"alignment.npz"}
            assert {path.name for path in folder(study, method, model, domain).iterdir()} == expected


def test_the_fit_is_linked_not_copied(study: Path) -> None:
    for file in package.FITTED:
        fitted = study / model_path("mvtec", "patchcore", NAME, "clean") / file
        assert (folder(study) / file).stat().st_ino == fitted.stat().st_ino


def test_thresholds_are_the_calibrated_ones(study: Path) -> None:
    chosen = json.loads((study / "data/thresholds/mvtec/patchcore.json").read_text())
    for domain, file, scenario, val in (
        ("clean", "threshold.json", "clean", "clean"),
        ("clean", "threshold-shift.json", "shift_threshold_only", "shift"),
        ("shift", "threshold.json", "shift_full_adaptation", "shift"),
        ("normalise", "threshold.json", "clean_normalised", "clean"),
        ("align", "threshold.json", "clean_aligned", "clean"),
        ("harden", "threshold.json", "clean_hardened", "clean"),
        ("adapt", "threshold.json", "shift_adapted", "shift"),
    ):
        record = read_json(folder(study, domain=domain) / file)
        expected = chosen[NAME][scenario]
        assert (record["threshold"], record["rule"], record["val"]) == (expected["threshold"], expected["rule"], val)
        assert record["normal"] == expected["tn"] + expected["fp"]
        assert record["anomalous"] == expected["tp"] + expected["fn"]
    unified = read_json(folder(study, model="unified") / "threshold.json")
    assert unified["threshold"] == chosen[NAME]["unified_absolute"]["threshold"]
    for name in trained.NAMES:
        assert unified["classes"][name]["threshold"] == chosen[name]["unified"]["threshold"]


def test_the_map_ratio_is_one_where_a_score_is_its_maps_peak(study: Path) -> None:
    padim = read_json(folder(study, "padim_diagonal") / "threshold.json")
    patchcore = read_json(folder(study) / "threshold.json")
    assert padim["map_ratio"] == 1
    assert 0.2 < patchcore["map_ratio"] < 1  # smoothing lowers peaks


def test_a_map_ratio_by_hand() -> None:
    maps = np.array([[[2.0]], [[6.0]], [[9.0]], [[0.0]]], np.float32)
    found = Predictions(
        ("a/good/0", "a/good/1", "a/good/2", "a/good/3"), np.array([4, 8, 10, 0], np.float32), maps, 1, 0
    )
    assert package.map_ratio([found]) == 0.75
    assert package.map_ratio([Predictions(found.names[3:], found.scores[3:], maps[3:], 1, 0)]) == 1


def test_the_reference_holds_validation_normals_alone(study: Path) -> None:
    for model, names in ((NAME, [NAME]), ("unified", list(trained.NAMES))):
        scores, features = [], []
        for name in names:
            path = scores_path("val", "mvtec", "patchcore", model, pair("clean", "clean"), name)
            found = Predictions.load(study / path)
            normal = [image for image in found.names if image.split("/")[1] == "good"]
            scores.append(found.scores[~anomalous(found.names)])
            stored = Features.open(study / features_path("mvtec", name, "clean")).select(normal)
            features.append(np.concatenate([stored.maps(level).mean((1, 2)) for level in (1, 2, 3)], axis=1))
        with np.load(folder(study, model=model) / "reference.npz") as file:
            np.testing.assert_array_equal(file["scores"], np.concatenate(scores))
            np.testing.assert_allclose(file["features"], np.concatenate(features), rtol=1e-4, atol=1e-5)
            assert file["features"].dtype == file["scores"].dtype == np.float32


def test_the_card_says_what_the_evaluation_says(study: Path) -> None:
    card = read_json(folder(study) / "card.json")
    evaluation = study / "data/evaluation/mvtec"
    image = json.loads((evaluation / "image/patchcore.json").read_text())["classes"][NAME]
    pixel = json.loads((evaluation / "pixel/patchcore.json").read_text())[NAME]
    used = {"clean", "shift_no_adaptation", "shift_threshold_only", "clean_threshold_only"}
    assert set(card["metrics"]) == used
    assert card["metrics"]["clean"][NAME]["image AUROC"] == image["clean"]["auroc"]
    assert card["metrics"]["shift_no_adaptation"][NAME]["PRO"] == pixel["clean-on-shift"]["pro"]
    assert card["backbone"]["weights"]["licence"] == "Apache-2.0"
    assert len(card["backbone"]["weights"]["sha256"]) == 64
    assert card["parameters"]["fit"]["coreset"] == 0.1
    text = (folder(study) / "README.md").read_text()
    assert f"{image['clean']['auroc']:.3f}" in text
    assert card["split"][NAME] in text
    assert "git revision is not written here" in text


def test_packaging_again_changes_no_byte_and_leaves_the_weights_where_they_lie(study: Path) -> None:
    place = study / models_path("mvtec", "patchcore")
    before, weights = contents(place), folder(study) / "model.safetensors"
    where = weights.stat().st_ino, weights.stat().st_mtime_ns
    with contextlib.chdir(study):
        trained.stage("package")
    assert contents(place) == before
    assert (weights.stat().st_ino, weights.stat().st_mtime_ns) == where


def test_a_method_that_is_taken_out_leaves_nothing_behind(study: Path) -> None:
    """Files that no parameter names would be packaged and pushed for good."""
    params, scripts = study / "params.yaml", ("check", "calibrate", "evaluate", "package")
    text, before = params.read_text(), contents(study / "models")
    one, other = trained.METHODS
    params.write_text(text.replace(f", {other}]", "]").replace(f"- {other}\n", ""))
    assert params.read_text() != text
    try:
        with contextlib.chdir(study):
            for script in scripts:
                trained.stage(script)
            places = ["models/mvtec", "data/settings", "data/thresholds/mvtec"]
            places += [f"data/evaluation/mvtec/{kind}" for kind in ("image", "bootstrap", "curves")]
            for place in map(Path, places):
                assert [path.stem for path in place.iterdir() if path.stem in trained.METHODS] == [one], place
    finally:
        params.write_text(text)
        with contextlib.chdir(study):
            for script in scripts:
                trained.stage(script)
    assert contents(study / "models") == before


def test_a_damaged_threshold_is_told_and_the_models_stay(study: Path) -> None:
    path = study / "data/thresholds/mvtec/padim_diagonal.json"
    sound, before = path.read_text(), contents(study / models_path("mvtec", "padim_diagonal"))
    damaged = json.loads(sound.replace('"tp"', '"pt"'))
    del damaged["checksum"]  # which would be told first
    path.write_text(json.dumps(damaged))
    try:
        with contextlib.chdir(study), pytest.raises(SystemExit, match="threshold is damaged"):
            trained.stage("package")
        assert contents(study / models_path("mvtec", "padim_diagonal")) == before
    finally:
        path.write_text(sound)


def test_it_starts_without_heavy_libraries() -> None:
    heavy = (*budgets.HEAVY, "scipy", "dvc")
    code = f"import sys, adshift.deploy.package; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_every_method_is_listed_as_an_artifact() -> None:
    listed = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["artifacts"]
    assert sorted(entry["path"] for entry in listed.values()) == sorted(
        f"models/${{dataset.name}}/{method}" for method in registry.REGISTRY
    )
    assert all(entry["type"] == "model" and entry["labels"] for entry in listed.values())
    texts = {entry["path"].rpartition("/")[2]: entry["desc"] for entry in listed.values()}
    every = "; a model a class and domain, and one for all classes"
    assert texts == {method: registry.detector_class(method).artifact + every for method in registry.REGISTRY}


def test_the_card_names_the_code_and_the_versions_that_were_ignored(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = read_json(folder(study) / "card.json")
    roots = ("stages/embed", "stages/fit", "methods/patchcore")
    assert card["code"] == {root: sha256(study / f"data/sources/{root}.json") for root in roots}
    assert "versions_ignored" not in card

    monkeypatch.chdir(study)
    write_json(tmp_path / "ignored.json", {"numpy": "recorded 1.0, installed 1.1"})
    write_json(tmp_path / "network.json", {"ok": True, "code": {"backbones/mcunet": "0123"}})
    monkeypatch.setattr("adshift.deploy.card.IGNORED", tmp_path / "ignored.json")
    monkeypatch.setattr("adshift.deploy.card.NETWORK", tmp_path / "network.json")
    settings = params.load("seed", "dataset.name", "classes", "methods", "split", "shift.kind", "calibrate", "graph")
    package.write(tmp_path / "out", "patchcore", settings)
    place = tmp_path / "out" / NAME / "clean"
    again = read_json(place / "card.json")
    assert again["versions_ignored"] == {"numpy": "recorded 1.0, installed 1.1"}
    assert again["code"] == {**card["code"], "backbones/mcunet": "0123"}
    text = (place / "README.md").read_text()
    assert "- numpy: recorded 1.0, installed 1.1; taken to be the same" in text
    assert "- code: data/sources/backbones/mcunet.json, sha256 0123" in text


def test_a_missing_input_is_told(study: Path, tmp_path: Path) -> None:
    with (
        contextlib.chdir(tmp_path),
        pytest.raises(AdshiftError, match=r"thresholds/mvtec/patchcore\.json: not readable"),
    ):
        settings = type("S", (), {"dataset": type("D", (), {"name": "mvtec"}), "classes": (NAME,)})
        package.write(Path("out"), "patchcore", settings)


def test_pooled_features_are_means_over_positions() -> None:
    arrays = {0: np.zeros((2, 8, 8, 3), np.uint8), 1: np.random.rand(2, 4, 4, 3), 2: np.random.rand(2, 2, 2, 5)}
    found = package.pooled(Features.of(("a", "b"), arrays, {"layers": [{}, {}]}))
    assert found.shape == (2, 8)
    assert found.dtype == np.float32
    assert found[1, 3:] == pytest.approx(arrays[2][1].reshape(4, 5).mean(0), rel=1e-6)
