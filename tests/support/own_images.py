"""Tiny data sets as people have them: a texture, and on a defective image a dark block in its middle."""

import csv
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from adshift.data.manifest import GOOD
from tiny import texture

Size = tuple[int, int]  # height, width
SIZE = (32, 48)
NFC, NFD = (unicodedata.normalize(form, "größe") for form in ("NFC", "NFD"))


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
