"""Kinds of data sets that people have: how each is written, the command for it, and what must come of it.

`made` runs the pipeline on one, from the command line to the page.
"""

import fcntl
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import own_images as own
from own_images import NFC, NFD
from tiny import rewrite
from trained import adshift, project, run, stage

METHOD = "padim_diagonal"
FAST = {
    "methods": [METHOD], "features.resize": 64, "features.batch": 32, "evaluate.bootstrap": 100,
    "shift.kind": "none", "unified": False, "ablation.ratios": [],
}  # fmt: skip
NEED_DEFECTS = {"image_auroc", "image_auprc", "image_f1", "accuracy", "precision", "recall",
                "image_best_f1_upper_bound"}  # fmt: skip
NEED_MASKS = {"pixel_auroc", "pixel_auprc", "pixel_best_f1_upper_bound", "pro", "aupimo"}
ALL_NULL = NEED_DEFECTS | NEED_MASKS


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
        own.good_only, MVTEC, "1 class: 30 train, 6 good, 0 defective, 48 x 32",
        {"both": {"train good": 24, "val good": 6, "test good": 6}}, NUT, nulls=ALL_NULL, said=(NO_DEFECT,),
    ),
    "train only": Kind(
        own.train_only, MVTEC, "1 class: 30 good to split, 0 defective, 48 x 32",
        {"both": SPLIT_GOOD}, NUT, nulls=ALL_NULL, said=(NO_DEFECT,),
    ),
    "no normal test images": Kind(
        own.without_test_good, MVTEC, "1 class: 30 good to split, 10 defective with 10 masks, 48 x 32",
        {"both": {**SPLIT_GOOD, "val cut": 3, "test cut": 7}}, NUT, 10,
    ),
    "no masks": Kind(
        own.without_masks, MVTEC, "1 class: 30 train, 6 good, 10 defective with 0 masks, 48 x 32",
        ONE_EACH, NUT, nulls=NEED_MASKS, said=(NO_MASK,),
    ),
    "some masks": Kind(
        own.some_masks, MVTEC, "1 class: 30 train, 6 good, 10 defective with 7 masks, 48 x 32",
        ONE_EACH, NUT, 7, said=("warning: 3 of 10 defective images have no mask",),
    ),
    "validation images beside, and strays": Kind(
        own.validation_folder, MVTEC, "1 class: 30 train, 5 val, 6 good, 13 defective with 10 masks, 48 x 32",
        {"both": {"train good": 30, "val good": 5, "test good": 6, "val cut": 3, "test cut": 10}}, NUT, 10,
        said=("passed over, no images by name: 5 (2 of the system, 1 folder notes, 1 hidden, 1 without suffix)",),
    ),
    "oblong": Kind(
        own.oblong, MVTEC, "1 class: 30 train, 6 good, 10 defective with 10 masks, 64 x 28", ONE_EACH, NUT, 10,
        said=("median aspect 2.29 (width to height): features.resize [224, 512], which costs",),
        params={**WIDE, "features.fit": "tile"}, least=0.85,
    ),
    "oblong of several sizes": Kind(
        own.mixed_sizes, MVTEC, "1 class: 30 train, 6 good, 10 defective with 10 masks", ONE_EACH, NUT, 10,
        params={**WIDE, "features.fit": "pad"}, least=0.85,
    ),
    "12 bits": Kind(
        own.twelve_bits, MVTEC, "1 class: 30 train, 6 good, 10 defective with 10 masks, 48 x 32", ONE_EACH, NUT, 10,
        bits=12,
    ),
    "colored masks": Kind(
        own.colored_masks, MVTEC, "1 class: 30 train, 6 good, 10 defective with 10 masks, 48 x 32", ONE_EACH, NUT, 10,
    ),
    "one class of three broken": Kind(
        own.one_broken, (*MVTEC, "--classes", "bolt,screw"),
        "2 classes: 40 train, 12 good, 20 defective with 20 masks, 48 x 32",
        {"both": {"train good": 16, "val good": 4, "test good": 6, "val cut": 3, "test cut": 7}},
        {"bolt": "bolt", "screw": "screw"}, 10, refused=r"nut/ground_truth/cut/010_mask.png: is a mask without its "
        r"image(.|\n)*--classes bolt,screw$",
    ),
    "flat": Kind(
        own.flat, ("folder", "--normal", "raw/widget"), "1 class: 30 good to split, 0 defective, 48 x 32",
        {"both": SPLIT_GOOD}, {"widget": "widget"}, nulls=ALL_NULL, said=(NO_DEFECT,),
    ),
    "nested": Kind(
        own.nested,
        ("folder", "--normal", "raw/widget/good", "--defective", "raw/widget/bad", "--masks", "raw/widget/truth",
         "--class", "big widget"),
        "1 class: 30 good to split, 12 defective with 6 masks, 48 x 32",
        {"both": {**SPLIT_GOOD, "val dent": 2, "val scratch": 1, "test dent": 4, "test scratch": 5}},
        {"big_widget": "big widget"}, 6,
    ),
    "odd names": Kind(
        own.classes_under, ("folder", "--classes-under", "raw", "--normal", "ok", "--defective", "nok"),
        "3 classes: 90 good to split, 12 defective with 0 masks, 48 x 32",
        {"both": {**SPLIT_GOOD, "val nok": 1, "test nok": 3}},
        {"grosse": NFD, "metal_nut": "metal-nut", "v1_2": "v1.2"}, nulls=NEED_MASKS, said=(NO_MASK,),
    ),
    "names in the other normal form": Kind(
        own.other_form, LIST, "1 class: 30 good to split, 8 defective with 8 masks, 48 x 32",
        {"both": {**SPLIT_GOOD, "val cut": 2, "test cut": 6}}, {"grosse": NFC}, 8,
    ),
    "list": Kind(
        own.plain_list, LIST, "1 class: 30 good to split, 10 defective with 10 masks, 4 unlabelled, 48 x 32",
        {"both": {**SPLIT_GOOD, "val scratch": 3, "test scratch": 7, "test ": 4}}, {"raw": "raw"}, 10,
    ),
    "list with groups and dates": Kind(
        own.dated_list, LIST, "1 class: 45 good to split, 15 defective with 0 masks, 48 x 32",
        {"both": {"train good": 36, "val good": 3, "test good": 6, "val worn": 3, "test worn": 12}}, {"raw": "raw"},
        nulls=NEED_MASKS, said=(NO_MASK,), params={"split.group": "group", "split.order": "date"},
    ),
    "list with domains": Kind(
        own.domains_list, LIST, "1 class: 80 good to split, 0 defective, 48 x 32",
        {domain: {"train good": 32, "val good": 4, "test good": 4} for domain in ("clean", "shift")}, NUT,
        nulls=ALL_NULL, said=(NO_DEFECT,), params={"shift.kind": "recorded"},
    ),
    "list with classes and parts": Kind(
        own.parts_list, LIST, "3 classes: 24 train, 18 val, 18 good, 15 defective with 7 masks, 2 unlabelled, 48 x 32",
        {}, {name: name for name in ("dots", "rings", "waves")},
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
