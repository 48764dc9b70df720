import numpy as np
import pytest
from PIL import Image

from adshift.data import geometry, images
from adshift.data.manifest import Item
from adshift.errors import AdshiftError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def item_of(image, mask=None):
    return Item(
        name="test/cut/0",
        part="test",
        defect="cut" if mask else "good",
        image=str(image),
        mask=str(mask or ""),
        sha256=images.sha256(image),
        mask_sha256=images.sha256(mask) if mask else "",
        width=20,
        height=12,
    )


def saved(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".ppm"])
def test_lossless_formats_come_back_as_written(tmp_path, suffix):
    path = saved(tmp_path / f"a{suffix}", RGB, **({"lossless": True} if suffix == ".webp" else {}))
    assert np.array_equal(images.read_image(path), RGB)


def test_other_modes_become_rgb(tmp_path):
    grey = np.repeat(GREY[..., None], 3, axis=2)
    assert np.array_equal(images.read_image(saved(tmp_path / "grey.png", GREY)), grey)
    assert np.array_equal(images.read_image(saved(tmp_path / "deep.png", GREY.astype(np.uint16) * 257)), grey)
    assert np.array_equal(images.read_image(saved(tmp_path / "alpha.png", np.dstack([RGB, GREY]))), RGB)
    flat = np.full((12, 20, 3), (200, 10, 30), dtype=np.uint8)
    Image.fromarray(flat).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    assert np.array_equal(images.read_image(tmp_path / "palette.png"), flat)


def test_sixteen_bits_use_the_whole_range(tmp_path):
    deep = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    assert images.read_image(saved(tmp_path / "deep.tif", deep))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_floating_point_is_refused(tmp_path):
    path = saved(tmp_path / "a.tif", GREY.astype(np.float32))
    with pytest.raises(AdshiftError, match=r"a.tif: has floating-point pixels"):
        images.read_image(path)


@pytest.mark.parametrize("high", [1, 127, 255])
def test_masks_of_any_brightness(tmp_path, high):
    marked = GREY > 100
    path = saved(tmp_path / "m.png", np.where(marked, high, 0).astype(np.uint8))
    assert np.array_equal(images.read_mask(path), marked)


def test_masks_of_other_modes(tmp_path):
    marked = GREY > 100
    Image.fromarray(marked).save(tmp_path / "bits.png")
    assert Image.open(tmp_path / "bits.png").mode == "1"
    saved(tmp_path / "deep.png", marked.astype(np.uint16) * 65535)
    saved(tmp_path / "red.png", np.where(marked[..., None], (255, 0, 0), 0).astype(np.uint8))
    opaque = np.dstack([np.where(marked, 255, 0)] * 3 + [np.full(marked.shape, 255)]).astype(np.uint8)
    saved(tmp_path / "opaque.png", opaque)
    for name in ("bits", "deep", "red", "opaque"):
        assert np.array_equal(images.read_mask(tmp_path / f"{name}.png"), marked), name


def test_soft_edges_are_cut_in_the_middle(tmp_path):
    path = saved(tmp_path / "m.png", np.array([[0, 100, 128, 255]], dtype=np.uint8))
    assert images.read_mask(path).tolist() == [[False, False, True, True]]


def test_small_numbers_that_name_the_kind_of_defect_all_count(tmp_path):
    """VisA's masks as downloaded: half of the brightest would lose kinds 1 and 2 beside kind 6."""
    path = saved(tmp_path / "m.png", np.array([[0, 1, 2, 6]], dtype=np.uint8))
    assert images.read_mask(path).tolist() == [[False, True, True, True]]


def test_a_black_mask_is_empty(tmp_path):
    assert not images.read_mask(saved(tmp_path / "m.png", np.zeros((4, 4), np.uint8))).any()


def test_load_checks_the_hash(tmp_path):
    item = item_of(saved(tmp_path / "a.png", RGB), saved(tmp_path / "m.png", (GREY > 9).astype(np.uint8)))
    assert np.array_equal(images.load_image(item), RGB)
    assert np.array_equal(images.load_mask(item), GREY > 9)
    saved(tmp_path / "a.png", 255 - RGB)
    saved(tmp_path / "m.png", (GREY < 9).astype(np.uint8))
    for load, name in ((images.load_image, "a.png"), (images.load_mask, "m.png")):
        with pytest.raises(AdshiftError, match=f"{name}: changed since.*\n.*remedy: restore it"):
            load(item)


def test_a_normal_image_has_an_empty_mask(tmp_path):
    mask = images.load_mask(item_of(saved(tmp_path / "a.png", RGB)))
    assert mask.shape == (12, 20) and mask.dtype == bool and not mask.any()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_a_truncated_file_is_named(tmp_path, suffix):
    path = saved(tmp_path / f"cut{suffix}", RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(AdshiftError, match=rf"cut\{suffix}: (damaged|not an image)"):
        images.read_image(path)


@pytest.mark.parametrize(
    "content", [b"", b"not an image", b"GIF89a\x01\x00\x01\x00", b"\x89PNG\r\n\x1a\n" + b"\0" * 40]
)
def test_what_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "fake.png"
    path.write_bytes(content)
    with pytest.raises(AdshiftError, match=r"fake.png: (not an image|damaged)"):
        images.read_image(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AdshiftError, match=r"gone.png: cannot be read \(No such file"):
        images.read_image(tmp_path / "gone.png")


def test_a_decompression_bomb_is_refused_before_it_unfolds(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(AdshiftError, match=r"bomb.png: more than 100 megapixels"):
        images.read_mask(path)


def test_our_limit_holds_below_pillows(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", RGB)
    monkeypatch.setattr(images, "MAX_PIXELS", 12 * 20)
    images.read_image(path)
    monkeypatch.setattr(images, "MAX_PIXELS", 12 * 20 - 1)
    with pytest.raises(AdshiftError, match=r"a.png: more than"):
        images.read_image(path)


def test_fit_agrees_with_torchvision():
    from torchvision.transforms import v2

    picture = RNG.integers(0, 256, (70, 91, 3), dtype=np.uint8)
    transform = v2.Compose([v2.Resize((48, 48)), v2.CenterCrop(33)])
    assert np.array_equal(geometry.fit(picture, 48, 33), np.asarray(transform(Image.fromarray(picture))))


def test_fit_takes_the_nearest_pixel_of_a_mask():
    mask = np.kron(RNG.random((20, 20)) < 0.5, np.ones((10, 5), bool))  # no region is too small to be met
    centres = 2 * np.arange(40) + 1  # of the new pixels, in halves
    expected = mask[np.ix_(centres * 200 // 80, centres * 100 // 80)]
    small = geometry.fit(mask, 40)
    assert small.dtype == bool and np.array_equal(small, expected)
    assert np.array_equal(geometry.fit(mask, 40, 20), expected[10:30, 10:30])


def test_fit_leaves_the_right_size_alone():
    picture = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(geometry.fit(picture, 32), picture)


def test_a_crop_larger_than_the_square_is_refused():
    with pytest.raises(AdshiftError, match=r"features.crop: 50"):
        geometry.fit(RGB, 40, 50)
