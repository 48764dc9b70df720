"""Copies of normal images under drifts of their own, on which a hardened detector is fitted.

Their draws come from a stream of their own: a copy tells nothing of the drift of the image in the shifted domain.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from adshift.data.images import load_image
from adshift.data.manifest import Item, copies
from adshift.data.settings import Families
from adshift.data.shift.draws import Draw
from adshift.data.shift.shrink import shrunk
from adshift.data.shift.synthetic import apply, draw

STREAM = "harden"  # first name of the random generators


def copies_of(items: Iterable[Item], count: int) -> list[Item]:
    """`count` copies of each image: the same file under other names."""
    return [replace(item, name=name, mask="") for item in items for name in copies(item.name, count)]


def drawn_for(settings: Families, seed: int, name: str, copy: Item) -> Draw:
    """The drift of a copy of an image of the class `name`."""
    return draw(settings, seed, STREAM, name, copy.name)


def rendered(copy: Item, drawn: Draw, size: tuple[int, int]) -> np.ndarray:
    """The image of a copy: (H, W, 3) uint8, drifted after it was shrunk to the network's input `size`."""
    return apply(shrunk(load_image(copy), size), drawn)
