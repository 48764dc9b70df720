"""Parts of the packaging, each on a few values that were worked out by hand."""

import hashlib
import os
import re
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from adshift.data import split_file
from adshift.data.manifest import names_path
from adshift.deploy import package
from adshift.detectors.records import Predictions
from adshift.errors import AdshiftError
from adshift.evaluation.calibration import Threshold
from adshift.evaluation.scenarios import SCENARIOS, named, own
from adshift.features.store import CONTENT, Features
from adshift.project.paths import features_path, split_path
from adshift.runtime.files import write_json
from tiny import flip


def test_models_of_a_method() -> None:
    """The unified model is packaged with the threshold for any class, so it needs that one too."""
    every = [one.name for one in SCENARIOS]

    def of(*names: str) -> list[tuple[str, str]]:
        return [(model, one.name) for model, one in package.models(("b", "a"), named(names))]

    own = [("b", "clean"), ("a", "clean")]
    assert of("clean") == of("clean", "shift_no_adaptation", "unified") == own
    assert of("clean", "unified_absolute") == own
    assert of("clean", "unified", "unified_absolute") == [*own, ("unified", "unified")]
    assert len(of(*every)) == 2 * 6 + 1
    # Of a lever's scenarios the one on clean images; of those in use.
    assert of("clean", "shift_normalised", "clean_normalised")[1] == ("b", "clean_normalised")
    assert of("clean", "shift_normalised")[1] == ("b", "shift_normalised")


IMAGES = {
    ("bolt", "clean"): [0, 10, 20, 20.1], ("bolt", "shift"): [0, 10, 10.1, 20],
    ("nut", "clean"): [0.1, 10, 20, 0], ("nut", "shift"): [0, 0.1, 10, 20],
    ("gear", "clean"): [0, 10, 20, 30], ("gear", "shift"): [0, 10, 20, 30],
}  # fmt: skip
PARTS = {"clean": ("train", "val", "train", "test"), "shift": ("val", "train", "test", "test")}
# Which pairs are near and in different parts: other ones in each file, so that none can stand in for another.
PAIRS = {
    ("bolt", "clean"): "clean/2 (train) and clean/3 (test)",
    ("bolt", "shift"): "shift/1 (train) and shift/2 (test)",
    ("nut", "clean"): "clean/0 (train) and clean/3 (test)",
    ("nut", "shift"): "shift/1 (train) and shift/0 (val)",
}


@pytest.fixture
def near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of one value and splits of three classes in the current folder; one class has a name for people."""
    monkeypatch.chdir(tmp_path)
    for (name, domain), values in IMAGES.items():
        folder = features_path("set", name, domain)
        folder.mkdir(parents=True)
        np.save(folder / "1.npy", np.array(values, np.float32).reshape(-1, 1, 1, 1))
        layers = [{"name": "a", "file": "1.npy", "shape": [1, 1, 1]}]
        names = [f"{domain}/{index}" for index in range(4)]
        write_json(folder / "features.json", {"size": 4, "layers": layers, "names": names})
    roles = {domain: {f"{domain}/{index}": part for index, part in enumerate(parts)} for domain, parts in PARTS.items()}
    for name in ("bolt", "nut", "gear"):
        split_file.write(split_path("set", name), roles)
    write_json(names_path("set"), {"bolt": "Bölt"})


@pytest.mark.usefixtures("near")
@pytest.mark.parametrize(("drift", "domains"), [("synthetic", ["clean"]), ("recorded", ["clean", "shift"])])
def test_near_duplicates_are_told_by_class_and_domain(drift: str, domains: list[str]) -> None:
    """One class has none. Under synthetic drift an image is no duplicate of its original."""
    of_each = "1 pair of images in different parts show nearly the same; split.group keeps such images together"
    assert package.near_duplicates("set", ["bolt", "gear", "nut"], drift) == [
        f"{shown}, {domain} domain: {of_each}:\n  {PAIRS[name, domain]}"
        for name, shown in (("bolt", "Bölt"), ("nut", "nut"))
        for domain in domains
    ]


@pytest.mark.parametrize(("count", "looked_at"), [(64, 1), (65, 2), (128, 2), (129, 3)])
def test_at_most_64_images_measure_a_map_ratio(count: int, looked_at: int) -> None:
    """Every second of 65 and of 128, every third of 129; the others' maps are far higher."""
    maps = np.full((count, 1, 1), 3.0, np.float32)
    maps[1 :: 2 if looked_at == 2 else 3] = 99.0 if looked_at > 1 else 3.0
    found = Predictions(tuple(f"a/good/{i}" for i in range(count)), np.full(count, 4, np.float32), maps, 1, 0)
    expected = [float(maps[i, 0, 0]) / 4 for i in range(0, count, looked_at)]
    assert len(expected) <= 64
    assert package.map_ratio([found]) == median(expected) == 0.75


def test_what_counts_in_a_map_ratio() -> None:
    """Images whose score and peak are positive; a small score counts; 1 where none is."""

    def of(*pairs: tuple[float, float]) -> float:
        maps = np.array([[[peak]] for _, peak in pairs], np.float32)
        names = tuple(f"a/good/{place}" for place in range(len(pairs)))
        return package.map_ratio(
            [Predictions(names, np.array([score for score, _ in pairs], np.float32), maps, 1, 0.0)]
        )

    assert of((4, 3), (0, 5), (5, 0), (-2, 6), (6, -2)) == 0.75
    assert of((0.5, 0.25), (8, 6), (16, 14)) == 0.75
    assert of((4, 0.5), (8, 2), (0.25, 0.125)) == 0.25
    assert of((0, 5), (5, 0)) == 1.0


def test_pooled_features_are_means_in_float64_of_each_layer() -> None:
    maps = np.array([[[[1.0, 2.0], [3.0, 6.0]], [[5.0, 1.0], [7.0, 3.0]]], np.zeros((2, 2, 2)) + 2], np.float32)
    one = np.array([[[[10.0]]], [[[20.0]]]], np.float32)
    found = package.pooled(Features.of(("a", "b"), {1: maps, 2: one}, {"layers": [{}, {}]}))
    assert found.tolist() == [[4.0, 3.0, 10.0], [2.0, 2.0, 20.0]]
    assert found.dtype == np.float32
    deep = np.full((1, 1000, 1, 2), 0.1, np.float32)  # two channels: NumPy adds them row by row
    exact = np.float32(sum(float(value) for value in deep[0, :, 0, 0]) / 1000)
    assert deep[0].mean((0, 1))[0] != exact
    assert package.pooled(Features.of(("a",), {1: deep}, {"layers": [{}]})).tolist() == [[exact, exact]]


def test_a_threshold_record_says_on_which_images_it_was_set() -> None:
    threshold = Threshold.of(2.0, "test", "f1_grid", np.array([1.0, 3.0, 2.0]), np.array([False, False, True]))
    assert package.threshold_record(threshold, "shift", 0.5) == {
        "threshold": 2.0, "rule": "f1_grid", "val": "shift", "on": "test", "normal": 2, "anomalous": 1,
        "map_ratio": 0.5,
    }  # fmt: skip


def test_pooled_features_leave_padding_out() -> None:
    """Of 4 x 4 inputs that show 4 x 2 and 2 x 4 pixels: half of the columns, or of the rows, of a 2 x 2 map."""
    maps = np.array([[[[1.0], [50.0]], [[3.0], [70.0]]], [[[4.0], [8.0]], [[90.0], [30.0]]]], np.float32)
    content = np.array([[4, 2], [2, 4]])
    features = Features.of(("a", "b"), {1: maps, CONTENT: content}, {"size": 4, "layers": [{}]})
    assert package.pooled(features).tolist() == [[2.0], [6.0]]


def write_fit(place: Path, text: str) -> Path:
    """A description and weights as `fit` leaves them, whose content is `text`."""
    place.mkdir()
    (place / "model.safetensors").write_text(text)
    write_json(place / "model.json", {"sha256": hashlib.sha256(text.encode()).hexdigest()}, checksum=True)
    return place


def contents(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir()}


def inodes(place: Path) -> list[int]:
    return [(place / file).stat().st_ino for file in package.FITTED]


def test_another_fit_replaces_the_weights(tmp_path: Path) -> None:
    """The old ones are taken over only where their content is the same."""
    source, old, same = (write_fit(tmp_path / name, text) for name, text in
                         (("source", "new"), ("old", "old"), ("same", "new")))  # fmt: skip
    target, other = tmp_path / "target", tmp_path / "other"
    target.mkdir()
    package._fitted(source, old, target)
    assert inodes(target) == inodes(source)
    assert (target / "model.safetensors").read_text() == "new"
    other.mkdir()
    package._fitted(source, same, other)
    assert inodes(other) == inodes(same)


@pytest.mark.parametrize("file", package.FITTED)
def test_a_damaged_model_is_not_packaged_again(tmp_path: Path, file: str) -> None:
    """The one packaged before is replaced from the fit, whose own damage is told: nothing is linked unread."""
    source, old = write_fit(tmp_path / "source", "weights"), write_fit(tmp_path / "old", "weights")
    sound = contents(source)
    target, none = tmp_path / "target", tmp_path / "none"
    for place in (target, none):
        place.mkdir()
    flip(old / file)
    package._fitted(source, old, target)
    assert contents(target) == sound
    flip(source / file)
    with pytest.raises(AdshiftError, match=rf"source/{re.escape(file)}: ") as told:
        package._fitted(source, old, none)
    assert "adshift repair" in told.value.remedy
    assert not (none / file).exists()


def test_where_links_are_refused_models_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    source, target = write_fit(tmp_path / "source", "weights"), tmp_path / "target"
    target.mkdir()
    monkeypatch.setattr(os, "link", refuse)
    package._fitted(source, tmp_path / "none", target)
    assert contents(target) == contents(source)


def test_the_reference_of_a_hardened_model_leaves_drifted_copies_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have scores and no stored features; to any other model they are images without features."""
    monkeypatch.chdir(tmp_path)
    folder = features_path("set", "bolt", "clean")
    folder.mkdir(parents=True)
    np.save(folder / "1.npy", np.array([5, 6, 7], np.float32).reshape(-1, 1, 1, 1))
    layers = [{"name": "a", "file": "1.npy", "shape": [1, 1, 1]}]
    names = ("train/good/a", "train/good/b", "test/cut/c")
    write_json(folder / "features.json", {"size": 4, "layers": layers, "names": names})
    scored = (names[1], "train/good/copy", names[2], names[0])
    val = {"bolt": Predictions(scored, np.array([1, 2, 3, 4], np.float32), np.zeros((4, 1, 1), np.float32), 4, 0)}
    found = package._reference("set", own("harden"), val)
    assert found.scores.tolist() == [1, 4] and found.features.tolist() == [[6], [5]]
    with pytest.raises(AdshiftError, match="no features of train/good/copy"):
        package._reference("set", own("clean"), val)
