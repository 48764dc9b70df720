"""Groups of images that must stay in one part of a split, and their order."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

from adshift.data import facts
from adshift.data.manifest import GOOD, Item
from adshift.data.settings import Split
from adshift.errors import AdshiftError
from adshift.runtime import seeding

RANDOM, BY_NAME = "random", "name"


@dataclass(frozen=True)
class Group:
    """Images that train, validate or test together.

    Attributes:
        name: of the group, or of its only image.
        items: its images, in the split's order.
    """

    name: str
    items: tuple[Item, ...]

    @cached_property
    def defects(self) -> Counter[str]:
        """Number of its defective images of each kind."""
        return Counter(item.defect for item in self.items if item.anomalous)

    @cached_property
    def fixed(self) -> set[str]:
        """The parts that the data set itself assigns its images to; empty if the split decides."""
        return {item.part for item in self.items if item.part == "val" or (item.part == "test" and item.defect == GOOD)}


def grouped(items: Sequence[Item], settings: Split, seed: int, name: str) -> list[Group]:
    """Groups of the labelled images of the class `name`, in the order of `settings`.

    Raises:
        AdshiftError: a column is missing, or a pattern does not match a name.
    """
    keys = _keys(items, settings, name)
    members: dict[str, list[Item]] = {}
    for item, key in zip(items, keys, strict=True):
        members.setdefault(key, []).append(item)
    ranks = _ranks(items, settings, seed, name, keys)
    ordered = sorted(members, key=lambda key: (min(ranks[item.name] for item in members[key]), key))
    return [Group(key, tuple(sorted(members[key], key=lambda item: (ranks[item.name], item.name)))) for key in ordered]


def _keys(items: Sequence[Item], settings: Split, name: str) -> list[str]:
    """The group of each image. An image with an empty column is its own group; without `split.group` every image is."""
    if settings.group is None:
        return [item.name for item in items]
    if "(" not in settings.group:
        values = facts.column(items, settings.group, "split.group")
        return [value or item.name for item, value in zip(items, values, strict=True)]
    keys = []
    for item in items:
        key = facts.in_name(item, settings.group)
        if key is None:
            message = f"class {name}: {item.image} names no group: no '{settings.group}' in its name"
            raise AdshiftError(message, "change split.group in params.yaml, or empty it")
        keys.append(key)
    return keys


def _ranks(
    items: Sequence[Item], settings: Split, seed: int, name: str, keys: Sequence[str]
) -> dict[str, tuple[float, str]]:
    """{image: its rank in the order}. Numbers are ordered as numbers; images without a value are last."""
    if settings.order == RANDOM:
        drawn = {key: float(seeding.generator(seed, "split", name, key).random()) for key in {*keys}}
        return {item.name: (drawn[key], "") for item, key in zip(items, keys, strict=True)}
    if settings.order == BY_NAME:
        return {item.name: (0.0, item.key) for item in items}
    values = facts.column(items, settings.order, "split.order")
    numbers = _numbers(values)
    return {
        item.name: (inf, "") if not value else (numbers[value], "") if numbers else (0.0, value)
        for item, value in zip(items, values, strict=True)
    }


def _numbers(values: Sequence[str]) -> dict[str, float]:
    """{value: its number} if all values that are not empty are numbers, else {}."""
    try:
        return {value: float(value) for value in values if value}
    except ValueError:
        return {}
