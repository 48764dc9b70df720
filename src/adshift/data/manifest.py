"""The manifest: one CSV per class and domain, one row per image. Every later stage reads its images from it.

Paths are relative to the repository's root. The manifest holds content hashes, since DVC does not track the files of a
data set that is used in place; whoever reads a file checks its hash (`adshift.data.images`).
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from adshift.errors import AdshiftError
from adshift.runtime import checksums
from adshift.runtime.files import read_json

GOOD = "good"
UNLABELLED = ""  # the defect of an image without a label: it is scored, and enters no metric
COPY = "+"  # between the name of an image and the number of its copy
LISTED = "list."  # prefix of columns from the data set's own list


@dataclass(frozen=True)
class Item:
    """One image.

    Attributes:
        name: `part/defect/key`, unique within its class; the key is usually the stem. With synthetic drift, an image
            has the same name in both domains; with recorded drift, it belongs to one of them.
        part: the data set's official part: `train`, `test`, or `val` if it has one.
        defect: defect type, `GOOD` for a normal image, `UNLABELLED` for an unknown one.
        image: its path.
        mask: path of the mask, empty for a normal image, None if the defective pixels are unknown.
        sha256, mask_sha256: of the files' bytes.
        width, height: of the image, in pixels.
        bits: depth of the data set's camera, for files with more than 8 bits per pixel. The same for all images.
        listed: {column: value} of further columns of the data set's own list.
    """

    name: str
    part: str
    defect: str
    image: str
    mask: str | None
    sha256: str
    mask_sha256: str
    width: int
    height: int
    bits: int = 16
    listed: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def anomalous(self) -> bool:
        return self.defect not in (GOOD, UNLABELLED)

    @property
    def mask_known(self) -> bool:
        """Whether the defective pixels are known. A normal image has none."""
        return self.defect == GOOD or bool(self.mask)

    @property
    def key(self) -> str:
        """Identifies it within its part and defect: usually the file's stem."""
        return self.name.split("/")[2]


COLUMNS = [field.name for field in fields(Item) if field.name != "listed"]


def path_of(dataset: str, name: str, domain: str) -> Path:
    """Path of a class's manifest in a domain (`prepare` writes `clean`, `shift` writes `shift`)."""
    return Path("data") / domain / dataset / name / "manifest.csv"


def recorded_path(dataset: str, name: str) -> Path:
    """Path of the manifest of images that were recorded under drift, which `prepare` writes for `shift`."""
    return path_of(dataset, name, "clean").with_name("recorded.csv")


def write(path: Path, items: list[Item]) -> None:
    """Write `items` sorted by name."""
    listed = sorted({column for item in items for column in item.listed})
    rows = [
        [getattr(item, column) for column in COLUMNS] + [item.listed.get(column, "") for column in listed]
        for item in sorted(items, key=lambda item: item.name)
    ]
    checksums.write_table(path, COLUMNS + [f"{LISTED}{column}" for column in listed], rows)


def read(path: Path) -> list[Item]:
    """Read a manifest, sorted by name.

    Raises:
        AdshiftError: it is missing or damaged, or a path leads out of the data's folder.
    """
    try:
        columns, rows = checksums.read_table(path)
        extra = columns[len(COLUMNS) :]
        if columns[: len(COLUMNS)] != COLUMNS or not all(column.startswith(LISTED) for column in extra):
            raise ValueError(f"expected columns {', '.join(COLUMNS)}")
        items = [_item(dict(zip(columns, row, strict=True))) for row in rows]
        _check(items)
    except (OSError, TypeError, KeyError, ValueError, csv.Error) as error:
        raise AdshiftError(f"{path}: not a readable manifest ({error})", checksums.REMEDY) from None
    return sorted(items, key=lambda item: item.name)


def _item(row: Mapping[str, str]) -> Item:
    own = {column: row[column] for column in COLUMNS}
    listed = {column.removeprefix(LISTED): value for column, value in row.items() if column not in own}
    sides = {side: int(own[side]) for side in ("width", "height", "bits")}
    mask = own["mask"] or ("" if own["defect"] == GOOD else None)
    return Item(**{**own, **sides, "mask": mask, "listed": listed})  # type: ignore[arg-type]


def _check(items: list[Item]) -> None:
    """Refuse names that are no `part/defect/key`, since files get these names, and paths that leave the data's root.

    The root is not known here. It is taken to be the common folder of all paths, below which no path may hold `..`.
    """
    for item in items:
        parts = item.name.split("/")
        bad = {".", ".."} & {*parts} or "" in (parts[0], parts[-1]) or "\0" in item.name
        if len(parts) != 3 or parts[:2] != [item.part, item.defect] or bad:
            raise ValueError(f"the name {item.name!a} is no part/defect/key")
        if min(item.width, item.height) < 1:
            raise ValueError(f"{item.name}: {item.width}x{item.height} pixels")
        if not 8 <= item.bits <= 16:
            raise ValueError(f"{item.name}: {item.bits} bits")
    if len({item.name for item in items}) < len(items):
        raise ValueError("a name stands twice")
    paths = [path.split("/")[:-1] for item in items for path in (item.image, item.mask) if path]
    low, high = (min(paths), max(paths)) if paths else ([], [])
    root = next((depth for depth, pair in enumerate(zip(low, high, strict=False)) if pair[0] != pair[1]), len(low))
    if any(".." in path[root:] for path in paths) or len({path[:1] == [""] for path in paths}) > 1:
        raise ValueError("a path leads out of the folder that the others lie in")


def anomalous(names: Iterable[str]) -> np.ndarray:
    """Whether each image has the label defective, from its name alone: (N,) bool."""
    return np.array([name.split("/")[1] not in (GOOD, UNLABELLED) for name in names], dtype=bool)


def labelled(names: Iterable[str]) -> np.ndarray:
    """Whether each image has a label, normal or defective, from its name alone: (N,) bool."""
    return np.array([name.split("/")[1] != UNLABELLED for name in names], dtype=bool)


def copies(name: str, count: int) -> list[str]:
    """Names of drifted copies of an image: NAME+1, NAME+2, ..."""
    return [f"{name}{COPY}{number}" for number in range(1, count + 1)]


def names_path(dataset: str) -> Path:
    """Path of the classes' names for people, which `prepare` writes."""
    return Path("data") / "clean" / dataset / "classes.json"


def class_names(dataset: str, classes: Iterable[str]) -> dict[str, str]:
    """{class as in params.yaml and in paths: its folder's name, for people}."""
    path = names_path(dataset)
    names = read_json(path) if path.is_file() else {}
    return {name: str(names.get(name, name)) for name in classes}
