"""Rows of feature maps from an earlier run of `embed`, for images that have not changed.

DVC removes the output of a stage before it runs the stage again. So `keep` makes hard links to the files of a finished
output in another folder, with the hashes of the images; the links need no space while the output exists. `Kept` finds
the rows again. A row is used if the image's bytes, the features' spec and the code are the same and the row's
checksum is correct. The folder may be removed at any time.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adshift.data.manifest import Item
from adshift.errors import AdshiftError
from adshift.features.store import Features, Rows
from adshift.runtime.files import output, read_json, remove, write_json

RECORD = "rows.json"
RUN = 32  # most rows that are read at once


@dataclass(frozen=True)
class Kept:
    """The folder of rows of an earlier run.

    Attributes:
        folder: of the files; need not exist.
        key: hashes of everything beside the spec that determines features: code, packages, weights.
    """

    folder: Path
    key: Mapping[str, str]

    def find(self, items: Sequence[Item], spec: Mapping[str, Any]) -> dict[int, "Row"]:
        """Rows of some of the items, by the index of the item; none without a folder, or if its features differ."""
        try:
            record = read_json(self.folder / RECORD)
            features = Features.open(self.folder)
            hashes = list(record["images"])
        except (AdshiftError, KeyError, TypeError):
            return {}
        same = record.get("key") == dict(self.key) and features.spec == json.loads(json.dumps(spec))
        if not same or len(hashes) != len(features):
            return {}
        rows = {sha256: Row(*features.rows[index]) for index, sha256 in enumerate(hashes)}
        return {index: rows[item.sha256] for index, item in enumerate(items) if item.sha256 in rows}

    def keep(self, made: Path, items: Sequence[Item]) -> None:
        """Keep the rows of a finished output; nothing is kept if the file system has no hard links."""
        try:
            with output(self.folder) as folder:
                folder.mkdir()
                for file in made.iterdir():
                    os.link(file, folder / file.name)
                write_json(folder / RECORD, {"key": self.key, "images": [item.sha256 for item in items]}, checksum=True)
        except OSError:
            remove(self.folder)


@dataclass(frozen=True)
class Row:
    """One image's row in kept arrays {level: (M, ...)}."""

    arrays: Mapping[int, np.ndarray | Rows]
    index: int

    def checksum(self, level: int) -> int | None:
        """Of the row of a level, as it was written; None if none was stored."""
        rows = self.arrays[level]
        return rows.expected[self.index] if isinstance(rows, Rows) and rows.expected is not None else None

    def read(self, level: int, count: int = 1) -> tuple[np.ndarray, list[int]]:
        """This row of a level and those after it, `count` in all: (count, ...), and their checksums.

        Raises:
            AdshiftError: one is damaged, or has no checksum.
        """
        rows, end = self.arrays[level], self.index + count
        if not isinstance(rows, Rows) or rows.expected is None:
            raise AdshiftError("a kept row without a checksum", "run `dvc repro`")
        for index in range(self.index, end):
            rows[index]  # checks it
        return rows.array[self.index : end], list(rows.expected[self.index : end])

    def is_before(self, other: "Row") -> bool:
        """Whether the other one is the next row of the same arrays."""
        return self.arrays is other.arrays and self.index + 1 == other.index


def runs(rows: Mapping[int, Row]) -> list[range]:
    """The keys of `rows`, ascending, as ranges of at most `RUN` whose rows are neighbors too."""
    ranges: list[range] = []
    for key in sorted(rows):
        last = ranges[-1] if ranges else range(0)
        if key == last.stop and 0 < len(last) < RUN and rows[key - 1].is_before(rows[key]):
            ranges[-1] = range(last.start, key + 1)
        else:
            ranges.append(range(key, key + 1))
    return ranges
