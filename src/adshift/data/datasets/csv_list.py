"""Images named in one CSV file, which is the root.

    image,label,mask,class,part,group,domain
    img/1.png,good,,,,,
    img/2.png,scratch,masks/2.png,,,,

Only `image` is required. Without `label` all images are normal. An image with an empty label is scored, and no metric
counts it. `part` is train, val or test, or empty: then the split decides. Paths start at the CSV's folder. `group`,
`domain` and all further columns may be named by `split.group`, `split.order` and `shift.recorded.column`. Columns are
separated by comma, semicolon or tab.
"""

import csv
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from adshift.data.class_names import same
from adshift.data.images import SUFFIXES
from adshift.data.listing import Candidate, Listing, as_it_lies
from adshift.data.manifest import GOOD, UNLABELLED
from adshift.errors import AdshiftError

LAYOUT = "one CSV file with a column image, and as far as there are label, mask, class, part, group and domain"
EMPTY_MASKS = False
WHOLE = False

PARTS = {"": "", "train": "train", "val": "val", "validation": "val", "test": "test"}
OWN = ("image", "label", "mask", "class", "part")
# Labels that may mean a normal or a defective image.
PERHAPS_GOOD = ("ok", "normal", "pass", "0", "nok", "1", "true", "false")
LONGEST = 120  # characters of an image's key: files are called by it


def classes_under(root: Path) -> list[str]:
    """What the column `class` names; without it, one class that is called as the CSV's folder."""
    if not root.is_file():
        return []
    return sorted({same(_class_of(root, row)) for _, row in _rows(root)})


def candidates(root: Path, name: str) -> Listing:
    """The images of a class, as the list has them."""
    listing = Listing()
    for line, row in _rows(root):
        if same(_class_of(root, row)) != same(name):
            continue
        try:
            listing.images.append(_candidate(root, row))
        except ValueError as error:
            listing.problems.append(f"{root}, line {line}: {error}")
    return listing


def _candidate(root: Path, row: Mapping[str, str]) -> Candidate:
    """A row's image; ValueError if the row cannot be meant so."""
    image, label = _path(root, row["image"]), row.get("label", GOOD)
    if label.lower() == GOOD:
        label = GOOD
    if label.lower() in PERHAPS_GOOD:
        raise ValueError(f"label {label}: write {GOOD} for a normal image, and a kind of defect for any other")
    if label in (".", "..") or "/" in label:
        raise ValueError(f"label {label}: no kind of defect, since folders are called by it")
    if row.get("part", "").lower() not in PARTS:
        raise ValueError(f"part {row['part']}: expected train, val, test or nothing")
    part = PARTS[row.get("part", "").lower()] or ("train" if label == GOOD else "test")
    if part == "train" and label != GOOD:
        raise ValueError(f"{row['image']} is in train and {label or 'has no label'}; expected {GOOD}")
    if label == UNLABELLED:
        part = "test"
    if image.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{row['image']} is no image that is read here ({' '.join(SUFFIXES)})")
    mask = _path(root, row["mask"]) if row.get("mask") else None
    if missing := [path for path in (image, mask) if path and not path.is_file()]:
        raise ValueError(f"{missing[0]} is not there")
    listed = {column: value for column, value in row.items() if column not in OWN}
    return Candidate(part, label, image, mask, _key(row["image"]), listed)


def _key(image: str) -> str:
    """An image's key from its path: folders tell images of one stem apart."""
    path = Path(os.path.normpath(image.replace("\\", "/"))).with_suffix("")
    key = same("_".join(part for part in path.parts if part not in ("/", "..")))
    if len(key.encode()) <= LONGEST:
        return key
    digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:16]
    return f"{digest}_{key[-LONGEST // 2 :]}"


def _path(root: Path, value: str) -> Path:
    path = as_it_lies(Path(os.path.normpath(root.parent / value)))
    return path if path.exists() or "\\" not in value else _path(root, value.replace("\\", "/"))


def _class_of(root: Path, row: Mapping[str, str]) -> str:
    return row.get("class") or root.resolve().parent.name


def _rows(root: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, {column: value}) of every image; spaces around a value and empty lines do not count.

    Raises:
        AdshiftError: it is no such CSV.
    """
    try:
        with root.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            separator = max(",;\t", key=first.count)
            table = csv.reader(file, delimiter=separator, strict=True)
            columns = [column.strip() for column in next(table, [])]
            if "image" not in columns or len(set(columns)) < len(columns) or "" in columns:
                raise ValueError(f"its columns are {', '.join(columns)}; expected each once, image among them")
            rows = []
            for values in table:
                if not any(value.strip() for value in values):
                    continue
                if len(values) != len(columns):
                    raise ValueError(f"line {table.line_num} has {len(values)} values for {len(columns)} columns")
                row = {column: value.strip() for column, value in zip(columns, values, strict=True)}
                if not row["image"]:
                    raise ValueError(f"line {table.line_num} names no image")
                rows.append((table.line_num, row))
    except (OSError, ValueError, csv.Error) as error:
        raise AdshiftError(f"{root}: not a readable list ({error})", f"expected is {LAYOUT}") from None
    return iter(rows)
