"""Near duplicates across the parts of a split, from feature maps."""

import numpy as np
import pytest

from adshift.features import duplicates
from adshift.features.store import Features


def features(maps: np.ndarray, names: list[str]) -> Features:
    layers = [{"name": "a", "file": "a.npy", "shape": list(maps.shape[1:])}]
    return Features.of(names, {1: maps.astype(np.float32)}, {"layers": layers})


@pytest.fixture
def scene() -> tuple[np.ndarray, list[str], dict[str, str]]:
    maps = np.random.default_rng(0).normal(size=(30, 6, 10, 8))
    names = [f"{number:02}" for number in range(30)]
    return maps, names, {name: ("train", "val", "test")[int(name) % 3] for name in names}


def test_different_images_are_none(scene: tuple[np.ndarray, list[str], dict[str, str]]) -> None:
    maps, names, roles = scene
    assert duplicates.near_duplicates(features(maps, names), roles) == []
    assert duplicates.warning([], "nut") == ""


def test_a_copy_with_little_noise_is_told_from_the_training_part_on(
    scene: tuple[np.ndarray, list[str], dict[str, str]],
) -> None:
    maps, names, roles = scene
    for copied, source in ((4, 3), (20, 7)):  # val like train, test like val
        maps[copied] = maps[source] + np.random.default_rng(copied).normal(0, 0.05, maps[0].shape)
    found = duplicates.near_duplicates(features(maps, names), roles)
    assert {(pair.first, pair.second, pair.parts) for pair in found} == {
        ("03", "04", ("train", "val")), ("07", "20", ("val", "test"))}  # fmt: skip
    assert all(0 < pair.ratio < 0.2 for pair in found) and found[0].ratio <= found[1].ratio
    told = duplicates.warning(found, "nut, clean domain")
    assert told.startswith("nut, clean domain: 2 pairs of images in different parts show nearly the same; split.group")
    assert "  03 (train) and 04 (val)" in told.splitlines()


def test_copies_within_a_part_and_unused_images_do_not_count(
    scene: tuple[np.ndarray, list[str], dict[str, str]],
) -> None:
    maps, names, roles = scene
    maps[3], maps[5] = maps[0], maps[1]  # train and train; test and val
    roles["05"] = "unused"
    assert duplicates.near_duplicates(features(maps, names), roles) == []
    roles["03"] = "test"
    assert [pair.ratio for pair in duplicates.near_duplicates(features(maps, names), roles)] == [
        pytest.approx(0, abs=1e-3)
    ]


def test_blocks_change_nothing(
    scene: tuple[np.ndarray, list[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    maps, names, roles = scene
    maps[29] = maps[0] + 0.01
    whole = duplicates.near_duplicates(features(maps, names), roles)
    monkeypatch.setattr(duplicates, "BLOCK", 7)
    again = duplicates.near_duplicates(features(maps, names), roles)
    assert (
        [(pair.first, pair.second) for pair in again] == [(pair.first, pair.second) for pair in whole] == [("00", "29")]
    )
