"""What a mask marks, whichever way it was drawn and saved, and how it shrinks."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adshift.data import datasets, geometry, images, masks
from adshift.errors import AdshiftWarning

Y, X = np.mgrid[:256, :256]
GREY_DISC = np.hypot(Y - 60, X - 60) < 29.9
WHITE_DISC = np.hypot(Y - 180, X - 180) < 40
BOTH = GREY_DISC | WHITE_DISC
TWO = np.where(WHITE_DISC, 255, np.where(GREY_DISC, 100, 0)).astype(np.uint8)


def read(array: np.ndarray, kind: str = "PNG", **options: Any) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return images.decode_mask(buffer.getvalue(), f"mask.{kind}")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_labels_of_any_brightness_count(kind: str) -> None:
    np.testing.assert_array_equal(read(TWO, kind), BOTH)


def test_colors_and_labels_of_16_bits_count() -> None:
    color = np.zeros((256, 256, 3), np.uint8)
    color[GREY_DISC], color[WHITE_DISC] = (0, 0, 90), (255, 30, 0)
    np.testing.assert_array_equal(read(color), BOTH)
    np.testing.assert_array_equal(
        read(np.where(GREY_DISC, 900, np.where(WHITE_DISC, 65535, 0)).astype(np.uint16)), BOTH
    )
    np.testing.assert_array_equal(read(TWO, "WEBP", lossless=True), BOTH)


@pytest.mark.parametrize(("kind", "quality"), [("JPEG", 95), ("JPEG", 75), ("JPEG", 50), ("WEBP", 60)])
def test_ringing_of_a_lossy_mask_is_not_marked_and_a_grey_label_is(kind: str, quality: int) -> None:
    found = read(TWO, kind, quality=quality)
    assert (found & ~BOTH).sum() <= 20
    assert abs(int((found & GREY_DISC).sum()) - int(GREY_DISC.sum())) <= 60
    assert (found & WHITE_DISC).sum() == WHITE_DISC.sum()


def test_soft_edges_end_at_half_of_their_own_brightness() -> None:
    large = Image.fromarray(np.kron(TWO, np.ones((4, 4), np.uint8)))
    np.testing.assert_array_equal(read(np.asarray(large.resize((256, 256), Image.Resampling.BILINEAR))), BOTH)
    ramp = np.tile(np.array([0, 20, 49, 50, 100, 100, 100, 0, 0, 0, 0, 60, 127, 128, 255, 255, 255], np.uint8), (9, 1))
    assert np.flatnonzero(read(ramp)[4]).tolist() == [3, 4, 5, 6, 13, 14, 15, 16]


def test_a_mask_in_the_alpha_channel() -> None:
    alpha = np.where(BOTH, 255, 0).astype(np.uint8)
    for color in (0, 255):
        flat = np.full((256, 256, 3), color, np.uint8)
        np.testing.assert_array_equal(read(np.dstack([flat, alpha])), BOTH)
    np.testing.assert_array_equal(read(np.dstack([np.full((256, 256), 255, np.uint8), alpha])), BOTH)
    drawn = np.dstack([np.where(GREY_DISC[..., None], (0, 200, 0), 255).astype(np.uint8), alpha])
    np.testing.assert_array_equal(read(drawn), BOTH)  # transparent white is background
    opaque = np.dstack([TWO, TWO, TWO, np.full_like(TWO, 255)])
    np.testing.assert_array_equal(read(opaque), BOTH)
    clear = np.dstack([TWO, TWO, TWO, np.zeros_like(TWO)])  # alpha says nothing
    np.testing.assert_array_equal(read(clear), BOTH)


@pytest.mark.parametrize(("size", "defect"), [(2048, 3), (2048, 1), (700, 2)])
def test_no_region_vanishes_where_a_mask_shrinks(size: int, defect: int) -> None:
    generator = np.random.default_rng(size + defect)
    for _ in range(20):
        row, column = generator.integers(0, size - defect, 2)
        mask = np.zeros((size, size + 37), bool)
        mask[row : row + defect, column : column + defect] = True
        small = geometry.fit(mask, 224)
        assert small.sum() == 1
        at = np.argwhere(small)[0]
        assert np.abs(at - np.array([row, column]) * 224 / np.array(mask.shape)).max() <= 1.5
    assert not masks.shrink(np.zeros((50, 50), bool), 10, 10).any()


def test_a_region_that_is_met_keeps_the_pixels_of_nearest_neighbour() -> None:
    expected = np.asarray(Image.fromarray(BOTH.astype(np.uint8)).resize((100, 100), Image.Resampling.NEAREST)) > 0
    np.testing.assert_array_equal(masks.shrink(BOTH, 100, 100), expected)
    beside = BOTH.copy()
    beside[1, 251] = True
    found = masks.shrink(beside, 100, 100)
    assert found[0, 98]
    assert (found != expected).sum() == 1
    assert sorted(masks.areas(beside).tolist()) == sorted([1, int(GREY_DISC.sum()), int(WHITE_DISC.sum())])


def data_set(root: Path, inverted: set[int], alpha: int = 255) -> Path:
    generator = np.random.default_rng(0)
    for part, count in (("train/good", 2), ("test/good", 2), ("test/cut", 4), ("ground_truth/cut", 4)):
        (root / "nut" / part).mkdir(parents=True)
        for index in range(count):
            mask = np.zeros((32, 32), np.uint8)
            mask[4:9, 4:9] = 255
            picture = generator.integers(0, 256, (32, 32, 4), np.uint8)
            picture[..., 3], picture[0, 0, 3] = 255, alpha
            array = picture if "good" in part or "test" in part else 255 - mask if index in inverted else mask
            Image.fromarray(array).save(root / "nut" / part / f"{index}.png")
    return root


def warned(root: Path, **options: Any) -> list[str]:
    with pytest.warns(AdshiftWarning) as record:
        datasets.build("mvtec", str(root), ["nut"], Path("not/used"), **options)
    return [str(one.message) for one in record]


def test_an_inverted_mask_is_told_by_its_name(tmp_path: Path) -> None:
    [line] = warned(data_set(tmp_path / "one", {2}))
    assert "ground_truth/cut/2.png: marks 98 % of its image; all 3 other masks of class nut mark less" in line
    lines = warned(data_set(tmp_path / "many", {0, 1, 3}))
    assert [f"/{index}.png: marks 98 %" in line for index, line in zip((0, 1, 3), lines, strict=False)] == [True] * 3
    assert "cut/2.png: marks 2 % of its image, all 3 others of class nut more than half" in lines[3]


def test_transparent_pixels_of_images_are_told(tmp_path: Path) -> None:
    [line] = warned(data_set(tmp_path, set(), alpha=0))
    assert line.startswith("class nut: 8 images (first: ")
    assert "with transparent pixels; their colors are used as stored" in line
