"""The mask of the foreground against anomalib's AnomalyDINO, and PatchCore with it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adshift.detectors import patchcore, patchcore_pq
from adshift.detectors.components.foreground import first_component, foreground
from adshift.features.store import Features

SCORE: dict[str, Any] = {"neighbours": 9, "reweight": "none", "image_score": "max", "top_percent": 5.0,
                         "smoothing": 4.0, "search_width": 16}  # fmt: skip
FIT: dict[str, Any] = {"layers": (1,), "pool": 1, "stride": 1, "projection": None, "coreset": 1.0,
                       "chunk_patches": None, "metric": "euclidean", "index": "exact"}  # fmt: skip
GRIDS = [(16, 16), (12, 20), (9, 14)]


def tokens(grid: tuple[int, int], seed: int = 0, sign: float = 1.0, most: float = 40.0) -> np.ndarray:
    """(H, W, 24) float32: an object in the middle, `most` from the background along one direction, and noise."""
    generator = np.random.default_rng(seed)
    height, width = grid
    rows, columns = np.mgrid[:height, :width]
    inside = (abs(rows - height / 2) < 0.25 * height) & (abs(columns - width / 2) < 0.3 * width)
    inside &= generator.random(grid) > 0.1  # with holes
    direction = generator.normal(size=24)
    direction[3] = 5.0  # clearly the largest: it decides the sign, and anomalib's decomposition is a random one
    signal = inside[..., None] * (sign * most * direction / np.linalg.norm(direction))
    return (signal + generator.normal(size=(*grid, 24))).astype(np.float32)


def anomalibs(patches: np.ndarray, threshold: float) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from anomalib.models.image.anomaly_dino.torch_model import AnomalyDINOModel
    height, width, _ = patches.shape
    flat = patches.reshape(1, height * width, -1)
    return AnomalyDINOModel.compute_background_masks(flat, (height, width), threshold).reshape(height, width)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_mask_is_anomalibs(grid: tuple[int, int], sign: float) -> None:
    for seed in range(5):
        patches = tokens(grid, seed, sign)
        mask = foreground(patches, 10.0)
        np.testing.assert_array_equal(mask, anomalibs(patches, 10.0))
        assert 0.3 < mask.mean() < 1


def test_the_component_is_that_of_a_decomposition() -> None:
    rows = tokens((16, 16)).reshape(256, -1).astype(np.float64)
    centred = rows - rows.mean(0)
    expected = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    mine = first_component(rows)
    np.testing.assert_allclose(mine * np.sign(mine @ expected), expected, atol=1e-9 * abs(expected).max())
    np.testing.assert_allclose(first_component(-rows), -mine, atol=1e-12)  # the direction keeps its sign


def test_an_image_without_an_object_counts_whole() -> None:
    assert foreground(tokens((16, 16), most=0.0), 10.0).all()
    assert foreground(np.zeros((8, 8, 4), np.float32), 10.0).all()  # no direction at all


def features(count: int, seed: int = 0, odd: int | None = None) -> Features:
    """Images of tokens; of number `odd` a corner of the background is far from all others."""
    maps = np.stack([tokens((16, 16), seed) + np.float32(0.01) * index for index in range(count)])
    if odd is not None:
        maps[odd, :2, :2] += 3 * np.random.default_rng(1).normal(size=24)
    spec = {"size": 64, "layers": [{"name": "blocks.11", "shape": [16, 16, 24]}]}
    return Features.of([f"{seed}/{index}" for index in range(count)], {1: maps.astype(np.float32)}, spec)


def fitted(images: Features, **changes: Any) -> patchcore.PatchCore:
    detector = patchcore.PatchCore(patchcore.Fit(**{**FIT, **changes}))
    detector.fit(images, np.random.default_rng(0))
    return detector


def test_the_bank_holds_the_object_alone(tmp_path: Path) -> None:
    train = features(3)
    mask = foreground(train.maps(1)[0].astype(np.float32), 10.0)
    masked, plain = fitted(train, foreground=10.0), fitted(train)
    assert len(plain.bank) == 3 * 256
    expected = np.concatenate([image[mask] for image in train.maps(1)])
    order = [np.lexsort(rows.T) for rows in (masked.bank, expected)]
    np.testing.assert_array_equal(masked.bank[order[0]], expected[order[1]])
    masked.save(tmp_path / "model")
    loaded = patchcore.PatchCore.load(tmp_path / "model")
    assert loaded.settings.foreground == 10.0


def test_the_background_has_no_score() -> None:
    train, test = features(3), features(2, seed=0, odd=1)
    masked, plain = fitted(train, foreground=10.0), fitted(train)
    scoring = patchcore.Score(**SCORE)
    mine, theirs = masked.predict(test, scoring), plain.predict(test, scoring)
    mask = foreground(test.maps(1)[1].astype(np.float32), 10.0)
    assert not mask[:2, :2].any()
    assert (mine.maps[1][~mask] == 0).all()
    np.testing.assert_allclose(mine.maps[1][mask], theirs.maps[1][mask], atol=1e-5)
    assert mine.scores[1] == mine.maps[1].max() < 0.1 * theirs.scores[1]


def test_the_mean_of_the_largest_counts_the_background_as_zero() -> None:
    """As AnomalyDINO does: the share is one of all patches, so a small object has fewer patches than it."""
    train, test = features(3), features(2, seed=3)
    mine = fitted(train, foreground=10.0).predict(
        test, patchcore.Score(**{**SCORE, "image_score": "top_mean", "top_percent": 100.0})
    )
    np.testing.assert_allclose(mine.scores, mine.maps.mean(axis=(1, 2)), rtol=1e-5)


def test_the_quantized_bank_has_the_same_mask() -> None:
    names = patchcore_pq.Fit.model_fields
    settings = {name: value for name, value in {**FIT, "foreground": 10.0, "bytes": 8}.items() if name in names}
    detector = patchcore_pq.PatchCorePQ(patchcore_pq.Fit(**settings))
    detector.fit(features(3), np.random.default_rng(0))
    scoring = {name: value for name, value in {**SCORE, "candidates": 32, "refined": 9}.items()
               if name in patchcore_pq.Score.model_fields}  # fmt: skip
    maps = detector.predict(features(1), patchcore_pq.Score(**scoring)).maps
    mask = foreground(features(1).maps(1)[0].astype(np.float32), 10.0)
    np.testing.assert_array_equal(maps[0] > 0, mask)


def test_a_models_settings_of_an_earlier_version_have_no_mask() -> None:
    assert patchcore.Fit.of({**FIT, "layers": [1]}).foreground is None


@pytest.mark.parametrize("count", [1, 5])  # fewer images than threads, and more
def test_the_thread_count_changes_no_byte(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    banks, results = [], []
    for threads in ("1", "2"):
        monkeypatch.setenv("ADSHIFT_THREADS", threads)
        detector = fitted(features(4), foreground=10.0, coreset=0.3, projection=8)
        banks.append(detector.bank)
        results.append(detector.predict(features(count, seed=0, odd=0), patchcore.Score(**SCORE)))
    np.testing.assert_array_equal(*banks)
    np.testing.assert_array_equal(results[0].scores, results[1].scores)
    np.testing.assert_array_equal(results[0].maps, results[1].maps)
