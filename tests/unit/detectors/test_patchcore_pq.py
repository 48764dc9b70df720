"""Quantized PatchCore against brute force over its decompressed bank, PatchCore itself, and what it promises."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adshift.detectors import patchcore, storage
from adshift.detectors.patchcore_pq import Fit, PatchCorePQ, Score
from adshift.detectors.records import Predictions
from adshift.errors import AdshiftError
from adshift.features.store import Features
from adshift.search.quantized import Codes, QuantizedNeighbors, quantize
from banks import FIT as EXACT
from banks import clustered, features

FIT: dict[str, Any] = {**EXACT, "coreset": 0.5, "bytes": 5}
del FIT["index"]
SCORE: dict[str, Any] = {
    "neighbours": 9, "reweight": "softmax", "image_score": "max", "top_percent": 5.0, "smoothing": 4.0,
    "candidates": 32, "refined": 9,
}  # fmt: skip
KINDS = pytest.mark.parametrize("metric", ["euclidean", "cosine"])


def fitted(images: Features, **settings: Any) -> PatchCorePQ:
    detector = PatchCorePQ(Fit(**{**FIT, **settings}))
    detector.fit(images, np.random.default_rng(0))
    return detector


def predict(detector: PatchCorePQ, images: Features, **how: Any) -> Predictions:
    return detector.predict(images, Score(**{**SCORE, **how}))


def brute(queries: np.ndarray, rows: np.ndarray, metric: str) -> np.ndarray:
    """All distances, in float64 by the book: (Q, B)."""
    queries, rows = queries.astype(float), rows.astype(float)
    if metric == "cosine":
        queries, rows = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (queries, rows))
        return 1 - queries @ rows.T
    return np.linalg.norm(queries[:, None] - rows[None], axis=2)


@KINDS
@pytest.mark.parametrize(("dimensions", "size"), [(24, 6), (24, 12), (19, 4), (50, 8)])
def test_all_rows_as_candidates_equal_search_over_the_decompressed_rows(
    metric: Any, dimensions: int, size: int
) -> None:
    bank, queries = clustered(300, dimensions), clustered(40, dimensions, seed=1)
    codes = quantize(bank, size, metric)
    distances, rows = QuantizedNeighbors(codes, metric).search(queries, 300, candidates=300)
    expected = brute(queries, codes.decompress(np.arange(300)), metric)
    np.testing.assert_allclose(distances, np.sort(expected, axis=1), rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(np.take_along_axis(expected, rows, 1), distances, rtol=1e-4, atol=2e-6)
    assert all(len(set(found)) == 300 for found in rows)


def test_the_second_phase_corrects_the_first() -> None:
    """Of few candidates the nearest comes out first, though the tables' rounded distances had another order."""
    bank, queries = clustered(3000, 32), clustered(200, 32, seed=1)
    codes = quantize(bank, 8, "euclidean")
    index = QuantizedNeighbors(codes, "euclidean")
    exact = brute(queries, codes.decompress(np.arange(3000)), "euclidean")
    _, first = index.index.search(np.ascontiguousarray(codes.split(queries)), 32)
    distances, rows = index.search(queries, 5, candidates=32)
    nearest = exact.argmin(axis=1)
    assert (rows[:, 0] == nearest).mean() > 0.95 > (first[:, 0] == nearest).mean()
    assert (np.diff(distances, axis=1) >= 0).all()
    assert rows.shape == (200, 5)
    assert index.search(queries, 5, candidates=3)[1].shape == (200, 3)


def test_codes_are_near_the_rows_and_nearer_with_more_bytes() -> None:
    mixed = np.random.default_rng(0).normal(size=(24, 24)).astype(np.float32)
    bank = clustered(2000, 24) @ mixed  # no channel is by itself any more

    def error(size: int) -> float:
        codes = quantize(bank, size, "euclidean")
        return float(((codes.decompress(np.arange(2000)) - bank) ** 2).sum() / ((bank - bank.mean(axis=0)) ** 2).sum())

    assert error(12) < error(6) < error(3) < 0.5


def test_the_bank_is_at_least_16_times_smaller() -> None:
    bank = clustered(1568, 152)
    codes = quantize(bank, 24, "euclidean")
    assert codes.nbytes == 1568 * 24 + 48 * 16 * 4 * 4
    assert bank.nbytes >= 16 * codes.nbytes


def test_scores_are_near_patchcores() -> None:
    train, test = features(8), features(6, seed=1)
    exact = patchcore.PatchCore(patchcore.Fit(**{**EXACT, "coreset": 0.5}))
    exact.fit(train, np.random.default_rng(0))
    how = {key: value for key, value in SCORE.items() if key not in ("candidates", "refined")}
    for reweight in ("none", "original"):
        expected = exact.predict(test, patchcore.Score(**{**how, "reweight": reweight, "search_width": 16}))
        found = predict(fitted(train, bytes=6), test, reweight=reweight)
        assert np.corrcoef(found.maps.ravel(), expected.maps.ravel())[0, 1] > 0.98
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0.1)


def test_the_score_sees_no_more_rows_than_are_refined() -> None:
    detector, test = fitted(features(5)), features(2, seed=1)
    alone = predict(detector, test, reweight="none")
    np.testing.assert_array_equal(predict(detector, test, refined=1).maps, alone.maps)
    np.testing.assert_array_equal(predict(detector, test, refined=30).maps, predict(detector, test).maps)
    assert (predict(detector, test, refined=4).maps < predict(detector, test).maps).any()


def test_one_refined_row_leaves_the_distance_as_the_score() -> None:
    """The paper's weight compares the nearest row with its neighbors: of one row alone it would be zero."""
    detector, test = fitted(features(5)), features(2, seed=1)
    plain = predict(detector, test, reweight="none", refined=1)
    assert plain.scores.min() > 0
    for reweight in ("original", "softmax"):
        np.testing.assert_array_equal(predict(detector, test, reweight=reweight, refined=1).scores, plain.scores)


def test_more_refined_than_candidates_is_refused() -> None:
    with pytest.raises(ValueError, match="refined: 9 rows cannot be chosen among candidates: 8"):
        Score(**{**SCORE, "candidates": 8})


def test_what_cannot_be_quantized_is_refused() -> None:
    with pytest.raises(AdshiftError, match=r"patchcore_pq\.bytes: 7 bytes code 14 parts, .* 12 dimensions"):
        fitted(features(3), bytes=7)
    with pytest.raises(AdshiftError, match="a bank of 12 rows is too small"):
        fitted(features(1), coreset=0.2)


@KINDS
def test_a_saved_model_predicts_the_same(metric: str, tmp_path: Path) -> None:
    test = features(2, seed=1)
    detector = fitted(features(4), metric=metric)
    detector.save(tmp_path / "model")
    loaded = PatchCorePQ.load(tmp_path / "model")
    assert loaded.settings == detector.settings
    before, after = (predict(each, test, reweight="original") for each in (detector, loaded))
    np.testing.assert_array_equal(before.scores, after.scores)
    np.testing.assert_array_equal(before.maps, after.maps)


@pytest.mark.parametrize("count", [1, 5])  # fewer images than threads, and more
def test_the_thread_count_changes_no_byte(count: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    train, test = features(6), features(count, seed=1)
    found = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("ADSHIFT_THREADS", threads)
        detector = fitted(train)
        detector.save(tmp_path / threads)
        predict(detector, test).save(tmp_path / threads / "scores.npz")
        found.append({file.name: file.read_bytes() for file in sorted((tmp_path / threads).iterdir())})
    assert len(found[0]) == 3
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("codes", lambda array: array[:, :-1]),
        ("codes", lambda array: array[:0]),
        ("codes", lambda array: array.astype(np.int32)),
        ("codebooks", lambda array: array[:, :8]),
        ("codebooks", lambda array: array[:-2]),
        ("codebooks", lambda array: array.astype(np.float64)),
        ("dimensions", lambda array: np.array(0)),
        ("dimensions", lambda array: np.array(40)),
        ("dimensions", lambda array: np.array([12, 12])),
        ("codes", lambda array: None),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(name: str, change: Any, tmp_path: Path) -> None:
    """Their checksum is right: whoever wrote them did so wrongly."""
    train = features(4)
    detector = fitted(train)
    codes = detector.codes
    arrays = {
        "codes": codes.codes,
        "codebooks": codes.codebooks,
        "dimensions": np.array(12),
    }
    arrays[name] = change(arrays[name])
    arrays = {key: array for key, array in arrays.items() if array is not None}
    storage.save(tmp_path / "model", "patchcore_pq", dict(detector.settings), train.spec, arrays)
    with pytest.raises(AdshiftError, match="no sound quantized bank"):
        PatchCorePQ.load(tmp_path / "model")


def test_nan_and_damage_are_refused(tmp_path: Path) -> None:
    detector = fitted(features(4))
    detector.save(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(AdshiftError, match="damaged"):
        PatchCorePQ.load(tmp_path / "model")
    broken = detector.codes.codebooks.copy()
    broken[0] = np.nan
    detector.codes = Codes(detector.codes.codes, broken, 12)
    with pytest.raises(ValueError, match="codebooks is not finite"):
        detector.save(tmp_path / "other")


def test_the_model_holds_no_more_than_the_codes(tmp_path: Path) -> None:
    fitted(features(4)).save(tmp_path / "model")
    record = json.loads((tmp_path / "model" / "model.json").read_text())
    assert sorted(record["arrays"]) == ["codebooks", "codes", "dimensions"]


def test_a_model_of_a_version_that_could_rotate_loads_unless_it_was_rotated(tmp_path: Path) -> None:
    detector, test = fitted(features(4)), features(2, seed=1)
    codes = detector.codes
    arrays = {"codes": codes.codes, "codebooks": codes.codebooks, "dimensions": np.array(12)}
    settings = {**dict(detector.settings), "opq": False}
    storage.save(tmp_path / "plain", "patchcore_pq", settings, detector.spec,
                 {**arrays, "rotation": np.empty((0, 0), np.float32)})  # fmt: skip
    loaded = PatchCorePQ.load(tmp_path / "plain")
    np.testing.assert_array_equal(predict(loaded, test).scores, predict(detector, test).scores)
    storage.save(tmp_path / "rotated", "patchcore_pq", {**settings, "opq": True}, detector.spec,
                 {**arrays, "rotation": np.eye(12, dtype=np.float32)})  # fmt: skip
    with pytest.raises(AdshiftError, match="opq"):
        PatchCorePQ.load(tmp_path / "rotated")
