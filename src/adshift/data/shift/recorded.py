"""Recorded drift: which images of a data set were taken under other conditions, by what their file names say."""

import re
from pathlib import Path
from typing import Protocol, TypeVar

from adshift.data.settings import Recorded
from adshift.errors import AdshiftError


class Photo(Protocol):
    """What has an image's path: a candidate or an item of a manifest."""

    @property
    def image(self) -> str | Path: ...


T = TypeVar("T", bound=Photo)


def assign(items: list[T], settings: Recorded, name: str) -> tuple[list[T], list[T]]:
    """The images of the class `name` of the clean and of the shifted domain; each belongs to one.

    Args:
        items: all images.
        settings: `pattern`, whose group, found in a file's name (without its ending), is the condition it was taken
            under; `shifted`, the conditions of the shifted domain.
        name: the class, for messages.

    Raises:
        AdshiftError: the pattern finds nothing in a name, a condition is not there, or a domain would be empty.
    """
    domains: tuple[list[T], list[T]] = [], []
    seen: set[str] = set()
    for item in items:
        found = re.search(settings.pattern, Path(item.image).stem)
        if not found or found[1] is None:
            what = f"class {name}: {item.image} does not say how it was taken: no {settings.pattern!r} in its name"
            raise AdshiftError(what, "mend shift.recorded.pattern in params.yaml, or set shift.kind: synthetic")
        seen.add(found[1])
        domains[found[1] in settings.shifted].append(item)
    if missing := [value for value in settings.shifted if value not in seen]:
        what = f"class {name}: no image was taken under shift.recorded.shifted: {', '.join(missing)}"
        raise AdshiftError(what, f"choose from {', '.join(sorted(seen))}")
    if not domains[0]:
        raise AdshiftError(f"class {name}: shift.recorded.shifted names every condition", "leave one for clean")
    return domains
