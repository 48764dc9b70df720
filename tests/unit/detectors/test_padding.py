"""Padding is no part of an image: whatever its features are, no score, map or bank depends on it."""

from typing import Any

import numpy as np
import pytest

from adshift.deploy.package import pooled
from adshift.detectors import registry
from adshift.detectors.components.whole_maps import without_padding
from adshift.detectors.patchcore import PatchCore
from adshift.features.store import CONTENT, Features
from adshift.project import params
from tiny import ROOT

SIZE = (64, 96)
GRIDS = {1: (16, 24), 2: (8, 12), 3: (4, 6)}
CHANNELS = 6
METHODS = ("patchcore", "patchcore_pq", "padim", "padim_diagonal", "padim_streaming")


def features(count: int, seed: int, padding: float, content: tuple[int, int] | None = (64, 40)) -> Features:
    """Random maps, those of padding all of one value."""
    generator = np.random.default_rng(seed)
    arrays: dict[int, Any] = {}
    for level, grid in GRIDS.items():
        maps = generator.normal(size=(count, *grid, CHANNELS)).astype(np.float32)
        if content:
            maps[:, :, -(-content[1] * grid[1] // SIZE[1]) :] = padding
        arrays[level] = maps
    if content:
        arrays[CONTENT] = np.array([content] * count)
    layers = [{"name": f"layer{level}", "shape": [*grid, CHANNELS]} for level, grid in GRIDS.items()]
    return Features.of([f"test/good/{index}" for index in range(count)], arrays, {"size": SIZE, "layers": layers})


def fitted(method: str, train: Features) -> tuple[Any, Any]:
    section = dict(getattr(params.load(method, path=ROOT / "params.yaml"), method))
    schemas = registry.schemas(method)
    small: dict[str, Any] = {"n_features": 8, "coreset": 0.5, "projection": None, "neighbours": 3, "bytes": 2}
    if method.startswith("patchcore"):  # neither 3 x 3 means nor deeper maps, which reach over the border
        small |= {"pool": 1, "layers": (1,)}
    section |= {key: value for key, value in small.items() if key in section}
    detector = registry.detector_class(method)(schemas["fit"].within(section))
    detector.fit(train, np.random.default_rng(1))
    return detector, schemas["score"].within(section)


@pytest.mark.parametrize("method", METHODS)
def test_no_score_and_no_map_depends_on_padding(method: str) -> None:
    detector, how = fitted(method, features(12, 0, 0.0, (64, 48)))
    one, other = (detector.predict(features(3, 1, padding, (64, 48)), how) for padding in (0.0, 1e4))
    assert one.size == SIZE
    assert one.full_maps().shape == (3, *SIZE)
    np.testing.assert_array_equal(one.scores, other.scores)
    np.testing.assert_array_equal(one.maps, other.maps)


def test_the_bank_holds_no_patch_of_padding() -> None:
    generator = np.random.default_rng(0)
    some = features(4, 0, 0.0)
    contents = np.array([(64, 40), (64, 96), (32, 96), (64, 8)])
    mixed = Features.of(some.names, {**some.rows[0][0], CONTENT: contents}, some.spec)
    settings = registry.schemas("patchcore")["fit"].of(
        {"layers": [2], "pool": 1, "stride": 1, "projection": None, "coreset": 1.0, "chunk_patches": None,
         "metric": "euclidean", "index": "exact"}
    )  # fmt: skip
    detector = PatchCore(settings)
    detector.fit(mixed, generator)
    maps = mixed.maps(2)
    kept = [maps[image, :high, :wide].reshape(-1, CHANNELS) for image, (high, wide) in enumerate(mixed.shown((8, 12)))]
    assert [len(part) for part in kept] == [8 * 5, 8 * 12, 4 * 12, 8 * 1]
    everything = np.concatenate(kept)
    assert detector.total == len(everything)
    np.testing.assert_array_equal(detector.bank, everything[detector.picks])
    chunked = PatchCore(settings.model_copy(update={"chunk_patches": 100, "coreset": 0.25}))
    chunked.fit(mixed, np.random.default_rng(3))
    np.testing.assert_array_equal(chunked.bank, everything[chunked.picks])


def test_a_map_without_its_padding_is_that_of_the_whole_image() -> None:
    """A ramp over the content becomes the same ramp over all positions; what lies beyond it is not read."""
    some = features(2, 0, 0.0, (32, 48))
    maps = np.full((2, 8, 12), 1e6, np.float32)
    maps[:, :4, :6] = np.arange(6) + 10 * np.arange(4)[:, None]
    found = without_padding(some, maps)
    rows, columns = (np.arange(8) + 0.5) / 2 - 0.5, (np.arange(12) + 0.5) / 2 - 0.5
    expected = columns.clip(0, 5) + 10 * rows.clip(0, 3)[:, None]
    np.testing.assert_allclose(found, np.stack([expected] * 2), rtol=1e-6)


def test_a_full_content_changes_no_byte() -> None:
    full, plain = features(3, 1, 0.0, SIZE), features(3, 1, 0.0, None)
    for method in ("patchcore", "padim_diagonal"):
        detector, how = fitted(method, features(6, 0, 0.0, None))
        one, other = detector.predict(full, how), detector.predict(plain, how)
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_allclose(one.maps, other.maps, rtol=1e-6)


def test_pooled_features_leave_padding_out() -> None:
    np.testing.assert_array_equal(pooled(features(2, 1, 0.0, (64, 48))), pooled(features(2, 1, 99.0, (64, 48))))
