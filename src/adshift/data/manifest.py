"""The manifest: one CSV a class and domain, one row an image. Every later stage finds its images here.

Paths are as a stage sees them from the repository's root. The content hashes stand for the files, which lie outside of
DVC's sight when a data set is used in place, so a reader checks them (`adshift.data.images`).
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from adshift.errors import AdshiftError
from adshift.runtime import checksums

GOOD = "good"
UNLABELLED = ""  # the defect of an image of which nobody said whether it is normal: scored, and counted by no metric


@dataclass(frozen=True)
class Item:
    """One image.

    Attributes:
        name: `part/defect/key`, unique within its class; the key is usually the stem. An image has the same name in
            both domains where drift is synthetic, and belongs to one of them where it was recorded.
        part: the data set's official part: `train`, `test`, or `val` where it has one.
        defect: defect type, `good` for a normal image, `UNLABELLED` where it is not known whether it is one.
        image, mask: paths; the mask is empty for a normal image, and for a defective one whose mask is unknown.
        sha256, mask_sha256: of the files' bytes.
        width, height: of the image, in pixels.
    """

    name: str
    part: str
    defect: str
    image: str
    mask: str
    sha256: str
    mask_sha256: str
    width: int
    height: int

    @property
    def anomalous(self) -> bool:
        return self.defect not in (GOOD, UNLABELLED)

    @property
    def mask_known(self) -> bool:
        """Whether it is known which pixels are defective: of a normal image none."""
        return self.defect == GOOD or bool(self.mask)


COLUMNS = [field.name for field in fields(Item)]


def path_of(dataset: str, name: str, domain: str) -> Path:
    """Where the manifest of a class lies in a domain (`clean` is written by prepare, `shift` by shift)."""
    return Path("data") / domain / dataset / name / "manifest.csv"


def recorded_path(dataset: str, name: str) -> Path:
    """Where prepare writes the manifest of the images that were recorded under drift, for shift to take up."""
    return path_of(dataset, name, "clean").with_name("recorded.csv")


def write(path: Path, items: list[Item]) -> None:
    """Write `items` sorted by name."""
    rows = [list(asdict(item).values()) for item in sorted(items, key=lambda item: item.name)]
    checksums.write_table(path, COLUMNS, rows)


def read(path: Path) -> list[Item]:
    """Read a manifest, sorted by name.

    Raises:
        AdshiftError: it is missing or damaged, or names what would lead out of a folder.
    """
    try:
        columns, rows = checksums.read_table(path)
        if columns != COLUMNS:
            raise ValueError(f"expected columns {', '.join(COLUMNS)}")
        items = [_item(dict(zip(COLUMNS, row, strict=True))) for row in rows]
        _check(items)
    except (OSError, TypeError, KeyError, ValueError, csv.Error) as error:
        raise AdshiftError(f"{path}: not a readable manifest ({error})", checksums.REMEDY) from None
    return sorted(items, key=lambda item: item.name)


def _item(row: Mapping[str, str]) -> Item:
    return Item(**{**row, **{side: int(row[side]) for side in ("width", "height")}})  # type: ignore[arg-type]


def _check(items: list[Item]) -> None:
    """Refuse names that are no `part/defect/key`, since files are called by them, and paths that leave the data's root.

    The root is not known here: it is the folder that all paths share, and beyond it nothing leads upwards.
    """
    for item in items:
        parts = item.name.split("/")
        odd = {".", ".."} & {*parts} or "" in parts[::2] or "\0" in item.name
        if len(parts) != 3 or parts[:2] != [item.part, item.defect] or odd:
            raise ValueError(f"the name {item.name!a} is no part/defect/key")
        if min(item.width, item.height) < 1:
            raise ValueError(f"{item.name}: {item.width}x{item.height} pixels")
    if len({item.name for item in items}) < len(items):
        raise ValueError("a name stands twice")
    paths = [path.split("/")[:-1] for item in items for path in (item.image, item.mask) if path]
    low, high = (min(paths), max(paths)) if paths else ([], [])
    root = next((place for place, pair in enumerate(zip(low, high, strict=False)) if pair[0] != pair[1]), len(low))
    if any(".." in path[root:] for path in paths) or len({path[:1] == [""] for path in paths}) > 1:
        raise ValueError("a path leads out of the folder that the others lie in")


def anomalous(names: Iterable[str]) -> np.ndarray:
    """Whether each image is known to be defective, from its name alone: (N,) bool."""
    return np.array([name.split("/")[1] not in (GOOD, UNLABELLED) for name in names], dtype=bool)


def labelled(names: Iterable[str]) -> np.ndarray:
    """Whether each image is known to be normal or defective, from its name alone: (N,) bool."""
    return np.array([name.split("/")[1] != UNLABELLED for name in names], dtype=bool)
