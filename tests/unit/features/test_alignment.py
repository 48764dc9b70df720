"""Statistics of feature maps brought to those of the training images."""

from pathlib import Path

import numpy as np
import pytest

from adshift.errors import AdshiftError
from adshift.features.alignment import FILE, GAIN, Alignment
from adshift.features.store import Features

SPEC = {"size": 32, "layers": [{"name": "a", "shape": [6, 6, 3]}, {"name": "b", "shape": [3, 3, 5]}]}


def features(count: int, seed: int = 0, shift: float = 0.0, gain: float = 1.0) -> Features:
    rng = np.random.default_rng(seed)
    arrays = {
        level: (rng.normal(1, 2, (count, *layer["shape"])) * gain + shift).astype(np.float32)
        for level, layer in enumerate(SPEC["layers"], start=1)
    }
    return Features.of((f"train/good/{number}" for number in range(count)), arrays, SPEC)


def statistics(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = maps.reshape(-1, maps.shape[-1])
    return np.median(flat, axis=0), np.subtract(*np.percentile(flat, [75, 25], axis=0))


def test_training_images_stay_as_they_are() -> None:
    training = features(4)
    aligned = Alignment.fit(training, "image")(training)
    for level in (1, 2):
        np.testing.assert_allclose(aligned.maps(level), training.maps(level), atol=1e-3)
    assert (aligned.names, aligned.spec) == (training.names, training.spec)


def test_statistics_move_to_the_nearest_of_a_training_image() -> None:
    training, later = features(4), features(3, seed=1, shift=9, gain=1.5)
    aligned = Alignment.fit(training, "image")(later)
    for level in (1, 2):
        known = [statistics(maps) for maps in training.maps(level)]
        medians, spreads = (np.array(values) for values in zip(*known, strict=True))
        for before, after in zip(later.maps(level), aligned.maps(level), strict=True):
            median, spread = statistics(before)
            expected = np.clip(median, medians.min(0), medians.max(0)), np.clip(spread, spreads.min(0), spreads.max(0))
            for found, wanted in zip(statistics(after), expected, strict=True):
                np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_defect_of_a_tenth_of_the_positions_keeps_its_distance() -> None:
    training = features(6)
    image = training.maps(1)[:1].copy()
    image[0, :2, :2] += 50  # a ninth
    spotted = Features.of(["a"], {1: image, 2: training.maps(2)[:1]}, SPEC)
    found = Alignment.fit(training, "image")(spotted).maps(1)[0]
    assert found[:2, :2].min() > 20 > np.abs(found[2:]).max()


def test_a_batch_is_moved_by_its_mean_statistics() -> None:
    training = features(4)
    later = features(3, seed=2, shift=9)
    aligned = Alignment.fit(training, "batch")(later)
    moved = aligned.maps(1) - later.maps(1)
    assert np.allclose(moved, moved[0, 0, 0], atol=2)  # one affine map for all images
    one = Alignment.fit(training, "image")(later)
    assert not np.allclose(aligned.maps(1), one.maps(1))
    gains = np.ptp(aligned.maps(1), axis=(1, 2)) / np.ptp(later.maps(1), axis=(1, 2))
    np.testing.assert_allclose(gains, gains[:1].repeat(3, 0), rtol=1e-4)


def test_constant_channels_are_moved_and_gains_are_bounded() -> None:
    training = features(4, gain=100)
    flat = Features.of(["a"], {1: np.full((1, 6, 6, 3), 7, np.float32), 2: training.maps(2)[:1] / 1000}, SPEC)
    alignment = Alignment.fit(training, "image")
    aligned = alignment(flat)
    assert np.isfinite(aligned.maps(1)).all()
    assert np.ptp(aligned.maps(1), axis=(1, 2)).max() == 0
    np.testing.assert_allclose(
        np.ptp(aligned.maps(2), axis=(1, 2)), GAIN * np.ptp(flat.maps(2), axis=(1, 2)), rtol=1e-4
    )


def test_slices_of_aligned_images_are_aligned() -> None:
    alignment, later = Alignment.fit(features(4), "image"), features(3, seed=1, shift=5)
    whole = alignment(later)
    np.testing.assert_array_equal(whole[1:2].maps(1)[0], whole.maps(1)[1])
    np.testing.assert_array_equal(whole.take([2]).maps(2), alignment(later.take([2])).maps(2))


def test_it_is_written_and_read(tmp_path: Path) -> None:
    alignment = Alignment.fit(features(4), "batch")
    alignment.save(tmp_path / FILE)
    again = Alignment.load(tmp_path / FILE)
    assert again.per == "batch" and set(again.ranges) == {1, 2}
    assert all((again.ranges[level] == alignment.ranges[level]).all() for level in (1, 2))


@pytest.mark.parametrize("damage", ["bytes", "per", "shape", "nan", "missing"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    path, ranges = tmp_path / FILE, np.zeros((4, 3), np.float32)
    if damage == "bytes":
        path.write_bytes(b"no archive")
    elif damage == "per":
        np.savez(path, per="hour", level1=ranges)
    elif damage == "shape":
        np.savez(path, per="image", level1=ranges[:3])
    elif damage == "nan":
        np.savez(path, per="image", level1=ranges * np.nan)
    with pytest.raises(AdshiftError, match=FILE):
        Alignment.load(path)
