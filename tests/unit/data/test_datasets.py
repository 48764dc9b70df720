import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adshift.data import datasets, images
from adshift.data.datasets import magnetic_tile
from adshift.errors import AdshiftError


def picture(path, seed=0, size=(8, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(1, 255, size, dtype=np.uint8)).save(path)
    return path


def mask(path, size=(8, 10), marked=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, 255 * marked, dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def nuts(tmp_path):
    """A class `nut` in MVTec AD's layout."""
    root = tmp_path / "raw"
    for stem in range(3):
        picture(root / f"nut/train/good/{stem}.png", stem)
    picture(root / "nut/test/good/0.png", 7)
    picture(root / "nut/test/cut/0.png", 8)
    picture(root / "nut/test/hole/0.png", 9)
    mask(root / "nut/ground_truth/cut/0_mask.png")
    mask(root / "nut/ground_truth/hole/0_mask.png")
    return root


@pytest.fixture
def tiles(tmp_path):
    """The layout of the magnetic tiles."""
    root = tmp_path / "tiles"
    for stem in range(40):
        picture(root / f"MT_Free/Imgs/exp1_num_{stem}.jpg", stem)
        mask(root / f"MT_Free/Imgs/exp1_num_{stem}.png", marked=False)
    picture(root / "MT_Crack/Imgs/exp1_num_1.jpg")
    mask(root / "MT_Crack/Imgs/exp1_num_1.png")
    (root / "README.md").write_text("about")
    return root


def build(root, name="mvtec", classes=("nut",)):
    return datasets.build(name, str(root), classes, Path("not/used"))


def refused(root, name="mvtec", classes=("nut",)):
    """The message with which `build` refuses; `check` refuses alike where no image need be opened."""
    with pytest.raises(AdshiftError) as caught:
        build(root, name, classes)
    return caught.value.what


def refused_at_once(root, name="mvtec", classes=("nut",)):
    with pytest.raises(AdshiftError) as caught:
        datasets.check(name, str(root), classes)
    assert refused(root, name, classes) == caught.value.what
    return caught.value.what


def test_a_row_says_all_about_an_image(nuts):
    rows = {item.name: item for item in build(nuts)["nut"]}
    assert list(rows) == ["test/cut/0", "test/good/0", "test/hole/0", *(f"train/good/{i}" for i in range(3))]
    item = rows["test/cut/0"]
    assert (item.part, item.defect, item.width, item.height) == ("test", "cut", 10, 8)
    assert item.image == f"{nuts}/nut/test/cut/0.png"
    assert item.mask == f"{nuts}/nut/ground_truth/cut/0_mask.png"
    assert (item.sha256, item.mask_sha256) == (images.sha256(item.image), images.sha256(item.mask))
    assert (rows["test/good/0"].mask, rows["test/good/0"].mask_sha256) == ("", "")
    assert images.load_mask(item).all()


def test_paths_begin_with_the_root_as_written(nuts, monkeypatch):
    monkeypatch.chdir(nuts.parent / "raw/nut")
    assert build("..")["nut"][0].image == "../nut/test/cut/0.png"


def test_masks_named_like_their_image_and_other_formats(nuts):
    (nuts / "nut/ground_truth/cut/0_mask.png").rename(nuts / "nut/ground_truth/cut/0.png")
    picture(nuts / "nut/test/cut/1.JPG", 3)
    mask(nuts / "nut/ground_truth/cut/1_mask.bmp")
    rows = {item.name: item for item in build(nuts)["nut"]}
    assert rows["test/cut/0"].mask.endswith("cut/0.png")
    assert rows["test/cut/1"].mask.endswith("cut/1_mask.bmp")


def test_what_lies_beside_images_is_passed_over(nuts):
    before = build(nuts)
    (nuts / "nut/train/good/notes.txt").write_text("x")
    (nuts / "nut/train/good/.DS_Store").write_text("x")
    (nuts / "nut/test/.cache").mkdir()
    (nuts / "license.txt").write_text("x")
    mask(nuts / "nut/ground_truth/good/0_mask.png", marked=False)
    assert build(nuts) == before


def test_an_image_without_its_mask(nuts):
    (nuts / "nut/ground_truth/cut/0_mask.png").unlink()
    rows = {item.name: item for item in build(nuts)["nut"]}
    assert rows["test/cut/0"].mask is None and rows["test/hole/0"].mask.endswith("hole/0_mask.png")


def test_a_mask_without_its_image(nuts):
    extra = mask(nuts / "nut/ground_truth/cut/5_mask.png")
    lone = mask(nuts / "nut/ground_truth/dent/0_mask.png")
    what = refused_at_once(nuts)
    assert f"{extra}: is a mask without its image in {nuts}/nut/test/cut" in what
    assert f"{lone}: is a mask without its image in {nuts}/nut/test/dent" in what


def test_a_mask_of_another_size(nuts):
    path = mask(nuts / "nut/ground_truth/cut/0_mask.png", size=(4, 5))
    assert refused(nuts) == f"{path}: is 5x4, but its image {nuts}/nut/test/cut/0.png is 10x8"


def test_a_mask_that_marks_nothing(nuts):
    path = mask(nuts / "nut/ground_truth/cut/0_mask.png", marked=False)
    assert refused(nuts) == f"{path}: marks no pixel of a defective image"


def test_two_files_of_one_stem(nuts):
    path = picture(nuts / "nut/train/good/1.jpg")
    twice = mask(nuts / "nut/ground_truth/cut/0_mask.tif")
    what = refused_at_once(nuts)
    assert f"{nuts}/nut/train/good/1.png: has the same stem as {path.name}" in what
    assert f"{twice}: has the same stem as 0_mask.png" in what


@pytest.mark.parametrize(
    ("folder", "lacking"),
    [
        ("train/good", "normal training images"),
        ("", "normal training images"),
    ],
)
def test_an_empty_class(nuts, folder, lacking):
    shutil.rmtree(nuts / "nut" / folder)
    (nuts / "nut" / folder).mkdir()
    (nuts / "nut/test").mkdir(exist_ok=True)
    assert f"{nuts}: class nut has no {lacking}" in refused_at_once(nuts)


@pytest.mark.parametrize(
    "folders", [("test/cut", "test/hole", "ground_truth"), ("test", "ground_truth"), ("test/good",)]
)
def test_what_is_not_there_need_not_be(nuts, folders):
    whole = {item.name for item in build(nuts)["nut"]}
    for folder in folders:
        shutil.rmtree(nuts / "nut" / folder)
    left = {name for name in whole if not any(name.startswith(folder) for folder in folders)}
    assert {item.name for item in build(nuts)["nut"]} == left < whole


def test_damaged_files_are_told_together_and_counted(nuts):
    for number in range(12):
        (nuts / f"nut/train/good/bad{number:02}.png").write_bytes(b"no image")
    path = nuts / "nut/train/good/0.png"
    path.write_bytes(path.read_bytes()[:-50])
    lines = refused(nuts).splitlines()
    assert lines[0].startswith("13 problems")
    assert len(lines) == 1 + datasets.PROBLEMS_SHOWN + 1 and lines[-1].strip() == "... and 3 more"
    assert f"{path}: damaged" in lines[1]
    assert "bad00.png: not an image (8 bytes)" in lines[2]


def test_problems_of_all_classes_are_told_together(nuts):
    shutil.copytree(nuts / "nut", nuts / "bolt")
    for name in ("nut", "bolt"):
        (nuts / name / "test/cut/0.png").unlink()
    what = refused_at_once(nuts, classes=("nut", "bolt"))
    assert "2 problems" in what and "nut/ground_truth/cut/0_mask" in what and "bolt/ground_truth/cut/0_mask" in what


def test_misplaced_files(nuts):
    picture(nuts / "nut/train/bad/0.png")
    picture(nuts / "nut/test/good/more/0.png")
    (nuts / "nut/test/cut/raw.heic").write_bytes(b"x")
    what = refused_at_once(nuts)
    assert f"{nuts}/nut/train/bad: images of train are normal, in train/good" in what
    assert f"{nuts}/nut/test/good/more: a folder among the images" in what
    assert f"{nuts}/nut/test/cut/raw.heic: not an image that is read here" in what


def test_a_name_that_no_manifest_can_hold(nuts):
    shutil.copy(nuts / "nut/train/good/0.png", bytes(nuts / "nut/train/good") + b"/\xff.png")
    assert r"\udcff.png': the name is not UTF-8" in refused_at_once(nuts)


def test_a_class_that_is_not_there(nuts):
    with pytest.raises(AdshiftError, match=f"classes: nux not found under {nuts}\n  remedy: choose from nut"):
        datasets.check("mvtec", str(nuts), ("nut", "nux"))


@pytest.mark.parametrize("name", sorted(datasets.REGISTRY))
def test_a_root_that_is_missing_or_empty(tmp_path, name):
    with pytest.raises(AdshiftError, match=r"dataset.root: .*/gone does not exist"):
        datasets.check(name, str(tmp_path / "gone"), ("nut",))
    with pytest.raises(AdshiftError, match=f"dataset.root: .* is no {name} data set\n  remedy: it is to hold"):
        datasets.classes_under(name, str(tmp_path))


def test_an_unknown_data_set():
    with pytest.raises(AdshiftError, match=r"dataset.name: 'mvtek' is unknown"):
        datasets.check("mvtek", ".", ())


def test_classes_under(nuts, tiles):
    picture(nuts / "bolt/train/good/0.png")
    (nuts / "notes").mkdir()
    assert datasets.classes_under("mvtec", str(nuts)) == ["bolt", "nut"]
    assert datasets.classes_under("magnetic_tile", str(tiles)) == ["tile"]


def test_magnetic_tiles(tiles):
    items = build(tiles, "magnetic_tile", ("tile",))["tile"]
    assert len(items) == 41
    [crack] = [item for item in items if item.anomalous]
    assert (crack.name, crack.mask) == ("test/crack/exp1_num_1", f"{tiles}/MT_Crack/Imgs/exp1_num_1.png")
    normal = [item for item in items if not item.anomalous]
    assert all(item.mask == "" for item in normal)
    share = np.mean([item.part == "test" for item in normal])
    assert 0 < share < 0.5


def test_the_tiles_parts_follow_the_stem_alone(tiles):
    def parts():
        return {item.image: item.part for item in build(tiles, "magnetic_tile", ("tile",))["tile"]}

    before = parts()
    picture(tiles / "MT_Free/Imgs/exp0_new.jpg")
    after = parts()
    assert {image: after[image] for image in before} == before
    many = [magnetic_tile._part(str(number)) for number in range(2000)]
    assert abs(many.count("test") / 2000 - magnetic_tile.TEST_SHARE) < 0.03


def test_a_tile_may_be_defective_without_a_defective_pixel(tiles):
    """Four images of MT_Uneven are published so."""
    picture(tiles / "MT_Uneven/Imgs/a.jpg")
    mask(tiles / "MT_Uneven/Imgs/a.png", marked=False)
    rows = {item.name: item for item in build(tiles, "magnetic_tile", ("tile",))["tile"]}
    assert rows["test/uneven/a"].mask


def test_broken_tiles(tiles):
    (tiles / "MT_Crack/Imgs/exp1_num_1.png").unlink()
    lone = mask(tiles / "MT_Blowhole/Imgs/b.png")
    (tiles / "MT_Free/Imgs/x.heic").write_bytes(b"x")
    what = refused_at_once(tiles, "magnetic_tile", ("tile",))
    assert "3 problems" in what
    assert f"{lone}: is a mask without its image" in what
    assert "exp1_num_1.jpg: has no mask exp1_num_1.png" in what
