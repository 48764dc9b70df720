"""Warnings of a scan: what looks wrong in a data set but may be right."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adshift.data.images import Picture, bits_of, misfit
from adshift.data.manifest import Item

SHOWN = 10  # masks that are named in a warning


@dataclass(frozen=True)
class Facts:
    """The facts of an image that a scan keeps.

    Attributes:
        peak, deep, transparent: as in `images.Picture`.
        marked: share of the image that its mask marks; None without a mask.
    """

    peak: int
    deep: bool
    transparent: bool
    marked: float | None

    @classmethod
    def of(cls, picture: Picture, mask: np.ndarray | None) -> "Facts":
        """The facts of a decoded image and its mask (H, W) bool."""
        return cls(picture.peak, picture.deep, picture.transparent, None if mask is None else float(mask.mean()))


Scanned = Mapping[str, Sequence[tuple[Item, Facts]]]  # of each class


def camera_bits(scanned: Scanned) -> int:
    """The depth in bits that holds the largest value of all deep images; 8 if there is none."""
    return bits_of(max((facts.peak for rows in scanned.values() for _, facts in rows if facts.deep), default=0))


def warnings(scanned: Scanned, bits: int) -> list[str]:
    """The warnings, one per line.

    Args:
        scanned: items and facts of each class.
        bits: depth of the camera.
    """
    lines = list(_of_range([row for rows in scanned.values() for row in rows], bits))
    for name, rows in scanned.items():
        if clear := [item.image for item, facts in rows if facts.transparent]:
            lines.append(f"class {name}: {_counted(clear)} with transparent pixels; their colors are used as stored")
        lines += _of_masks(name, rows)
    return lines


def _of_range(rows: Sequence[tuple[Item, Facts]], bits: int) -> Iterator[str]:
    deep = [facts.peak for _, facts in rows if facts.deep]
    if deep and (reason := misfit(max(deep), bits)):
        yield f"dataset.bits: {bits}, but the data set has {reason}"
        return
    odd = [(item.image, misfit(facts.peak, bits if facts.deep else 8)) for item, facts in rows]
    if odd := [(image, reason) for image, reason in odd if reason]:
        yield f"{_counted([image for image, _ in odd])} hardly use their range; the first has {odd[0][1]}"


def _of_masks(name: str, rows: Sequence[tuple[Item, Facts]]) -> Iterator[str]:
    """Warnings of masks that mark more than half of their image, and of a mask inverted against all others."""
    masks = [(item.mask, facts.marked) for item, facts in rows if facts.marked is not None]
    large = [(mask, share) for mask, share in masks if share > 0.5]
    small = [(mask, share) for mask, share in masks if share <= 0.5]
    for mask, share in large[:SHOWN]:
        alone = f"; all {len(small)} other masks of class {name} mark less" if len(large) == 1 and small else ""
        yield f"{mask}: marks {100 * share:.0f} % of its image{alone}: is it inverted?"
    if len(large) > SHOWN:
        yield f"class {name}: {len(large) - SHOWN} more masks mark more than half of their image"
    if len(small) == 1 and len(large) > 1:
        [(mask, share)] = small
        yield f"{mask}: marks {100 * share:.0f} % of its image, all {len(large)} others of class {name} more than half"


def _counted(images: Sequence[str]) -> str:
    return f"{images[0]}" if len(images) == 1 else f"{len(images)} images (first: {images[0]})"
