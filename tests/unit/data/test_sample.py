import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from adshift.data import datasets, images
from adshift.data.datasets import drawing, sample, scenes
from adshift.errors import AdshiftError
from adshift.runtime.seeding import generator

RECIPE = sample.__file__
BRUSHES = [*scenes.NUT_DEFECTS.values(), *scenes.CARPET_DEFECTS.values(), scenes.ABRASION, scenes.CAUGHT]
EVERY = [(name, defect) for name, (_, defects) in sample.CLASSES.items() for defect in defects]


@pytest.fixture
def small(monkeypatch):
    """The set with few images, one or two a defect."""
    monkeypatch.setattr(sample, "TRAIN", 2)
    monkeypatch.setattr(sample, "TEST_GOOD", 1)
    monkeypatch.setattr(sample, "TEST_DEFECTIVE", 6)


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_the_set_is_as_large_as_promised():
    assert list(sample.CLASSES) == ["hazelnut", "carpet", "zipper"]
    for name, (_, defects) in sample.CLASSES.items():
        counts = Counter((part, defect) for part, defect, _ in sample._images(name))
        assert len(sample._images(name)) == len(set(sample._images(name))) == 160
        assert (counts["train", "good"], counts["test", "good"]) == (60, 40)
        assert len(defects) >= 4 and all(counts["test", defect] == 60 // len(defects) for defect in defects)


def test_the_manifest_lists_what_was_drawn(tmp_path, small):
    made = datasets.build("sample", RECIPE, ["carpet", "zipper"], tmp_path / "out", Path("data/clean/sample"))
    assert sorted(made) == ["carpet", "zipper"] and not (tmp_path / "out/hazelnut").exists()
    for name, items in made.items():
        assert len(items) == 9
        for item in items:
            assert item.image == f"data/clean/sample/{name}/{item.name}.png"
            drawn = tmp_path / "out" / name / f"{item.name}.png"
            assert images.sha256(drawn) == item.sha256
            image, mask = sample.render(name, *item.name.split("/"))
            assert np.array_equal(images.read_image(drawn), image)
            if item.anomalous:
                assert item.mask == f"data/clean/sample/{name}/ground_truth/{item.name.removeprefix('test/')}_mask.png"
                path = tmp_path / "out" / Path(item.mask).relative_to("data/clean/sample")
                assert np.array_equal(images.read_mask(path), mask)


def test_threads_and_other_classes_change_no_byte(tmp_path, small, monkeypatch):
    monkeypatch.setenv("ADSHIFT_THREADS", "1")
    sample.generate(["hazelnut"], tmp_path / "one")
    monkeypatch.setenv("ADSHIFT_THREADS", str(2 + (os.cpu_count() or 1)))
    sample.generate(["zipper", "hazelnut"], tmp_path / "many")
    one = files(tmp_path / "one")
    assert len(one) == 15 and one.items() <= files(tmp_path / "many").items()


def test_no_two_images_are_alike():
    pictures = [sample.render("carpet", part, "good", stem)[0] for part in ("train", "test") for stem in ("000", "001")]
    assert len({picture.tobytes() for picture in pictures}) == 4


@pytest.mark.parametrize(("name", "defect"), EVERY)
def test_every_defect_has_a_mask_of_its_size(name, defect):
    for stem in ("000", "001"):
        image, mask = sample.render(name, "test", defect, stem)
        assert image.shape == (drawing.SIZE, drawing.SIZE, 3) and image.dtype == np.uint8
        assert mask.shape == (drawing.SIZE, drawing.SIZE) and 0.005 <= mask.mean() <= 0.06
        assert not mask[[0, -1]].any() and not mask[:, 0].any(), "a defect is cut by the border"


@pytest.mark.parametrize("brush", BRUSHES)
def test_a_brush_changes_what_its_mask_marks_and_little_else(brush):
    ground = np.full((drawing.SIZE, drawing.SIZE, 3), (0.4, 0.38, 0.36), dtype=np.float32)
    for seed in range(3):
        painted, changed = brush(generator(seed), ground, (120.0, 130.0))
        difference, mask = np.abs(painted - ground).max(axis=2), changed >= 0.5
        assert difference[mask].mean() > 0.02, "nobody could see it"
        assert difference[~ndimage.binary_dilation(mask, iterations=5)].max() < 0.05, "the mask is too small"


def test_most_defects_are_plain_and_few_are_faint():
    shown = np.array([scenes.visible(generator(1, str(i)), (0.2, 0.9)) for i in range(1000)])
    assert shown.min() >= 0.2 and shown.max() <= 0.9
    assert 0.16 < (shown < 0.55).mean() < 0.26 and 0.02 < (shown < 0.3).mean() < 0.08


def test_the_camera_is_never_quite_the_same():
    grey = np.full((drawing.SIZE, drawing.SIZE, 3), 0.5, dtype=np.float32)
    taken = np.stack([drawing.photographed(grey, generator(1, str(i))) for i in range(12)]).astype(np.float32) / 255
    exposure, noise = taken.mean(axis=(1, 2, 3)), np.diff(taken, axis=2).std(axis=(1, 2, 3)) / 2**0.5
    assert 0.01 < exposure.std() < 0.06 and 0.003 < noise.min() < 0.01 < noise.max() < 0.016
    again = drawing.photographed(grey, generator(1, "0")).astype(np.float32) / 255
    assert np.array_equal(again, taken[0])


@pytest.mark.parametrize("name", sample.CLASSES)
def test_normal_images_have_no_mask_and_use_the_range(name):
    image, mask = sample.render(name, "train", "good", "000")
    assert image.dtype == np.uint8 and not mask.any()
    assert image.std() > 10 and (image == 255).mean() < 0.01 and (image == 0).mean() < 0.01


def test_the_root_is_the_recipe(tmp_path):
    assert datasets.classes_under("sample", RECIPE) == ["carpet", "hazelnut", "zipper"]
    with pytest.raises(AdshiftError, match="is no sample data set\n  remedy: it is to hold the recipe"):
        datasets.check("sample", str(tmp_path), ["carpet"])
    with pytest.raises(AdshiftError, match="classes: bottle not found"):
        datasets.check("sample", RECIPE, ["bottle"])


@pytest.mark.parametrize("name", ["brick", "grass", "gravel"])
def test_photographs_come_with_scikit_image(name, monkeypatch):
    """Their files lie in the wheel; a download would fail here."""
    import socket

    monkeypatch.setattr(socket, "socket", lambda *args, **options: pytest.fail("a download"))
    drawing.photograph.cache_clear()
    assert drawing.photograph(name).shape == (512, 512)


def test_clouds_have_deviation_one():
    maps = np.stack([drawing.clouds(generator(1, str(i)), 8) for i in range(20)])
    assert abs(maps.mean()) < 0.05 and abs(maps.std() - 1) < 0.05
    assert np.abs(np.diff(maps, axis=1)).mean() < 0.3


def test_shapes_are_signed_distances():
    circle = drawing.disc((100, 120), 10)
    assert circle[100, 120] == -10 and circle[100, 150] == 20
    bar = drawing.box(drawing.Y - 100, drawing.X - 100, 20, 40, 3)
    assert bar[100, 100] == -10 and bar[130, 100] == 20 and bar[100, 125] == 5
    stroke = drawing.line(np.array([[50.0, 50.0], [50.0, 90.0]]), 4)
    assert stroke[50, 70] == -2 and stroke[60, 70] == 8 and stroke[50, 100] == pytest.approx(8, abs=1e-5)
