"""Presets rewrite params.yaml, keep its comments, and can follow one another."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML

from adshift.data import datasets
from adshift.errors import AdshiftError
from adshift.project import params, presets
from layouts import write_btad, write_mvtec_ad_2, write_real_iad, write_visa
from tiny import ROOT, write_tree


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, the sample's recipe and a tiny data set."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "src/adshift/data/datasets", tmp_path / "src/adshift/data/datasets")
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
    assert (loaded.dataset.name, loaded.dataset.root, loaded.classes) == (
        "mvtec", str(project / "raw"), ("dots", "waves"))  # fmt: skip
    assert loaded.patchcore.coreset == 0.05


@pytest.mark.parametrize(
    ("size", "times"), [((224, 224), None), ((447, 300), None), ((448, 224), "2.0"), ((300, 900), "4.0")]
)
def test_it_says_how_far_images_are_shrunk(project: Path, size: tuple[int, int], times: str | None) -> None:
    """To a square of 224 pixels; the side that is shrunk more counts."""
    for path in (project / "raw").rglob("*.png"):
        Image.open(path).resize(size).save(path)
    said = f"images are shrunk {times} times, so small defects may be lost: a larger features.resize keeps them, "
    lines = [line for line in presets.apply("mvtec", "raw") if "shrunk" in line]
    assert lines == ([f"{said}and costs time and memory by its area"] if times else [])


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


def test_the_weight_that_the_study_prints_is_the_studys_alone() -> None:
    for key in ("patchcore.reweight", "patchcore_pq.reweight"):
        printed = {name for name in presets.PRESETS if presets.values_of(name)[key] == "softmax"}
        others = {presets.values_of(name)[key] for name in presets.PRESETS if name not in printed}
        assert (printed, others) == ({"shift_study"}, {"original"})


def test_every_preset_sets_the_same_keys() -> None:
    keys = {name: set(presets.values_of(name)) for name in presets.PRESETS}
    assert len({frozenset(value) for value in keys.values()}) == 1, keys


def test_every_data_set_has_a_preset_of_its_name() -> None:
    assert {name: values["dataset.name"] for name, values in presets.PRESETS.items() if name in datasets.REGISTRY} == {
        name: name for name in datasets.REGISTRY
    }


def test_classes_that_look_like_numbers_stay_words(project: Path) -> None:
    """DVC reads an unquoted 01 as 1."""
    write_btad(project / "btad")
    for name in ("btad", "xai_btad"):
        presets.apply(name, "btad")
        assert params.load_all().classes == ("01", "02", "03")
        assert YAML(typ="safe", pure=True).load((project / "params.yaml").read_text())["classes"] == ["01", "02", "03"]
        assert "classes: ['01', '02', '03']" in (project / "params.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "write"), [("mvtec_ad_2", write_mvtec_ad_2), ("visa", write_visa), ("real_iad", write_real_iad)]
)
def test_data_sets_from_their_own_layouts(project: Path, name: str, write: Callable[[Path], None]) -> None:
    write(project / "set")
    presets.apply(name, "set")
    loaded = params.load_all()
    assert (loaded.dataset.name, loaded.split.protocol) == (name, "study")
    assert list(loaded.classes) == datasets.classes_under(name, "set")


def test_the_xai_studys_rows_are_the_presets() -> None:
    """Each data set, class and backbone of its tables has a preset, and no preset has another."""
    with (ROOT / "reference/padim_cross_dataset.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["category"] != "mean"]
    printed = {(row["dataset"].removesuffix("_ad"), row["category"], row["backbone"]) for row in rows}
    chosen = [presets.values_of(name) for name in presets.PRESETS if name.startswith("xai")]
    ours = {(v["dataset.name"], one, v["features.backbone"]) for v in chosen for one in v["classes"]}
    assert ours == printed
    assert {(v["features.resize"], v["features.crop"], v["split.protocol"], *v["methods"]) for v in chosen} == {
        (256, 224, "official", "padim")
    }
    wide = next(row for row in rows if row["n_features"])
    assert {v["padim.n_features"] for v in chosen if v["features.backbone"] == wide["backbone"]} == {
        int(wide["n_features"])
    }


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


def test_a_file_whose_lists_another_program_has_rewritten(project: Path) -> None:
    """ruamel.yaml, and so `dvc exp run -S`, writes a new list on lines of its own and moves its comment."""
    yaml = YAML()
    document = yaml.load((project / "params.yaml").read_text())
    document["classes"], document["methods"] = ["hazelnut"], ["padim"]
    document["shift"]["recorded"]["shifted"] = ["1"]
    with (project / "params.yaml").open("w") as file:
        yaml.dump(document, file)
    assert "methods:" in (project / "params.yaml").read_text() and "\n- padim" in (project / "params.yaml").read_text()
    presets.apply("sample", None)
    assert params.load_all().classes == ("hazelnut", "carpet", "zipper")
    assert (project / "params.yaml").read_text() == (ROOT / "params.yaml").read_text()
