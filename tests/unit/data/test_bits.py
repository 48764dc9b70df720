"""Files with more than 8 bits: read by the depth of the set's camera."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adshift.data import datasets, images, manifest
from adshift.errors import AdshiftError, AdshiftWarning, warn, warnings_shown

RAMP = np.arange(64, dtype=np.uint16).reshape(8, 8)


def saved(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def data_set(root: Path, top: int, dtype: type = np.uint16) -> Path:
    """Values from 0 to `top`, which one image alone reaches."""
    for part, count in (("train/good", 3), ("test/good", 2), ("test/cut", 1)):
        for index in range(count):
            largest = top if part == "test/cut" else top * 3 // 4
            saved(root / f"nut/{part}/{index}.tif", np.linspace(0, largest, 64).reshape(8, 8).astype(dtype))
    saved(root / "nut/ground_truth/cut/0_mask.png", np.eye(8, dtype=np.uint8) * 255)
    return root


def build(root: Path, **options: int) -> list[manifest.Item]:
    return datasets.build("mvtec", str(root), ["nut"], Path("not/used"), **options)["nut"]


@pytest.mark.parametrize(("top", "bits"), [(255, 8), (256, 10), (1023, 10), (4095, 12), (4096, 14), (65535, 16)])
@pytest.mark.filterwarnings("error::adshift.errors.AdshiftWarning")
def test_auto_takes_what_holds_the_largest_value_of_the_set(tmp_path: Path, top: int, bits: int) -> None:
    items = build(data_set(tmp_path, top))
    assert {item.bits for item in items} == {bits}
    [brightest] = [images.load_image(item).max() for item in items if item.anomalous]
    assert brightest == round(255 * top / (2**bits - 1))
    manifest.write(tmp_path / "m.csv", items)
    assert manifest.read(tmp_path / "m.csv") == items
    manifest.write(tmp_path / "m.csv", [replace(items[0], bits=20)])
    with pytest.raises(AdshiftError, match="20 bits"):
        manifest.read(tmp_path / "m.csv")


def test_twelve_bits_keep_their_levels_and_eight_in_a_long_integer_are_seen(tmp_path: Path) -> None:
    deep = saved(tmp_path / "a.tif", np.arange(4096, dtype=np.uint16).reshape(64, 64))
    assert len(np.unique(images.read_image(deep, 12))) == 256
    assert len(np.unique(images.read_image(deep, 16))) == 17
    long = saved(tmp_path / "b.tif", np.arange(256, dtype=np.int32).reshape(16, 16))
    np.testing.assert_array_equal(images.read_image(long, 8)[..., 1].ravel(), np.arange(256))
    assert {item.bits for item in build(data_set(tmp_path / "set", 255, np.int32))} == {8}


def test_sixteen_bits_are_read_as_ever() -> None:
    every = images.Picture(np.arange(65536, dtype=np.int32).reshape(256, 256), 65535, transparent=False)
    np.testing.assert_array_equal(every.pixels(16)[..., 0].ravel(), (np.arange(65536) + 128) // 257)


def test_a_set_or_an_image_that_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.warns(AdshiftWarning, match="bits: 14, but the data set has no value above 200, less than a sixteenth"):
        build(data_set(tmp_path / "dark", 200), bits=14)
    with pytest.warns(AdshiftWarning, match=r"bits: 8, but the data set has values up to 4095 are clipped to 8 bits"):
        build(data_set(tmp_path / "bright", 4095), bits=8)
    root = data_set(tmp_path / "one", 4095)
    saved(root / "nut/train/good/1.tif", RAMP)
    with pytest.warns(AdshiftWarning, match=r"good/1\.tif hardly use.* no value above 63"):
        build(root)


def test_a_warning_is_one_line_on_a_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings_shown():
        warn("a\x1bb")
        warn("a\x1bb")
    assert capsys.readouterr().err == "warning: a\\x1bb\nwarning: a\\x1bb\n"
