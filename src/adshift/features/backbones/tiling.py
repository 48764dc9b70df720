"""A network over an input larger than itself: overlapping square tiles, whose feature maps become those of the input.

A tile's side is `features.tiles`, or the shorter side of the input. Tiles overlap by about a quarter; in the overlap
each position is taken from the tile that it lies deeper in, cut at the middle, so that hardly a feature comes from
beside a tile's edge.

Notation: N images of h x w pixels, tiles of t x t, a layer's map of H x W positions and C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from adshift.data.shapes import STEP, Size, sides
from adshift.errors import AdshiftError


@dataclass(frozen=True)
class Tiling:
    """Tiles of an input.

    Attributes:
        side: t.
        rows, columns: first pixels of the tiles, ascending, multiples of STEP.
    """

    side: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @classmethod
    def of(cls, size: Size, side: int | None = None) -> "Tiling":
        """The tiles of an input of a size.

        Args:
            size: of the input.
            side: of the tiles; the shorter side of the input if not given.

        Raises:
            AdshiftError: a side is no multiple of STEP, or tiles are larger than the input.
        """
        height, width = sides(size)
        if height % STEP or width % STEP:
            message = (
                f"features.resize: [{height}, {width}] cannot be tiled: features.fit: tile needs multiples of {STEP}"
            )
            near = [max(1, round(side / STEP)) * STEP for side in (height, width)]
            raise AdshiftError(message, f"set {near}")
        if side is not None and (side % STEP or side > min(height, width)):
            message = f"features.tiles: {side} is no multiple of {STEP} up to the input's shorter side"
            raise AdshiftError(message, f"set a multiple of {STEP}, at most {min(height, width)}, or leave it empty")
        side = side or min(height, width)
        return cls(side, _starts(height, side), _starts(width, side))

    def pixels(self) -> list[tuple[slice, slice]]:
        """Rows and columns of every tile in the input, row by row."""
        return [
            (slice(top, top + self.side), slice(left, left + self.side))
            for top, left in product(self.rows, self.columns)
        ]

    def parts(self, positions: int) -> list[list[tuple[slice, slice]]]:
        """What of a tile's map of `positions` x `positions` is kept: for the rows of tiles and for the columns.

        Returns:
            Of both axes, for each tile along it: (where in the input's map, where in the tile's map).

        Raises:
            AdshiftError: the tiles' positions do not lie on one grid.
        """
        return [_kept(starts, self.side, positions) for starts in (self.rows, self.columns)]


def stitched(tiling: Tiling, tiles: Sequence[np.ndarray]) -> np.ndarray:
    """One layer's maps (N, p, p, C) of all tiles, in the order of `pixels`, as the input's: (N, H, W, C)."""
    count, _, side, channels = tiles[0].shape
    rows, columns = tiling.parts(side)
    whole = np.empty((count, rows[-1][0].stop, columns[-1][0].stop, channels), tiles[0].dtype)
    for tile, ((to_rows, from_rows), (to_columns, from_columns)) in zip(tiles, product(rows, columns), strict=True):
        whole[:, to_rows, to_columns] = tile[:, from_rows, from_columns]
    return whole


def _starts(length: int, side: int) -> tuple[int, ...]:
    units, free = side // STEP, (length - side) // STEP
    count = -(-free // max(1, units * 3 // 4))  # further tiles, a step of three quarters of a tile at most
    return tuple(round(index * free / count) * STEP for index in range(count + 1)) if count else (0,)


def _kept(starts: Sequence[int], side: int, positions: int) -> list[tuple[slice, slice]]:
    if any(start * positions % side for start in starts):
        message = f"features.fit: tile: a layer of {positions} positions in {side} pixels has no whole one every {STEP}"
        raise AdshiftError(message, "choose other features.layers, or features.fit: squeeze")
    firsts = [start * positions // side for start in starts]
    cuts = [0, *((one + other + positions) // 2 for one, other in pairwise(firsts)), firsts[-1] + positions]
    return [
        (slice(low, high), slice(low - first, high - first))
        for first, (low, high) in zip(firsts, pairwise(cuts), strict=True)
    ]
