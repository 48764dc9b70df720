"""Presets rewrite params.yaml, keep its comments, and can follow one another."""

import shutil
from pathlib import Path

import pytest

from adshift import params, presets
from adshift.errors import AdshiftError
from tiny import ROOT, write_tree


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, the sample's recipe and a tiny data set."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "src/adshift/datasets", tmp_path / "src/adshift/datasets")
    write_tree(tmp_path / "raw", ("dots", "waves"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def comments(text: str) -> list[str]:
    return [line.split("#", 1)[1] for line in text.splitlines() if "#" in line]


def test_a_users_own_folder(project: Path) -> None:
    before = (project / "params.yaml").read_text()
    presets.apply("mvtec", "raw")
    after = (project / "params.yaml").read_text()
    assert comments(after) == comments(before)
    loaded = params.load_all()
    assert (loaded.dataset.name, loaded.dataset.root, loaded.classes) == ("mvtec", "raw", ("dots", "waves"))
    assert loaded.patchcore.coreset == 0.05


def test_back_to_the_sample_is_as_shipped(project: Path) -> None:
    shipped = params.read()
    presets.apply("mvtec", "raw")
    assert params.read() != shipped
    presets.apply("sample", None)
    assert params.read() == shipped


def test_the_study(project: Path) -> None:
    for name in ("hazelnut", "carpet", "zipper"):
        shutil.copytree(project / "raw/dots", project / "raw" / name)
    presets.apply("shift_study", "raw")
    loaded = params.load_all()
    assert loaded.classes == ("hazelnut", "carpet", "zipper")
    assert (loaded.features.backbone, loaded.features.layers) == ("resnet50", None)
    assert (loaded.patchcore.neighbours, loaded.patchcore.projection, loaded.padim.n_features) == (9, 128, 100)


def test_every_preset_sets_the_same_keys() -> None:
    keys = {name: set(values) for name, values in presets.PRESETS.items()}
    assert len({frozenset(value) for value in keys.values()}) == 1, keys


@pytest.mark.parametrize(
    ("name", "root", "words"),
    [
        ("mvtec", None, "which images"),
        ("mvtec", "nowhere", "nowhere does not exist"),
        ("shift_study", "raw", "hazelnut, carpet, zipper not found"),
        ("magnetic_tile", "raw", "raw is no magnetic_tile data set"),
    ],
)
def test_what_is_missing_is_told_and_nothing_changes(project: Path, name: str, root: str | None, words: str) -> None:
    before = (project / "params.yaml").read_text()
    with pytest.raises(AdshiftError, match=words):
        presets.apply(name, root)
    assert (project / "params.yaml").read_text() == before
    assert sorted(path.name for path in project.glob("params*")) == ["params.yaml"]
