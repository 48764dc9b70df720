"""What a data set may be: each kind through the preset's command, `check`, `prepare` and `split`, on tiny images."""

import contextlib
import csv
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adshift.cli import parser
from adshift.data import manifest, split_file
from adshift.data.manifest import GOOD, UNLABELLED
from adshift.errors import AdshiftError
from adshift.project.paths import split_path
from tiny import ROOT
from trained import stage

SIZE = (8, 12)
NFC, NFD = (unicodedata.normalize(form, "größe") for form in ("NFC", "NFD"))


def pictures(folder: Path, count: int, start: int = 0, prefix: str = "") -> None:
    """`count` images, each of other bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        seed = list(f"{folder}{number}{prefix}".encode())
        pixels = np.random.default_rng(seed).integers(1, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{prefix}{number:03}.png")


def masks(folder: Path, count: int, end: str = "_mask") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.zeros(SIZE, np.uint8)
        pixels[2:5, 3:6] = 255
        Image.fromarray(pixels).save(folder / f"{number:03}{end}.png")


def mvtec(root: Path, train: int = 30, good: int = 6, cut: int = 10, marked: int = 10, name: str = "nut") -> None:
    pictures(root / name / "train/good", train)
    for folder, count in (("test/good", good), ("test/cut", cut)):
        if count:
            pictures(root / name / folder, count)
    if marked:
        masks(root / name / "ground_truth/cut", marked)


def write_list(path: Path, rows: Sequence[Mapping[str, str]], separator: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter=separator)
        table.writeheader()
        table.writerows(rows)


def good_only(root: Path) -> None:
    mvtec(root, good=0, cut=0, marked=0)


def without_test_good(root: Path) -> None:
    mvtec(root, good=0)


def without_masks(root: Path) -> None:
    mvtec(root, marked=0)


def some_masks(root: Path) -> None:
    mvtec(root, marked=4)


def validation_folder(root: Path) -> None:
    mvtec(root)
    pictures(root / "nut/validation/good", 5)
    pictures(root / "nut/validation/cut", 3, start=100)
    (root / "nut/notes").mkdir()
    (root / "nut/train/good/README").write_text("x")
    (root / "nut/train/good/a.txt~").write_text("x")
    (root / "nut/train/good/@eaDir/000.png").mkdir(parents=True)
    (root / "nut/train/good/.hidden").write_text("x")


def flat(root: Path) -> None:
    pictures(root / "widget", 30)


def nested(root: Path) -> None:
    for lot in ("lot1", "lot2"):
        pictures(root / "widget/good" / lot, 15)
    pictures(root / "widget/bad/scratch", 6)
    pictures(root / "widget/bad/dent", 6)
    masks(root / "widget/truth/scratch", 6, end="")


def classes_under(root: Path) -> None:
    for name in ("metal-nut", "v1.2", NFD):
        pictures(root / name / "ok", 30)
        pictures(root / name / "nok", 4)
        (root / "empty").mkdir(exist_ok=True)


def plain_list(root: Path) -> None:
    pictures(root / "img", 44)
    labels = [GOOD] * 30 + ["scratch"] * 10 + [""] * 4
    masks(root / "truth", 44)
    write_list(
        root / "index.csv",
        [
            {
                "image": f"img/{number:03}.png",
                "label": label,
                "mask": f"truth/{number:03}_mask.png" if label == "scratch" else "",
            }
            for number, label in enumerate(labels)
        ],
    )


def dated_list(root: Path) -> None:
    """Three photographs of each part, taken over two months."""
    pictures(root / "img", 60)
    write_list(
        root / "index.csv",
        [
            {
                "image": f"img/{number:03}.png",
                "label": "worn" if number >= 45 else GOOD,
                "group": f"part{number // 3}",
                "date": f"2020-{8 + number // 30:02}-{1 + number % 30:02}",
            }
            for number in range(60)
        ],
        separator=";",
    )


def domains_list(root: Path) -> None:
    pictures(root / "img", 80)
    write_list(
        root / "index.csv",
        [
            {
                "image": f"img/{number:03}.png",
                "label": GOOD,
                "domain": "day" if number < 40 else "night",
                "class": "nut",
            }
            for number in range(80)
        ],
    )


@dataclass(frozen=True)
class Kind:
    """A kind of data set: how it is written, the command for it, and what must come of it."""

    write: Callable[[Path], None]
    command: tuple[str, ...]
    line: str
    roles: dict[str, dict[str, int]]  # {domain: {role and kind: count}}
    classes: dict[str, str]
    masks: int = 0
    said: tuple[str, ...] = ()
    params: dict[str, object] = field(default_factory=dict)


MVTEC = ("mvtec", "--data-root", "raw")
NO_DEFECT = "warning: no defective image: figures that need one stay empty"
KINDS = {
    "good only": Kind(
        good_only, MVTEC, "1 class: 30 good to split, 0 defective, 12 x 8",
        {"both": {"train good": 24, "val good": 3, "test good": 3}}, {"nut": "nut"}, said=(NO_DEFECT,),
    ),
    "no normal test images": Kind(
        without_test_good, MVTEC, "1 class: 30 good to split, 10 defective with 10 masks, 12 x 8",
        {"both": {"train good": 24, "val good": 3, "test good": 3, "val cut": 3, "test cut": 7}}, {"nut": "nut"}, 10,
    ),
    "no masks": Kind(
        without_masks, MVTEC, "1 class: 30 train, 6 good, 10 defective with 0 masks, 12 x 8",
        {"both": {"train good": 24, "val good": 6, "test good": 6, "val cut": 3, "test cut": 7}}, {"nut": "nut"},
        said=("warning: no mask: how well defects are localized cannot be measured",),
    ),
    "some masks": Kind(
        some_masks, MVTEC, "1 class: 30 train, 6 good, 10 defective with 4 masks, 12 x 8",
        {"both": {"train good": 24, "val good": 6, "test good": 6, "val cut": 3, "test cut": 7}}, {"nut": "nut"}, 4,
        ("warning: 6 of 10 defective images have no mask",),
    ),
    "validation images beside, and strays": Kind(
        validation_folder, MVTEC, "1 class: 30 train, 5 val, 6 good, 13 defective with 10 masks, 12 x 8",
        {"both": {"train good": 30, "val good": 5, "test good": 6, "val cut": 3, "test cut": 10}}, {"nut": "nut"}, 10,
        ("passed over, no images by name: 5 (2 hidden, 1 .txt~, 1 folder notes, 1 without suffix)",),
    ),
    "flat": Kind(
        flat, ("folder", "--normal", "raw/widget"), "1 class: 30 good to split, 0 defective, 12 x 8",
        {"both": {"train good": 24, "val good": 3, "test good": 3}}, {"widget": "widget"}, said=(NO_DEFECT,),
    ),
    "nested": Kind(
        nested,
        ("folder", "--normal", "raw/widget/good", "--defective", "raw/widget/bad", "--masks", "raw/widget/truth",
         "--class", "big widget"),
        "1 class: 30 good to split, 12 defective with 6 masks, 12 x 8",
        {"both": {"train good": 24, "val good": 3, "test good": 3, "val dent": 2, "val scratch": 1, "test dent": 4,
                  "test scratch": 5}},
        {"big_widget": "big widget"}, 6,
    ),
    "odd names": Kind(
        classes_under, ("folder", "--classes-under", "raw", "--normal", "ok", "--defective", "nok"),
        "3 classes: 90 good to split, 12 defective with 0 masks, 12 x 8",
        {"both": {"train good": 24, "val good": 3, "test good": 3, "val nok": 1, "test nok": 3}},
        {"grosse": NFD, "metal_nut": "metal-nut", "v1_2": "v1.2"},
    ),
    "list": Kind(
        plain_list, ("list", "--data-root", "raw/index.csv"),
        "1 class: 30 good to split, 10 defective with 10 masks, 4 unlabelled, 12 x 8",
        {"both": {"train good": 24, "val good": 3, "test good": 3, "val scratch": 3, "test scratch": 7, "test ": 4}},
        {"raw": "raw"}, 10,
    ),
    "list with groups and dates": Kind(
        dated_list, ("list", "--data-root", "raw/index.csv"),
        "1 class: 45 good to split, 15 defective with 0 masks, 12 x 8",
        {"both": {"train good": 36, "val good": 3, "test good": 6, "val worn": 3, "test worn": 12}}, {"raw": "raw"},
        params={"split.group": "group", "split.order": "date"},
    ),
    "list with domains": Kind(
        domains_list, ("list", "--data-root", "raw/index.csv"), "1 class: 80 good to split, 0 defective, 12 x 8",
        {domain: {"train good": 32, "val good": 4, "test good": 4} for domain in ("clean", "shift")}, {"nut": "nut"},
        said=(NO_DEFECT,),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stage `sources` writes."""
    folder = tmp_path_factory.mktemp("sources")
    with contextlib.chdir(folder):
        for name in ("src", "stages"):
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


def change(values: Mapping[str, object]) -> None:
    from ruamel.yaml import YAML

    yaml = YAML()
    document = yaml.load(Path("params.yaml").read_text())
    for key, value in values.items():
        *sections, leaf = key.split(".")
        place = document
        for section in sections:
            place = place[section]
        place[leaf] = value
    with Path("params.yaml").open("w") as file:
        yaml.dump(document, file)


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_found_checked_and_split(name: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = KINDS[name]
    kind.write(project / "raw")
    adshift("preset", *kind.command)
    told = capsys.readouterr().out.splitlines()
    assert told[0] == kind.line
    assert all(any(line.startswith(words) for line in told) for words in kind.said), told
    change(kind.params)
    for script in ("check", "prepare", "split"):
        stage(script)
    dataset = kind.command[0]
    assert manifest.class_names(dataset, kind.classes) == kind.classes
    for one in kind.classes:
        domains = {"both": manifest.path_of(dataset, one, "clean")}
        if "both" not in kind.roles:
            domains = {"clean": domains["both"], "shift": manifest.recorded_path(dataset, one)}
        for domain, path in domains.items():
            items = manifest.read(path)
            roles = split_file.read(split_path(dataset, one), "clean" if domain == "both" else domain)
            found = Counter(f"{roles[item.name]} {item.defect}" for item in items)
            assert dict(found) == kind.roles[domain]
            assert sum(bool(item.mask) for item in items) == kind.masks
            assert {item.mask for item in items if not item.mask and item.defect == GOOD} <= {""}
            assert {item.mask for item in items if not item.mask and item.defect != GOOD} <= {None}
            assert all(item.image.startswith(f"{project}/raw") and Path(item.image).is_file() for item in items)
            assert manifest.anomalous(roles).sum() == sum(item.anomalous for item in items)
            assert (~manifest.labelled(roles)).sum() == sum(item.defect == UNLABELLED for item in items)


def test_groups_stand_on_one_side_and_in_the_order_of_their_dates(project: Path) -> None:
    kind = KINDS["list with groups and dates"]
    kind.write(project / "raw")
    adshift("preset", *kind.command)
    change(kind.params)
    for script in ("check", "prepare", "split"):
        stage(script)
    items = manifest.read(manifest.path_of("list", "raw", "clean"))
    roles = split_file.read(split_path("list", "raw"), "clean")
    sides: dict[str, set[str]] = {}
    for item in items:
        sides.setdefault(item.listed["group"], set()).add(roles[item.name])
    assert len(sides) == 20 and all(len(one) == 1 for one in sides.values())
    normal = sorted((item.listed["date"], roles[item.name]) for item in items if not item.anomalous)
    assert [role for _, role in normal] == ["train"] * 36 + ["val"] * 3 + ["test"] * 6


def test_one_bad_class_of_three_does_not_block_the_others(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("bolt", "nut", "screw"):
        mvtec(project / "raw", name=name)
    masks(project / "raw/nut/ground_truth/cut", 12)
    before = Path("params.yaml").read_text()
    with pytest.raises(AdshiftError, match=r"nut/ground_truth/cut/010_mask.png: is a mask without") as error:
        adshift("preset", *MVTEC)
    assert error.value.remedy.endswith("--classes bolt,screw")
    assert Path("params.yaml").read_text() == before
    adshift("preset", *MVTEC, "--classes", "bolt,screw")
    assert "2 classes: 60 train, 12 good, 20 defective with 20 masks" in capsys.readouterr().out
    for script in ("check", "prepare", "split"):
        stage(script)


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
    adshift("preset", "list", "--data-root", "raw/index.csv")
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
        adshift("preset", "list", "--data-root", "raw/index.csv")


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
