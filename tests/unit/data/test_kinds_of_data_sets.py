"""Data sets as people have them: what the preset's command refuses and why, names of classes, lists, roots."""

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from adshift.cli import parser
from adshift.data import manifest
from adshift.data.manifest import GOOD, UNLABELLED
from adshift.errors import AdshiftError
from kinds import KINDS, LIST, MVTEC
from own_images import NFC, NFD, classes_under, masks, mvtec, one_broken, pictures, write_list
from tiny import ROOT
from trained import stage


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stage `sources` writes."""
    folder = tmp_path_factory.mktemp("sources")
    with contextlib.chdir(folder):
        for name in ("src", "stages", "params.yaml"):
            (folder / name).symlink_to(ROOT / name)
        stage("sources")
    return folder / "data/sources"


@pytest.fixture
def project(tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and what the stages depend on."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/sources").symlink_to(sources)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def adshift(*words: str) -> None:
    args = parser().parse_args(words)
    args.work(args)


def test_a_bad_class_leaves_params_as_they_are(project: Path) -> None:
    one_broken(project / "raw")
    before = Path("params.yaml").read_text()
    with pytest.raises(AdshiftError, match=r"nut/ground_truth/cut/010_mask.png: is a mask without") as error:
        adshift("preset", *MVTEC)
    assert error.value.remedy.endswith("--classes bolt,screw")
    assert Path("params.yaml").read_text() == before


def test_two_folders_of_one_name_in_paths_are_told(project: Path) -> None:
    for name in ("a-b", "a.b", "c"):
        mvtec(project / "raw", name=name)
    with pytest.raises(AdshiftError, match=r"classes: a-b and a.b .* are both called a_b in paths") as error:
        adshift("preset", *MVTEC)
    assert "rename the folder a.b" in error.value.remedy and "--classes c" in error.value.remedy
    adshift("preset", *MVTEC, "--classes", "c")


@pytest.mark.parametrize("name", ["größe", NFD, "grosse"])
def test_a_class_is_asked_for_by_any_of_its_names(name: str, project: Path) -> None:
    classes_under(project / "raw")
    adshift("preset", *KINDS["odd names"].command, "--classes", name)
    assert "classes: [grosse]" in Path("params.yaml").read_text().replace("'", "")


def test_masks_in_the_other_normal_form(project: Path) -> None:
    mvtec(project / "raw", cut=0, marked=0)
    pictures(project / "raw/nut/test/cut", 3, prefix=NFC)
    masks(project / "raw/nut/ground_truth/cut", 3)
    for number, path in enumerate(sorted((project / "raw/nut/ground_truth/cut").iterdir())):
        path.rename(path.with_name(f"{NFD}{number:03}_mask.png"))
    adshift("preset", *MVTEC)
    stage("prepare")
    items = [item for item in manifest.read(manifest.path_of("mvtec", "nut", "clean")) if item.anomalous]
    assert len(items) == 3 and all(item.mask and item.key.startswith(NFC) for item in items)


def test_defective_images_beside_their_normal_ones_are_not_normal(project: Path) -> None:
    """Defective images and masks beside their normal ones, all in one folder."""
    pictures(project / "raw/widget", 30)
    pictures(project / "raw/widget/bad", 4)
    masks(project / "raw/widget/truth", 4)
    adshift(
        "preset", "folder", "--normal", "raw/widget", "--defective", "raw/widget/bad", "--masks", "raw/widget/truth"
    )
    stage("prepare")
    items = manifest.read(manifest.path_of("folder", "widget", "clean"))
    assert Counter(item.defect for item in items) == {GOOD: 30, "bad": 4}
    assert sum(bool(item.mask) for item in items) == 4


def rows(**changes: str) -> list[dict[str, str]]:
    whole = {"image": "img/000.png", "label": GOOD, "mask": "", "part": "", "domain": ""}
    return [{**whole, "image": f"img/{number:03}.png"} for number in range(1, 30)] + [{**whole, **changes}]


def test_an_image_without_a_label_stands_in_test_whatever_its_part(project: Path) -> None:
    pictures(project / "raw/img", 30)
    write_list(project / "raw/index.csv", rows(part="val", label=""))
    adshift("preset", *LIST)
    stage("prepare")
    items = manifest.read(manifest.path_of("list", "raw", "clean"))
    assert [(item.part, item.mask, item.name) for item in items if item.defect == UNLABELLED] == [
        ("test", None, "test//img_000")]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (rows(image="img/099.png"), r"index.csv, line 31: .*img/099.png is not there"),
        (rows(mask="img/none.png", label="cut"), r"line 31: .*none.png is not there"),
        (rows(label="ok"), r"line 31: label ok: write good for a normal image"),
        (rows(label="a/b"), r"line 31: label a/b: no kind of defect"),
        (rows(part="holdout"), r"line 31: part holdout: expected train, val, test or nothing"),
        (rows(part="train", label="cut"), r"line 31: .* is in train and cut; expected good"),
        (rows(image="img/001.png"), r"two images named train/good/img_001"),
        (rows(image="notes.txt"), r"line 31: notes.txt is no image that is read here"),
        (rows(image=""), r"not a readable list \(line 31 names no image"),
        ([{"file": "img/000.png"}], r"not a readable list \(its columns are file; expected"),
    ],
)
def test_what_is_wrong_with_a_list_is_told_by_line(project: Path, table: list[dict[str, str]], said: str) -> None:
    pictures(project / "raw/img", 30)
    (project / "raw/notes.txt").write_text("x")
    write_list(project / "raw/index.csv", table)
    with pytest.raises(AdshiftError, match=said):
        adshift("preset", *LIST)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mvtec", "--data-root", "data/mine"), r"data/mine lies in data/, which the pipeline writes"),
        (("mvtec", "--data-root", "."), r"holds this project"),
        (("folder",), r"preset folder: which images"),
        (("folder", "--normal", "nowhere"), r"nowhere: no such folder"),
        (("folder", "--normal", "raw/nut/train/good", "--defective", "/"), r"the folder that they share is /"),
        (("mvtec", "--data-root", "raw", "--normal", "raw"), r"--normal and the like .* of the preset folder alone"),
        (("list", "--data-root", "raw"), r"raw is no list data set"),
    ],
)
def test_roots_that_cannot_be_are_refused(project: Path, words: Sequence[str], said: str) -> None:
    mvtec(project / "raw")
    mvtec(project / "data/mine")
    before = Path("params.yaml").read_text()
    with pytest.raises(AdshiftError, match=said):
        adshift("preset", *words)
    assert Path("params.yaml").read_text() == before


def test_a_home_is_expanded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project / "home"))
    mvtec(project / "home/photos")
    adshift("preset", "mvtec", "--data-root", "~/photos")
    assert f"root: {project}/home/photos" in Path("params.yaml").read_text()
