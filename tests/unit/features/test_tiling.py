"""Tiles of an oblong input: where they lie, what of each is kept, and that a local network does not see them."""

import numpy as np
import pytest

from adshift.errors import AdshiftError
from adshift.features.backbones.tiling import Tiling, stitched


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [
        ((224, 224), (0,), (0,)),
        ((224, 608), (0,), (0, 128, 256, 384)),
        ((512, 224), (0, 128, 288), (0,)),
        ((32, 96), (0,), (0, 32, 64)),
    ],
)
def test_tiles_overlap_and_reach_both_ends(
    size: tuple[int, int], rows: tuple[int, ...], columns: tuple[int, ...]
) -> None:
    tiling = Tiling.of(size)
    assert (tiling.side, tiling.rows, tiling.columns) == (min(size), rows, columns)
    assert (rows[-1] + tiling.side, columns[-1] + tiling.side) == size


@pytest.mark.parametrize(
    ("size", "side"),
    [((64, 160), None), ((160, 64), None), ((224, 608), None), ((96, 96), None), ((256, 256), 96), ((160, 320), 64)],
)
def test_a_network_that_looks_at_single_positions_sees_no_tile(size: tuple[int, int], side: int | None) -> None:
    images = np.random.default_rng(0).random((2, *size, 3), dtype=np.float32)
    tiling = Tiling.of(size, side)
    assert len(tiling.pixels()) > 1 or size == (96, 96)
    for stride in (4, 16, 32):
        tiles = [images[:, rows, columns][:, ::stride, ::stride] for rows, columns in tiling.pixels()]
        np.testing.assert_array_equal(stitched(tiling, tiles), images[:, ::stride, ::stride])


def test_overlaps_are_cut_in_the_middle() -> None:
    tiling = Tiling(64, (0,), (0, 32))
    tiles = [np.full((1, 16, 16, 1), value) for value in (1, 2)]
    assert stitched(tiling, tiles)[0, 0, :, 0].tolist() == [1] * 12 + [2] * 12


def test_what_does_not_lie_on_one_grid_is_refused() -> None:
    with pytest.raises(AdshiftError, match="multiples of 32") as error:
        Tiling.of((224, 616))
    assert "[224, 608]" in error.value.remedy
    for side in (100, 160):
        with pytest.raises(AdshiftError, match=f"features.tiles: {side} is no multiple of 32 up to"):
            Tiling.of((128, 256), side)
    with pytest.raises(AdshiftError, match="7 positions in 64 pixels"):
        stitched(Tiling.of((64, 128)), [np.zeros((1, 7, 7, 1))] * 3)
