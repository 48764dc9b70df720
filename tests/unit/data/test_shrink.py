"""Images shrunk before they are shifted: size, aspect, small defects, and the same geometry as at full size."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adshift.data import manifest
from adshift.data.images import load_image, load_mask
from adshift.data.manifest import Item
from adshift.data.shift import synthetic
from adshift.data.shift.shrink import shrunk
from adshift.project import params

SIZE = (64, 64)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((512, 1408), (64, 64), (64, 176)),  # the shorter side fills the square
        ((1408, 512), (64, 64), (176, 64)),
        ((512, 1408), (64, 176), (64, 176)),
        ((100, 400), (64, 320), (80, 320)),  # the wider need decides
        ((60, 500), (64, 64), (60, 500)),  # never enlarged
        ((64, 64), (64, 64), (64, 64)),
        ((500, 500), None, (500, 500)),
    ],
)
def test_the_aspect_is_kept_and_the_input_is_filled(
    shape: tuple[int, int], size: tuple[int, int] | None, expected: tuple[int, int]
) -> None:
    assert shrunk(np.zeros((*shape, 3), np.uint8), size).shape == (*expected, 3)
    assert shrunk(np.zeros(shape, bool), size).shape == expected


def test_no_region_vanishes_and_none_grows_beyond_half_a_pixel() -> None:
    mask = np.zeros((640, 640), bool)
    mask[7:10, 8:11] = True  # a tenth of a side: a tenth of a percent of a pixel
    mask[300:420, 200:330] = True
    small = shrunk(mask, SIZE)
    assert small[0, 0] or small[0, 1]
    assert small.sum() == 1 + 12 * 13


def written(folder: Path) -> Item:
    """A long image with a bright block, its defect."""
    image, mask = np.full((256, 704, 3), 60, np.uint8), np.zeros((256, 704), np.uint8)
    image[96:160, 300:420] = 220
    mask[96:160, 300:420] = 255
    hashes = []
    for name, pixels in (("image.png", image), ("mask.png", mask)):
        Image.fromarray(pixels).save(folder / name)
        hashes.append(hashlib.sha256((folder / name).read_bytes()).hexdigest())
    paths = [str(folder / name) for name in ("image.png", "mask.png")]
    return Item("test/hole/0", "test", "hole", paths[0], paths[1], hashes[0], hashes[1], 704, 256)


def shifted(folder: Path, item: Item, size: tuple[int, int] | None) -> Item:
    values = params.load("shift").shift
    values = values.model_copy(update={"color": values.color.model_copy(update={"enabled": False})})
    for family in ("blur", "noise", "illumination"):
        off = getattr(values, family).model_copy(update={"enabled": False})
        values = values.model_copy(update={family: off})
    [found] = synthetic.shift_class([item], values, 7, "dots", folder, folder, size)
    return found


def test_geometry_is_that_of_the_full_size(tmp_path: Path) -> None:
    """Shrunk and shifted, or shifted and shrunk: image and mask show the block at the same place."""
    item = written(tmp_path)
    small = shifted(tmp_path / "small", item, SIZE)
    large = shifted(tmp_path / "large", item, None)
    assert (small.width, small.height, large.width, large.height) == (176, 64, 704, 256)
    assert manifest.read(tmp_path / "small" / "manifest.csv") == [small]
    mask, late = load_mask(small), shrunk(load_mask(large), SIZE)
    image, late_image = load_image(small)[..., 0] > 140, shrunk(load_image(large), SIZE)[..., 0] > 140
    for one, other in ((mask, late), (image, late_image), (mask, image)):
        assert (one & other).sum() > 0.95 * (one | other).sum()
    assert mask.sum() > 200
