"""Near duplicates in different parts of a split: with them, a model is tested on images that it was fitted on.

Two images are compared by the deepest layer's maps, averaged in `GRID` x `GRID` fields. They are near duplicates if
their distance is below `CLOSE` times the median distance of an image from its nearest neighbour. `CLOSE` was chosen so
that different photographs of one kind of object are no near duplicates, while most copies that were saved as JPEG,
scaled, moved by 2 pixels or made 5 % brighter are.

Notation: N images, D values per image.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from adshift.features.store import Features, levels_of

GRID = 4
CLOSE = 0.5
SHOWN = 5
BLOCK = 512  # images whose distances to all others are in memory together


@dataclass(frozen=True)
class Pair:
    """Two images of different parts.

    Attributes:
        first, second: their names, in the order train, val, test of their parts.
        parts: train, val or test of each.
        ratio: their distance divided by the median distance of nearest neighbours, in [0, CLOSE).
    """

    first: str
    second: str
    parts: tuple[str, str]
    ratio: float


def near_duplicates(features: Features, roles: Mapping[str, str]) -> list[Pair]:
    """Pairs of images in different parts that are near duplicates, the nearest first.

    Args:
        features: of one class in one domain.
        roles: {image: train, val, test or unused}; unused images, and those without a role, do not count.
    """
    order = {"train": 0, "val": 1, "test": 2}
    names = [name for name in features.names if roles.get(name) in order]
    if len(names) < 3:
        return []
    rows = _rows(features.select(names))
    squares = (rows**2).sum(1)
    parts = np.array([order[roles[name]] for name in names])
    nearest, close = np.empty(len(rows)), []
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        distances = np.sqrt((squares[start : start + BLOCK, None] + squares - 2 * block @ rows.T).clip(0))
        distances[np.arange(len(block)), np.arange(start, start + len(block))] = np.inf
        nearest[start : start + len(block)] = distances.min(1)
        distances[parts[start : start + len(block), None] >= parts] = np.inf
        least = distances.argmin(1)
        close += [(start + row, int(column), float(distances[row, column])) for row, column in enumerate(least)]
    scale = float(np.median(nearest))
    pairs = [
        Pair(names[one], names[other], (roles[names[one]], roles[names[other]]), distance / scale if scale else 0.0)
        for one, other, distance in close
        if np.isfinite(distance) and distance < CLOSE * scale
    ]
    return sorted(pairs, key=lambda pair: (pair.ratio, pair.first, pair.second))


def warning(pairs: list[Pair], subject: str) -> str:
    """The warning of these pairs, with the names of the nearest; empty if there are none."""
    if not pairs:
        return ""
    shown = [f"  {pair.first} ({pair.parts[0]}) and {pair.second} ({pair.parts[1]})" for pair in pairs[:SHOWN]]
    if more := len(pairs) - len(shown):
        shown.append(f"  and {more} more")
    many = "1 pair of images" if len(pairs) == 1 else f"{len(pairs)} pairs of images"
    headline = f"{subject}: {many} in different parts show nearly the same; split.group keeps such images together:"
    return "\n".join([headline, *shown])


def _rows(features: Features) -> np.ndarray:
    """Maps of the deepest layer in GRID x GRID fields, minus their mean over the images: (N, D) float32."""
    level, rows = levels_of(features.spec)[-1], []
    for index in range(len(features)):
        maps = features[index : index + 1].maps(level)[0]
        bands = np.array_split(maps, min(GRID, len(maps)))
        fields = [field for band in bands for field in np.array_split(band, min(GRID, band.shape[1]), axis=1)]
        rows.append(np.concatenate([field.mean((0, 1)) for field in fields]))
    vectors = np.array(rows, np.float32)
    centred: np.ndarray = vectors - vectors.mean(0)
    return centred
