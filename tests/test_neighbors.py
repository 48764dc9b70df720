"""FAISS search and what is done around it against brute force in float64."""

import numpy as np
import pytest

from adshift.neighbors import Neighbors


def rows(count: int, dimensions: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)


def brute(bank: np.ndarray, queries: np.ndarray, metric: str) -> np.ndarray:
    """All distances, (Q, B) float64."""
    bank, queries = bank.astype(float), queries.astype(float)
    if metric == "euclidean":
        return np.linalg.norm(queries[:, None] - bank[None], axis=2)
    return 1 - (queries @ bank.T) / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(bank, axis=1)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("queries", [1, 7, 300])  # FAISS takes another path for few queries
def test_distances_and_rows_are_those_of_brute_force(metric: str, queries: int) -> None:
    bank, asked = rows(500, 24), rows(queries, 24, 1)
    distances, found = Neighbors(bank, metric).search(asked, 9)  # type: ignore[arg-type]
    expected = brute(bank, asked, metric)
    np.testing.assert_array_equal(found, expected.argsort(axis=1)[:, :9])
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :9], rtol=1e-5)
    assert distances.dtype == np.float32
    assert found.dtype == np.int64


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_row_of_the_bank_is_at_distance_zero_from_itself(metric: str) -> None:
    bank = rows(400, 64) * 10 + 300  # |a|^2 - 2ab + |b|^2 alone would be off by several units here
    distances, found = Neighbors(bank, metric).search(bank, 2)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found[:, 0], np.arange(400))
    assert (distances[:, 0] == 0).all()


def test_small_distances_keep_their_digits_and_order() -> None:
    bank = np.full((60, 8), 100, np.float32)
    bank[:, 0] += np.arange(60)[::-1].astype(np.float32) / 1024
    distances, found = Neighbors(bank).search(bank[-1:].repeat(40, 0), 60)
    np.testing.assert_array_equal(found[0], np.arange(60)[::-1])
    np.testing.assert_allclose(distances[0], np.arange(60) / 1024, rtol=1e-6)


def test_ties_go_to_the_lowest_index() -> None:
    bank = rows(3, 5)[[2, 1, 2, 0, 2]]
    _, found = Neighbors(bank).search(bank[2:3], 3)
    assert found.tolist() == [[0, 2, 4]]


def test_a_small_bank_gives_all_its_rows() -> None:
    distances, found = Neighbors(rows(3, 5)).search(rows(4, 5, 1), 9)
    assert distances.shape == found.shape == (4, 3)
    assert (np.sort(found, axis=1) == [0, 1, 2]).all()


def test_cosine_ignores_lengths_and_survives_a_zero_row() -> None:
    bank = np.array([[1, 0], [0, 3], [0, 0]], np.float32)
    distances, found = Neighbors(bank, "cosine").search(np.array([[5, 0], [0, 0]], np.float32), 3)
    assert found[0].tolist() == [0, 2, 1]
    np.testing.assert_allclose(distances, [[0, 0.5, 1], [0, 0.5, 0.5]], atol=1e-7)


def test_the_bank_and_the_queries_stay_as_they_were() -> None:
    bank, asked = rows(30, 4), rows(5, 4, 1)
    copies = bank.copy(), asked.copy()
    Neighbors(bank, "cosine").search(asked, 3)
    np.testing.assert_array_equal(bank, copies[0])
    np.testing.assert_array_equal(asked, copies[1])
