"""VisA (Zou et al.: "SPot-the-Difference", ECCV 2022), as it is downloaded or as its authors' script rearranges it.

    ROOT/split_csv/1cls.csv                        columns object, split, label, image, mask
    ROOT/CLASS/Data/Images/Normal/STEM.JPG         or, without the CSV:
    ROOT/CLASS/Data/Images/Anomaly/STEM.JPG        ROOT/CLASS/train/good, ROOT/CLASS/test/good,
    ROOT/CLASS/Data/Masks/Anomaly/STEM.png         ROOT/CLASS/test/bad, ROOT/CLASS/ground_truth/bad

The official one-class split is the CSV's. Every image of a class must stand in it once. A downloaded mask is nearly
black: its small numbers name the kinds of defects, and each counts as defective (`images.decode_mask`).
"""

import csv
from collections.abc import Mapping
from pathlib import Path

from adshift.data.datasets.mvtec import Folders
from adshift.data.listing import Candidate, Listing, not_there
from adshift.data.manifest import GOOD
from adshift.errors import AdshiftError

LAYOUT = (
    "split_csv/1cls.csv with CLASS/Data/Images/Normal, CLASS/Data/Images/Anomaly and CLASS/Data/Masks/Anomaly, or "
    "CLASS/train/good, CLASS/test/good, CLASS/test/bad and CLASS/ground_truth/bad"
)
EMPTY_MASKS = True  # as its authors publish it; nobody can correct it
PUBLISHED = {
    "candle": (900, 100, 100),
    "capsules": (542, 60, 100),
    "cashew": (450, 50, 100),
    "chewinggum": (453, 50, 100),
    "fryum": (450, 50, 100),
    "macaroni1": (900, 100, 100),
    "macaroni2": (900, 100, 100),
    "pcb1": (904, 100, 100),
    "pcb2": (901, 100, 100),
    "pcb3": (905, 101, 100),
    "pcb4": (904, 101, 100),
    "pipe_fryum": (450, 50, 100),
}

SPLIT = "split_csv/1cls.csv"
DEFECTS = {"normal": GOOD, "anomaly": "bad"}
FOLDERS = Folders({"train": "train", "test": "test"})
COLUMNS = ["object", "split", "label", "image", "mask"]


def classes_under(root: Path) -> list[str]:
    """Classes that the CSV lists, or folders in MVTec AD's layout."""
    if (root / SPLIT).is_file():
        return sorted({row["object"] for row in _rows(root)})
    return FOLDERS.classes_under(root)


def candidates(root: Path, name: str) -> Listing:
    """Images of a class, each defective one with its mask."""
    if not (root / SPLIT).is_file():
        return FOLDERS.candidates(root / name)
    listing = Listing()
    for row in _rows(root):
        if row["object"] == name:
            try:
                listing.images.append(_candidate(root, row))
            except ValueError as error:
                listing.problems.append(f"{root / SPLIT}: {error}")
    listed = {path for one in listing.images for path in (one.image, one.mask)}
    listing.problems += not_there(sorted(path for path in listed if path), root / SPLIT)
    for folder in ("Images/Normal", "Images/Anomaly", "Masks/Anomaly"):
        there = listing.files_in(root / name / "Data" / folder).values()
        listing.problems += [f"{path}: is not listed in {root / SPLIT}" for path in there if path not in listed]
    return listing


def _candidate(root: Path, row: Mapping[str, str]) -> Candidate:
    """A row of the CSV; ValueError if it is none of a one-class split."""
    defect, mask = DEFECTS.get(row["label"]), row["mask"] or ""
    what = f"{row['image']}: split {row['split']}, label {row['label']}, mask {mask or 'none'}"
    if row["split"] not in ("train", "test") or defect is None or (row["split"] == "train" and defect != GOOD):
        raise ValueError(f"{what}; expected train or test, normal or anomaly, and no anomaly in train")
    if bool(mask) != (defect != GOOD):
        raise ValueError(f"{what}; expected a mask for an anomaly and none else")
    for path in filter(None, (row["image"], mask)):
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise ValueError(f"{path} leads out of the folder")
    return Candidate(row["split"], defect, root / row["image"], root / mask if mask else None)


def _rows(root: Path) -> list[dict[str, str]]:
    path = root / SPLIT
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, strict=True)
            rows = list(table)
        if table.fieldnames != COLUMNS or any(None in row or row["image"] is None for row in rows):
            raise ValueError(f"expected columns {', '.join(COLUMNS)}")
    except (OSError, ValueError, csv.Error) as error:
        raise AdshiftError(f"{path}: not a readable split ({error})", f"restore it; expected is {LAYOUT}") from None
    return rows
