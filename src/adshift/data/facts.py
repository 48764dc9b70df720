"""Facts of an image beside its label: a column of the data set's list, or the match of a pattern in its name."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from adshift.errors import AdshiftError


class Photo(Protocol):
    """A candidate of a listing, or an item of a manifest."""

    @property
    def image(self) -> str | Path: ...
    @property
    def name(self) -> str: ...
    @property
    def listed(self) -> Mapping[str, str]: ...


def column(items: Iterable[Photo], name: str, key: str) -> list[str]:
    """The value of a column for every image; empty if the list has none.

    Args:
        items: images.
        name: of the column.
        key: of params.yaml that names it, for messages.

    Raises:
        AdshiftError: no list has the column.
    """
    items = list(items)
    known = sorted({one for item in items for one in item.listed})
    if items and name not in known:
        remedy = f"choose from {', '.join(known)}" if known else "only the data set `list` has columns"
        raise AdshiftError(f"params.yaml: {key}: the data set has no column {name}", remedy)
    return [item.listed.get(name, "") for item in items]


def matched(text: str, pattern: str) -> str | None:
    """The text that the group of a pattern matches; None without a match."""
    match = re.search(pattern, text)
    return match[1] if match else None


def in_name(item: Photo, pattern: str) -> str | None:
    """The match of a pattern's group in a file's name without its ending, else in the image's name with folders."""
    match = matched(Path(item.image).stem, pattern)
    return matched(item.name.split("/")[2], pattern) if match is None else match
