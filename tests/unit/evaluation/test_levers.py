"""The levers: what each is fitted on, what it scores, and that one that changes nothing is the plain model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import trained
from adshift.data import manifest
from adshift.data.images import load_image
from adshift.data.normalising import Reference
from adshift.data.shift.copies import copies_of, drawn_for, rendered
from adshift.data.shift.draws import Draw
from adshift.detectors import registry
from adshift.detectors.records import Predictions
from adshift.evaluation.levers import Run, lever_class
from adshift.evaluation.levers.adapt import cross_fitted, joined
from adshift.evaluation.registry import LEVERS
from adshift.features import extract
from adshift.features.backbones import Backbone
from adshift.features.settings import Stored as Settings
from adshift.features.store import Features
from adshift.project import params
from adshift.project.paths import lever_path, lever_scores_path, model_path, settings_path
from adshift.runtime import seeding
from adshift.runtime.files import read_json, write_json

NAME = trained.NAMES[0]


@pytest.fixture
def run(study: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(study)
    return Run("mvtec", "patchcore", NAME, 42)


def stored_scores(run: Run, lever: str, part: str, pair: str) -> Predictions:
    return Predictions.load(lever_scores_path(part, run.dataset, run.method, run.name, lever) / pair / f"{NAME}.npz")


def fitted(run: Run, features: Features, **changes: object) -> np.ndarray:
    settings = run.settings.model_copy(update=changes)
    model = run.detector(settings)
    model.fit(features, seeding.generator(42, "fit", "patchcore", NAME, "clean"))
    return model.bank


def bank(run: Run, lever: str) -> np.ndarray:
    return registry.detector_class("patchcore").load(model_path("mvtec", "patchcore", NAME, lever)).bank


def test_every_lever_has_a_class() -> None:
    assert {lever_class(name).__name__.lower() for name in LEVERS} == set(LEVERS)


def test_copies_are_drawn_apart_and_reproduced_from_their_record(run: Run) -> None:
    harden, features = params.load("harden").harden, Settings.read(settings_path("features"))
    folder = lever_path("harden", "mvtec", NAME)
    records = [json.loads(line) for line in (folder / "draws.jsonl").read_text().splitlines()]
    stored = Features.open(folder / "features")
    assert [one["name"] for one in records] == list(stored.names)
    good = {*run.names("clean", "train"), *(one for one in run.names("clean", "val") if "/good/" in one)}
    assert {name.rpartition("+")[0] for name in stored.names} == good
    assert len(stored) == harden.copies * len(good)
    items = {item.name: item for item in manifest.read(manifest.path_of("mvtec", NAME, "clean"))}
    [copy] = [
        one for one in copies_of([items[records[0]["name"].rpartition("+")[0]]], 2) if one.name == records[0]["name"]
    ]
    drawn = Draw.from_dict(records[0]["draw"])
    assert drawn == drawn_for(harden, 42, NAME, copy)
    pixels = rendered(copy, drawn, (72, 72))
    with trained.one_network():
        backbone = Backbone(features)
    maps = backbone(extract.network_inputs(pixels, features)[None])[1][0].astype(np.float16)
    np.testing.assert_array_equal(stored.select([copy.name]).maps(2)[0], maps.astype(np.float32))
    assert (pixels != load_image(items[copy.name.rpartition("+")[0]])).any()


def copied(study: Path, folder: Path) -> Path:
    """The study, to change it: what the stage `harden` reads, and its output."""
    for part in ("data/settings", "data/split", "data/clean", "data/levers/harden", "photos"):
        shutil.copytree(study / part, folder / part)
    for part in ("src", "stages"):
        (folder / part).symlink_to(study / part)
    shutil.copy(study / "params.yaml", folder)
    return folder


def test_no_copies_are_no_error(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied(study, tmp_path))
    write_json(settings_path("harden"), read_json(settings_path("harden")) | {"copies": 0}, checksum=True)
    trained.stage("harden", dataset="mvtec", name=NAME, seed="42")
    folder = lever_path("harden", "mvtec", NAME)
    assert [path.name for path in folder.iterdir()] == ["draws.jsonl"]
    assert (folder / "draws.jsonl").read_text() == ""


def test_an_image_with_the_name_of_a_copy_is_refused(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copied(study, tmp_path))
    path = manifest.path_of("mvtec", NAME, "clean")
    items = manifest.read(path)
    good = next(item for item in items if item.name.startswith("train/good/"))
    manifest.write(path, [*items, replace(good, name=f"{good.name}+1")])
    with pytest.raises(SystemExit, match="has the name of a drifted copy"):
        trained.stage("harden", dataset="mvtec", name=NAME, seed="42")


def test_a_hardened_model_is_fitted_on_the_copies_too(run: Run) -> None:
    copies = Features.open(lever_path("harden", "mvtec", NAME) / "features")
    training = run.stored("clean", "train")
    of_training = [name for name in copies.names if name.rpartition("+")[0] in training.names]
    expected = fitted(run, training + copies.select(of_training), coreset=run.settings.coreset / 3)
    np.testing.assert_array_equal(bank(run, "harden"), expected)
    val = stored_scores(run, "harden", "val", "clean-on-clean").names
    normal = [name for name in run.names("clean", "val") if "/good/" in name]
    assert sorted(val) == sorted([*run.names("clean", "val"), *(f"{name}+{n}" for name in normal for n in (1, 2))])
    assert stored_scores(run, "harden", "test", "clean-on-shift").names == run.names("shift", "test")


def test_without_copies_a_hardened_model_is_the_plain_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lever = lever_class("harden")(run)
    monkeypatch.setattr(lever, "settings", lever.settings.model_copy(update={"copies": 0}))
    assert lever.model.bank.tobytes() == run.clean.bank.tobytes()
    assert lever.model.settings == run.clean.settings
    assert lever.images("clean", "val").names == run.names("clean", "val")


def test_normalized_features_are_those_of_normalized_images(run: Run) -> None:
    settings = Settings.read(settings_path("features"))
    clean = {item.name: item for item in manifest.read(manifest.path_of("mvtec", NAME, "clean"))}
    inputs = [extract.network_inputs(load_image(clean[name]), settings) for name in run.names("clean", "train")]
    reference = Reference.fit(inputs, "moments")
    shifted = manifest.read(manifest.path_of("mvtec", NAME, "shift"))[0]
    stored = Features.open(lever_path("normalise", "mvtec", NAME) / "shift")
    assert Reference.of(stored.spec["preprocessing"]["normalise"]) == reference
    with trained.one_network():
        backbone = Backbone(settings)
    pixels = reference(extract.network_inputs(load_image(shifted), settings))
    maps = backbone(pixels[None])[1][0].astype(np.float16)
    np.testing.assert_array_equal(stored.select([shifted.name]).maps(2)[0], maps.astype(np.float32))
    training = Features.open(lever_path("normalise", "mvtec", NAME) / "clean").select(run.names("clean", "train"))
    np.testing.assert_array_equal(bank(run, "normalise"), fitted(run, training))


def test_an_aligned_model_is_the_clean_one(run: Run) -> None:
    assert bank(run, "align").tobytes() == run.clean.bank.tobytes()
    scores = run.clean.predict(run.stored("shift", "test"), registry.settings("patchcore", "score")).scores
    assert (stored_scores(run, "align", "test", "clean-on-shift").scores != scores).any()


def test_an_adapted_model_sees_the_drawn_images_alone(run: Run) -> None:
    names = read_json(lever_path("adapt", "mvtec", NAME) / "today.json")
    training = run.names("shift", "train")
    assert set(names) <= set(training)
    assert len(names) == min(params.load("adapt").adapt.images, len(training))
    today = run.stored("shift", "train").select(names)
    np.testing.assert_array_equal(bank(run, "adapt"), run.clean.adapted(today).bank)


def test_its_threshold_is_set_by_images_that_each_model_had_not_seen(run: Run) -> None:
    scoring = registry.settings("patchcore", "score")
    names = read_json(lever_path("adapt", "mvtec", NAME) / "today.json")
    today = run.stored("shift", "train").select(names)
    val = stored_scores(run, "adapt", "val", "clean-on-shift")
    folds = [range(first, len(names), 5) for first in range(min(5, len(names)))]
    rest = [[index for index in range(len(names)) if index not in fold] for fold in folds]
    assert list(val.names) == [names[index] for fold in folds for index in fold]
    expected = [
        run.clean.adapted(today.take(others)).predict(today.take(fold), scoring).scores
        for fold, others in zip(folds, rest, strict=True)
    ]
    np.testing.assert_array_equal(val.scores, np.concatenate(expected))


def test_one_image_is_scored_by_the_model_itself(run: Run) -> None:
    scoring = registry.settings("patchcore", "score")
    one = run.stored("shift", "train").take([0])
    found = cross_fitted(run.clean, lambda _: pytest.fail("nothing to adapt with"), one, scoring)
    assert found.scores == run.clean.predict(one, scoring).scores
    twice = joined([found, found])
    assert twice.names == found.names * 2 and len(twice.maps) == 2


def test_a_method_that_cannot_adapt_is_fitted_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.detector, "adaptable", False)
    lever = lever_class("adapt")(run)
    expected = fitted(run, run.stored("clean", "train") + lever.today)
    np.testing.assert_array_equal(lever.model.bank, expected)
