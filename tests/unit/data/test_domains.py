"""Recorded drift: whose domain an image is in, and that prepare, shift, split and the readers agree on it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adshift.data import manifest, split_file, splits
from adshift.data.datasets import magnetic_tile
from adshift.data.manifest import Item
from adshift.data.settings import Recorded
from adshift.data.shift import recorded
from adshift.errors import AdshiftError, AdshiftWarning
from adshift.features import stored_features
from adshift.project import params, presets
from adshift.project.paths import DOMAINS, features_path, split_path
from adshift.report import pictures, tables
from adshift.runtime.files import write_json
from layouts import write_tiles
from tiny import ROOT, Project


def item(stem: str, defect: str = "good") -> Item:
    return Item(f"test/{defect}/{stem}", "test", defect, f"raw/{stem}.jpg", "", "0", "", 8, 8)


def recorded_settings(pattern: str = r"exp(\d)", shifted: tuple[str, ...] = ("2", "3")) -> Recorded:
    return Recorded(column=None, pattern=pattern, shifted=shifted)


def test_each_image_belongs_to_the_domain_that_its_name_says() -> None:
    items = [item(f"exp{exposure}_num_{n}") for exposure in (1, 2, 3) for n in (2, 3)]
    clean, shifted = recorded.assign(items, recorded_settings(), "tile")
    assert clean == items[:2] and shifted == items[2:]


@pytest.mark.parametrize(
    ("stems", "shifted", "said"),
    [
        (("exp1_a", "other"), ("2",), r"raw/other\.jpg does not say how it was taken"),
        (("exp1_a", "exp2_a"), ("2", "7", "8"), r"under shift\.recorded\.shifted: 7, 8"),
        (("exp2_a", "exp3_a"), ("2", "3"), "names every condition"),
    ],
)
def test_what_cannot_be_assigned_is_named(stems: tuple[str, ...], shifted: tuple[str, ...], said: str) -> None:
    with pytest.raises(AdshiftError, match=said):
        recorded.assign([item(stem) for stem in stems], recorded_settings(shifted=shifted), "tile")


def test_an_image_whose_column_is_empty_is_in_neither_domain() -> None:
    items = [replace(item(f"{n}"), listed={"date": date}) for n, date in enumerate(("2026-08", "", "2026-09", ""))]
    settings = Recorded(column="date", pattern=r"-(\d\d)", shifted=("09",))
    said = r"class screw: 2 images without a value of date are in neither domain \(first: raw/1.jpg\)"
    with pytest.warns(AdshiftWarning, match=said):
        assert recorded.assign(items, settings, "screw") == ([items[0]], [items[2]])


@pytest.mark.parametrize(
    ("pattern", "said"), [("exp(", "no regular expression"), ("exp.", "0 groups"), ("(e)(x)", "2")]
)
def test_a_pattern_has_one_group(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        recorded_settings(pattern)


def stage(*command: str) -> str:
    script = str(ROOT / "stages" / f"{command[0]}.py")
    done = subprocess.run([sys.executable, script, *command[1:]], capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """params.yaml as the preset writes it for generated tiles."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    write_tiles(tmp_path / "raw")
    presets.apply("magnetic_tile_recorded", "raw")
    return Project(tmp_path)


def test_every_domain_has_its_own_images_and_its_own_split(project: Project) -> None:
    shifted = ("shift", "--dataset", "magnetic_tile", "--seed", "42", "--name", "tile")
    for command in (("check",), ("prepare",), ("split",), shifted):
        assert stage(*command) == ""
    items = {domain: manifest.read(manifest.path_of("magnetic_tile", "tile", domain)) for domain in DOMAINS}
    exposures = {domain: {one.image.split("exp")[1][0] for one in found} for domain, found in items.items()}
    assert exposures == {"clean": set("123"), "shift": set("456")}
    assert len(items["clean"]) == len(items["shift"]) == 3 * (25 + 8)
    assert not (project.folder / "data/shift/magnetic_tile/tile/images").exists()  # the images stay where they are

    path = split_path("magnetic_tile", "tile")
    for domain, found in items.items():
        roles = split_file.read(path, domain)
        assert set(roles) == {one.name for one in found}
        for part, kinds in (("train", {False}), ("val", {False, True}), ("test", {False, True})):
            assert set(manifest.anomalous(split_file.names_of(roles, part))) == kinds
        defects = split_file.names_of(roles, "val")
        assert sum("/good/" not in name for name in defects) == 7  # floor(0.3 * 24), of this domain's own
    frame = tables.splits("magnetic_tile", ["tile"], "b", Path("reference")).frame
    assert frame[["class", "domain"]].values.tolist() == [["tile", "clean"], ["tile", "shift"]]

    for domain, found in items.items():  # features as embed stores them, a domain's images alone
        folder = features_path("magnetic_tile", "tile", domain)
        folder.mkdir(parents=True)
        np.save(folder / "level1.npy", np.zeros((len(found), 1, 1, 1), np.float16))
        layers = [{"name": "a", "file": "level1.npy", "shape": [1, 1, 1]}]
        write_json(folder / "features.json", {"names": [one.name for one in found], "layers": layers, "size": 4})
        for part in ("train", "val", "test"):
            names = stored_features.stored("magnetic_tile", ["tile"], domain, part).names
            assert names and set(names) <= {one.name for one in found}

    shown = pictures.choose("magnetic_tile", ["tile"], 4)
    assert not set(shown["tile", "clean"]) & set(shown["tile", "shift"])
    album = pictures.Album("magnetic_tile", 32, None, {})
    assert pictures.samples(album, shown).height > 2 * pictures.TILE


def test_a_domain_with_too_few_images_is_named(project: Project) -> None:
    project.change(shift__recorded__shifted=["7"])
    write_tiles(project.folder / "raw", "7", normal=1)
    assert stage("prepare") == ""
    said = stage("split")
    assert "class tile, shift domain: no normal image is left" in said and "Traceback" not in said


def check() -> str:
    done = subprocess.run([sys.executable, "-m", "adshift.cli", "check"], capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


def test_mistakes_are_told_before_any_image_is_opened(project: Project) -> None:
    assert check() == ""
    project.change(shift__recorded__shifted=["4", "9"])
    assert "class tile: no image was taken under shift.recorded.shifted: 9" in check()
    project.change(shift__recorded__pattern="lamp(.)", shift__recorded__shifted=["4"])
    assert "does not say how it was taken" in check()
    train = sum(magnetic_tile._part(f"exp4_num_{number}") == "train" for number in range(25))
    trained = splits.training_count(params.load("split").split, {"train": train, "test": 25 - train})
    project.change(shift__recorded__pattern=r"exp(\d)", shift__recorded__shifted=["4"], ablation__ratios=[1e-9])
    assert f"patches of tile, shift domain's {trained} training images" in check()
    project.change(
        dataset__name="sample", dataset__root=str(ROOT / "src/adshift/data/datasets/sample.py"), classes=["carpet"]
    )
    assert "sample is made here" in check()


def test_synthetic_drift_has_one_split_for_both_domains(project: Project) -> None:
    presets.apply("magnetic_tile", "raw")
    assert stage("prepare") == stage("split") == ""
    assert not manifest.recorded_path("magnetic_tile", "tile").exists()
    path = split_path("magnetic_tile", "tile")
    assert set(split_file.read_all(path)) == {"both"}
    assert split_file.read(path, "clean") == split_file.read(path, "shift")
    assert len(split_file.read(path, "clean")) == 6 * (25 + 8)
    assert json.dumps(params.read()["shift"]["recorded"]["shifted"]) == '["4", "5", "6"]'
