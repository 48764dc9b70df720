"""Exact search by matrix products, as cards run it: the same code on the processor against plain differences."""

import numpy as np
import pytest
import torch

from adshift.errors import AdshiftWarning
from adshift.search import products
from adshift.search.neighbors import Neighbors
from adshift.search.products import Products


def by_hand(bank: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """In float64, ties to the lowest index."""
    squared = ((queries[:, None].astype(np.float64) - bank[None].astype(np.float64)) ** 2).sum(-1)
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(squared, order, 1), order


@pytest.fixture(params=["whole", "in blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in blocks":
        monkeypatch.setattr(products, "PRODUCTS", 60 * 37)


@pytest.mark.parametrize("k", [1, 9, 400])
def test_the_nearest_rows_far_from_the_origin(blocks: None, k: int) -> None:
    generator = np.random.default_rng(0)
    bank = (generator.normal(0, 1, (400, 24)) + 300).astype(np.float32)  # where products alone lose four digits
    queries = (generator.normal(0, 1, (60, 24)) + 300).astype(np.float32)
    queries[:5] = bank[:5]
    squared, indices = Products(bank).search(queries, k)
    expected, order = by_hand(bank, queries, k)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(np.sqrt(squared), np.sqrt(expected), rtol=1e-4, atol=1e-6)
    assert (squared.dtype, indices.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(squared[:5, 0], 0)


def test_ties_go_to_the_lowest_index(blocks: None) -> None:
    bank = np.repeat(np.eye(6, 8, dtype=np.float32), 3, axis=0)[::-1].copy()
    _, indices = Products(bank).search(bank, 3)
    np.testing.assert_array_equal(indices, by_hand(bank, bank, 3)[1])


def test_queries_are_divided_when_the_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    bank, queries = (generator.normal(size=(rows, 8)).astype(np.float32) for rows in (50, 40))
    search = Products._search

    def small(self: Products, part: np.ndarray, k: int) -> list[np.ndarray]:
        if len(part) > 12:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return search(self, part, k)

    monkeypatch.setattr(Products, "_search", small)
    with pytest.warns(AdshiftWarning, match="nearest neighbors: out of memory"):
        _, indices = Products(bank).search(queries, 4)
    np.testing.assert_array_equal(indices, by_hand(bank, queries, 4)[1])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_neighbors_search_by_products_where_there_is_a_card(monkeypatch: pytest.MonkeyPatch, metric: str) -> None:
    """The processor stands in for the card: distances agree with the processor's own search."""
    generator = np.random.default_rng(2)
    bank, queries = (generator.normal(size=(rows, 16)).astype(np.float32) for rows in (300, 50))
    ours = Neighbors(bank, metric)
    other = Neighbors(bank, metric)
    other.products = Products(other.bank)
    for one, two in zip(ours.search(queries, 9), other.search(queries, 9), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4)
    assert len(other.search(queries[:0], 9)[0]) == 0
