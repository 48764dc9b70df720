"""Recorded drift: which images of a data set were taken under other conditions, by their names or a column."""

from collections.abc import Sequence
from typing import TypeVar

from adshift.data import facts
from adshift.data.settings import Recorded
from adshift.errors import AdshiftError, warn

T = TypeVar("T", bound=facts.Photo)


def assign(items: Sequence[T], settings: Recorded, name: str) -> tuple[list[T], list[T]]:
    """The images of the class `name` of the clean and of the shifted domain; each belongs to one.

    An image whose value of the column is empty belongs to neither, with a warning.

    Args:
        items: all images.
        settings: `pattern`, whose group is the condition that an image was taken under, as it is found in the image's
            value of `column`, or in its file's name without the ending; `shifted`, conditions of the shifted domain.
        name: the class, for messages.

    Raises:
        AdshiftError: the pattern finds nothing in a name, a condition is not there, or a domain would be empty.
    """
    domains: tuple[list[T], list[T]] = [], []
    seen: set[str] = set()
    if settings.column is None:
        values = [(item, facts.in_name(item, settings.pattern)) for item in items]
    else:
        texts = facts.column(items, settings.column, "shift.recorded.column")
        listed = list(zip(items, texts, strict=True))
        values = [(item, facts.matched(text, settings.pattern)) for item, text in listed if text]
        if empty := [item for item, text in listed if not text]:
            message = f"{len(empty)} images without a value of {settings.column} are in neither domain"
            warn(f"class {name}: {message} (first: {empty[0].image})")
    for item, value in values:
        if value is None:
            searched = f"its value of {settings.column}" if settings.column else "its name"
            message = f"class {name}: {item.image} does not say how it was taken: no '{settings.pattern}' in {searched}"
            raise AdshiftError(message, "change shift.recorded.pattern in params.yaml, or set shift.kind: synthetic")
        seen.add(value)
        domains[value in settings.shifted].append(item)
    if missing := [value for value in settings.shifted if value not in seen]:
        message = f"class {name}: no image was taken under shift.recorded.shifted: {', '.join(missing)}"
        raise AdshiftError(message, f"choose from {', '.join(sorted(seen))}")
    if not domains[0]:
        raise AdshiftError(f"class {name}: shift.recorded.shifted names every condition", "leave one for clean")
    return domains
