"""Kinds of data sets that people have: how each is written, the command for it, and what must come of it.

`made` runs the pipeline on one, from the command line to the page. Tiny images: a texture, and on a defective one a
dark block in its middle.
"""

import csv
import fcntl
import json
import shutil
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from adshift.data.manifest import GOOD
from tiny import rewrite, texture
from trained import adshift, project, run, stage

Size = tuple[int, int]  # height, width
SIZE = (32, 48)
NFC, NFD = (unicodedata.normalize(form, "größe") for form in ("NFC", "NFD"))
METHOD = "padim_diagonal"
FAST = {
    "methods": [METHOD], "features.resize": 64, "features.batch": 32, "evaluate.bootstrap": 100,
    "shift.kind": "none", "unified": False, "ablation.ratios": [],
}  # fmt: skip
NEED_DEFECTS = {"image_auroc", "image_auprc", "image_f1", "accuracy", "precision", "recall",
                "image_best_f1_upper_bound"}  # fmt: skip
NEED_MASKS = {"pixel_auroc", "pixel_auprc", "pixel_best_f1_upper_bound", "pro", "aupimo"}
ALL_NULL = NEED_DEFECTS | NEED_MASKS


def block(size: Size) -> tuple[slice, slice]:
    """Rows and columns of the defect."""
    return slice(size[0] // 3, 2 * size[0] // 3), slice(size[1] // 3, 2 * size[1] // 3)


def pictures(
    folder: Path, count: int, start: int = 0, prefix: str = "", *,
    defective: bool = False, sizes: Sequence[Size] = (SIZE,), deep: bool = False,
) -> None:  # fmt: skip
    """`count` images, each of other bytes, of `sizes` in turn; `deep`: 12 bits in files of 16."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        size = sizes[number % len(sizes)]
        seed = list(f"{folder.as_posix().rpartition('/raw/')[2]}{number}{prefix}".encode())
        pixels = texture("dots", np.random.default_rng(seed))[: size[0], : size[1]]
        if defective:
            pixels[block(size)] = 0
        if deep:
            pixels = pixels[..., 0].astype(np.uint16) * 16
        Image.fromarray(pixels).save(folder / f"{prefix}{number:03}.png")


def masks(
    folder: Path, count: int, end: str = "_mask", start: int = 0, *,
    sizes: Sequence[Size] = (SIZE,), colors: Sequence[tuple[int, int, int]] = (),
) -> None:  # fmt: skip
    """Of the block, white, or in equal stripes of `colors`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        size = sizes[number % len(sizes)]
        pixels = np.zeros((*size, 3), np.uint8)
        stripes = np.array_split(np.arange(size[1])[block(size)[1]], max(1, len(colors)))
        for columns, color in zip(stripes, colors or [(255, 255, 255)], strict=True):
            pixels[block(size)[0], columns] = color
        Image.fromarray(pixels if colors else pixels[..., 0]).save(folder / f"{number:03}{end}.png")


def mvtec(
    root: Path, train: int = 30, good: int = 6, cut: int = 10, marked: int = 10, name: str = "nut", *,
    sizes: Sequence[Size] = (SIZE,), deep: bool = False, colors: Sequence[tuple[int, int, int]] = (),
) -> None:  # fmt: skip
    """MVTec AD's layout, with as many normal, defective and marked images."""
    pictures(root / name / "train/good", train, sizes=sizes, deep=deep)
    for folder, count in (("test/good", good), ("test/cut", cut)):
        if count:
            pictures(root / name / folder, count, defective=folder == "test/cut", sizes=sizes, deep=deep)
    if marked:
        masks(root / name / "ground_truth/cut", marked, sizes=sizes, colors=colors)


def write_list(path: Path, rows: Sequence[Mapping[str, str]], separator: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter=separator)
        table.writeheader()
        table.writerows(rows)


def good_only(root: Path) -> None:
    mvtec(root, cut=0, marked=0)


def train_only(root: Path) -> None:
    mvtec(root, good=0, cut=0, marked=0)


def without_test_good(root: Path) -> None:
    mvtec(root, good=0)


def without_masks(root: Path) -> None:
    mvtec(root, marked=0)


def some_masks(root: Path) -> None:
    mvtec(root, marked=7)


def validation_folder(root: Path) -> None:
    mvtec(root)
    pictures(root / "nut/validation/good", 5)
    pictures(root / "nut/validation/cut", 3, start=100, defective=True)
    (root / "nut/notes").mkdir()
    (root / "nut/train/good/README").write_text("x")
    (root / "nut/train/good/a.txt~").write_text("x")
    (root / "nut/train/good/@eaDir/000.png").mkdir(parents=True)
    (root / "nut/train/good/.hidden").write_text("x")


def oblong(root: Path) -> None:
    mvtec(root, sizes=[(28, 64)])


def mixed_sizes(root: Path) -> None:
    mvtec(root, sizes=[(32, 60), (36, 64), (26, 48)])


def twelve_bits(root: Path) -> None:
    mvtec(root, deep=True)


def colored_masks(root: Path) -> None:
    mvtec(root, colors=[(220, 0, 0), (0, 0, 40), (60, 60, 0)])


def one_broken(root: Path) -> None:
    for name in ("bolt", "nut", "screw"):
        mvtec(root, train=20, name=name)
    masks(root / "nut/ground_truth/cut", 2, start=10)


def flat(root: Path) -> None:
    pictures(root / "widget", 30)


def nested(root: Path) -> None:
    for lot in ("lot1", "lot2"):
        pictures(root / "widget/good" / lot, 15)
    for kind in ("scratch", "dent"):
        pictures(root / "widget/bad" / kind, 6, defective=True)
    masks(root / "widget/truth/scratch", 6, end="")


def classes_under(root: Path) -> None:
    for name in ("metal-nut", "v1.2", NFD):
        pictures(root / name / "ok", 30)
        pictures(root / name / "nok", 4, defective=True)
        (root / "empty").mkdir(exist_ok=True)


def other_form(root: Path) -> None:
    """The list's names in the normal form that the disk's are not in."""
    pictures(root / NFD, 30)
    pictures(root / NFD / "bad", 8, prefix=NFC, defective=True)
    masks(root / NFD / "bad", 8)
    good = [(NFC, GOOD, f"{number:03}.png", "") for number in range(30)]
    cut = [(NFD, "cut", f"bad/{NFD}{number:03}.png", f"{NFC}/bad/{number:03}_mask.png") for number in range(8)]
    write_list(
        root / "index.csv",
        [{"image": f"{NFC}/{image}", "class": name, "label": label, "mask": mask}
         for name, label, image, mask in good + cut],
    )  # fmt: skip


def plain_list(root: Path) -> None:
    pictures(root / "img", 30)
    pictures(root / "img", 12, start=30, defective=True)
    pictures(root / "img", 2, start=42)
    masks(root / "truth", 44)
    labels = [GOOD] * 30 + ["scratch"] * 10 + [""] * 4
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
    pictures(root / "img", 45)
    pictures(root / "img", 15, start=45, defective=True)
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


def parts_list(root: Path) -> None:
    """Three classes whose images have their parts: good ones alone; masks for some, and no label; no mask."""
    good = (("train", GOOD, 8), ("val", GOOD, 6), ("test", GOOD, 6))
    some = (*good, ("val", "hole", 3), ("test", "hole", 4), ("val", "spot", 2), ("test", "spot", 3), ("test", "", 2))
    rows = []
    for name, kinds in (("dots", good), ("rings", some), ("waves", (*good, ("test", "spot", 3)))):
        for part, label, count in kinds:
            place = f"{name}/{label or 'unknown'}/{part}"
            pictures(root / place, count, defective=label not in (GOOD, ""))
            if label == "hole":
                masks(root / place, count)
            rows += [
                {
                    "image": f"{place}/{number:03}.png", "label": label, "class": name, "part": part,
                    "mask": f"{place}/{number:03}_mask.png" if label == "hole" else "",
                }
                for number in range(count)
            ]  # fmt: skip
    write_list(root / "index.csv", rows)


@dataclass(frozen=True)
class Kind:
    """A kind of data set.

    Attributes:
        write: writes it into a folder.
        command: what a user types after `adshift preset`.
        line: with which the command's answer starts.
        roles: {domain: {"ROLE KIND": images}}, the same in each class; {} where a test of its own looks.
        classes: {name in paths: real name}.
        masks: images of a class with one.
        nulls: metrics of a class that the images cannot tell, of all classes or {class: metrics}.
        said: how further lines of the answer start.
        params: dotted keys that the user sets afterwards.
        refused: what the command without `--classes` ends with.
        bits: of the camera.
        least: below the pixel AUROC of each class.
    """

    write: Callable[[Path], None]
    command: tuple[str, ...]
    line: str
    roles: Mapping[str, Mapping[str, int]]
    classes: Mapping[str, str]
    masks: int = 0
    nulls: set[str] | Mapping[str, set[str]] = field(default_factory=set)
    said: tuple[str, ...] = ()
    params: Mapping[str, object] = field(default_factory=dict)
    refused: str = ""
    bits: int = 8
    least: float = 0.99

    @property
    def dataset(self) -> str:
        """As in paths."""
        return self.command[0]

    def null(self, name: str) -> set[str]:
        """Metrics of a class that the images cannot tell."""
        return self.nulls[name] if isinstance(self.nulls, Mapping) else self.nulls


MVTEC = ("mvtec", "--data-root", "raw")
LIST = ("list", "--data-root", "raw/index.csv")
NO_DEFECT = "warning: no defective image: figures that need one stay empty"
NO_MASK = "warning: no mask: how well defects are localized cannot be measured"
ONE_EACH = {"both": {"train good": 24, "val good": 6, "test good": 6, "val cut": 3, "test cut": 7}}
SPLIT_GOOD = {"train good": 24, "val good": 3, "test good": 3}
NUT = {"nut": "nut"}
WIDE = {"methods": ["patchcore"], "patchcore.coreset": 0.1, "shift.kind": "synthetic", "features.resize": [64, 128],
        "features.batch": 1}  # fmt: skip
KINDS = {
    "good only": Kind(
        good_only, MVTEC, "1 class: 30 train, 6 good, 0 defective, 48 x 32",
        {"both": {"train good": 24, "val good": 6, "test good": 6}}, NUT, nulls=ALL_NULL, said=(NO_DEFECT,),
    ),
    "train only": Kind(
        train_only, MVTEC, "1 class: 30 good to split, 0 defective, 48 x 32",
        {"both": SPLIT_GOOD}, NUT, nulls=ALL_NULL, said=(NO_DEFECT,),
    ),
    "no normal test images": Kind(
        without_test_good, MVTEC, "1 class: 30 good to split, 10 defective with 10 masks, 48 x 32",
        {"both": {**SPLIT_GOOD, "val cut": 3, "test cut": 7}}, NUT, 10,
    ),
    "no masks": Kind(
        without_masks, MVTEC, "1 class: 30 train, 6 good, 10 defective with 0 masks, 48 x 32",
        ONE_EACH, NUT, nulls=NEED_MASKS, said=(NO_MASK,),
    ),
    "some masks": Kind(
        some_masks, MVTEC, "1 class: 30 train, 6 good, 10 defective with 7 masks, 48 x 32",
        ONE_EACH, NUT, 7, said=("warning: 3 of 10 defective images have no mask",),
    ),
    "validation images beside, and strays": Kind(
        validation_folder, MVTEC, "1 class: 30 train, 5 val, 6 good, 13 defective with 10 masks, 48 x 32",
        {"both": {"train good": 30, "val good": 5, "test good": 6, "val cut": 3, "test cut": 10}}, NUT, 10,
        said=("passed over, no images by name: 5 (2 of the system, 1 folder notes, 1 hidden, 1 without suffix)",),
    ),
    "oblong": Kind(
        oblong, MVTEC, "1 class: 30 train, 6 good, 10 defective with 10 masks, 64 x 28", ONE_EACH, NUT, 10,
        said=("median aspect 2.29 (width to height): features.resize [224, 512], which costs",),
        params={**WIDE, "features.fit": "tile"}, least=0.85,
    ),
    "oblong of several sizes": Kind(
        mixed_sizes, MVTEC, "1 class: 30 train, 6 good, 10 defective with 10 masks", ONE_EACH, NUT, 10,
        params={**WIDE, "features.fit": "pad"}, least=0.85,
    ),
    "12 bits": Kind(
        twelve_bits, MVTEC, "1 class: 30 train, 6 good, 10 defective with 10 masks, 48 x 32", ONE_EACH, NUT, 10,
        bits=12,
    ),
    "colored masks": Kind(
        colored_masks, MVTEC, "1 class: 30 train, 6 good, 10 defective with 10 masks, 48 x 32", ONE_EACH, NUT, 10,
    ),
    "one class of three broken": Kind(
        one_broken, (*MVTEC, "--classes", "bolt,screw"),
        "2 classes: 40 train, 12 good, 20 defective with 20 masks, 48 x 32",
        {"both": {"train good": 16, "val good": 4, "test good": 6, "val cut": 3, "test cut": 7}},
        {"bolt": "bolt", "screw": "screw"}, 10, refused=r"nut/ground_truth/cut/010_mask.png: is a mask without its "
        r"image(.|\n)*--classes bolt,screw$",
    ),
    "flat": Kind(
        flat, ("folder", "--normal", "raw/widget"), "1 class: 30 good to split, 0 defective, 48 x 32",
        {"both": SPLIT_GOOD}, {"widget": "widget"}, nulls=ALL_NULL, said=(NO_DEFECT,),
    ),
    "nested": Kind(
        nested,
        ("folder", "--normal", "raw/widget/good", "--defective", "raw/widget/bad", "--masks", "raw/widget/truth",
         "--class", "big widget"),
        "1 class: 30 good to split, 12 defective with 6 masks, 48 x 32",
        {"both": {**SPLIT_GOOD, "val dent": 2, "val scratch": 1, "test dent": 4, "test scratch": 5}},
        {"big_widget": "big widget"}, 6,
    ),
    "odd names": Kind(
        classes_under, ("folder", "--classes-under", "raw", "--normal", "ok", "--defective", "nok"),
        "3 classes: 90 good to split, 12 defective with 0 masks, 48 x 32",
        {"both": {**SPLIT_GOOD, "val nok": 1, "test nok": 3}},
        {"grosse": NFD, "metal_nut": "metal-nut", "v1_2": "v1.2"}, nulls=NEED_MASKS, said=(NO_MASK,),
    ),
    "names in the other normal form": Kind(
        other_form, LIST, "1 class: 30 good to split, 8 defective with 8 masks, 48 x 32",
        {"both": {**SPLIT_GOOD, "val cut": 2, "test cut": 6}}, {"grosse": NFC}, 8,
    ),
    "list": Kind(
        plain_list, LIST, "1 class: 30 good to split, 10 defective with 10 masks, 4 unlabelled, 48 x 32",
        {"both": {**SPLIT_GOOD, "val scratch": 3, "test scratch": 7, "test ": 4}}, {"raw": "raw"}, 10,
    ),
    "list with groups and dates": Kind(
        dated_list, LIST, "1 class: 45 good to split, 15 defective with 0 masks, 48 x 32",
        {"both": {"train good": 36, "val good": 3, "test good": 6, "val worn": 3, "test worn": 12}}, {"raw": "raw"},
        nulls=NEED_MASKS, said=(NO_MASK,), params={"split.group": "group", "split.order": "date"},
    ),
    "list with domains": Kind(
        domains_list, LIST, "1 class: 80 good to split, 0 defective, 48 x 32",
        {domain: {"train good": 32, "val good": 4, "test good": 4} for domain in ("clean", "shift")}, NUT,
        nulls=ALL_NULL, said=(NO_DEFECT,), params={"shift.kind": "recorded"},
    ),
    "list with classes and parts": Kind(
        parts_list, LIST, "3 classes: 24 train, 18 val, 18 good, 15 defective with 7 masks, 2 unlabelled, 48 x 32", {},
        {name: name for name in ("dots", "rings", "waves")},
        nulls={"dots": ALL_NULL, "rings": set(), "waves": NEED_MASKS},
        params={"methods": ["patchcore"], "shift.kind": "synthetic", "unified": True, "ablation.ratios": [0.1],
                "patchcore.coreset": 0.1},
        least=0.8,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A run on a kind of data set: the project's folder, and what the preset's command said, refusal and answer."""

    kind: Kind
    folder: Path
    refused: str | None
    told: list[str]


def made(root: Path, name: str) -> Made:
    """The run on a kind in a folder in `root`, made by the first process that asks."""
    kind, folder = KINDS[name], root / name.replace(" ", "_")
    said = folder / "said.json"
    root.mkdir(exist_ok=True)
    with (root / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.is_file():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            answer = _make(folder, kind, _sources(root))
            said.write_text(json.dumps(answer))
    return Made(kind, folder, *json.loads(said.read_text()))


def _sources(root: Path) -> Path:
    """What the stage `sources` writes, the same for all."""
    folder = root / "sources"
    with (root / "sources.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            with project(folder):
                stage("sources")
    return folder / "data/sources"


def _make(folder: Path, kind: Kind, sources: Path) -> tuple[str | None, list[str]]:
    (folder / "data").mkdir(parents=True)
    (folder / "data/sources").symlink_to(sources)
    kind.write(folder / "raw")
    refused = None
    with project(folder):
        if kind.refused:
            words = kind.command[: kind.command.index("--classes")]
            refused = str(adshift("preset", *words)[1])
        told, code = adshift("preset", *kind.command)
        assert code == 0, code
        rewrite(Path("params.yaml"), {**FAST, **kind.params})
        run()
    return refused, told.splitlines()
