"""Exact search against brute force in float64 and against FAISS, and what must hold of the approximate one."""

import numpy as np
import pytest

from adshift.runtime.parallel import one_thread_below
from adshift.search import exact
from adshift.search.hnsw import HNSW_M, check_graph, hnsw_graph
from adshift.search.neighbors import Neighbors


def rows(count: int, dimensions: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)


def brute(bank: np.ndarray, queries: np.ndarray, metric: str) -> np.ndarray:
    """All distances, (Q, B) float64."""
    bank, queries = bank.astype(float), queries.astype(float)
    if metric == "euclidean":
        return np.linalg.norm(queries[:, None] - bank[None], axis=2)
    return 1 - (queries @ bank.T) / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(bank, axis=1)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("queries", [1, 7, 300])
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


def clustered(count: int, seed: int) -> np.ndarray:
    """Patches of images are like this: tight groups, a few main axes, some repeats, an outlier, far from the origin."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(20, 40)) * np.geomspace(8, 0.1, 40)
    found = centres[generator.integers(20, size=count)] + generator.normal(size=(count, 40)) * np.geomspace(2, 0.05, 40)
    found[count // 2 : count // 2 + 10], found[-1] = found[:10], 500
    return (found + 100).astype(np.float32)


@pytest.mark.parametrize("panel", [(64, 16384), (16, 96)])  # all at once; the bank and the queries in many pieces
@pytest.mark.parametrize("axes", [2, 20, 63])
@pytest.mark.parametrize("k", [1, 9])
def test_ruling_out_loses_nothing(panel: tuple[int, int], axes: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    monkeypatch.setattr(exact, "QUERIES", panel[0])
    monkeypatch.setattr(exact, "ROWS", panel[1])
    monkeypatch.setattr(exact, "AXES", axes)
    bank, asked = clustered(1003, 0), clustered(200, 1)
    distances, found = Neighbors(bank).search(asked, k)
    every = brute(bank, asked, "euclidean")
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :k], rtol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(every, found, 1), distances, rtol=1e-5)
    assert all(len(set(row)) == k for row in found.tolist())
    flat = faiss.IndexFlatL2(40)
    flat.add(bank - 100)
    np.testing.assert_allclose(distances**2, flat.search(asked - 100, k)[0], rtol=1e-3, atol=1e-2)


def test_few_distances_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The point of the bounds: without them every query meets every row."""
    met = []
    update = exact._update.py_func
    counting = {**update.__globals__, "rough": lambda a, b: met.append(1) or ((a - b) ** 2).sum()}
    counting["insert"], counting["_near"] = exact.insert.py_func, exact._near.py_func
    monkeypatch.setattr(exact, "_update", type(update)(update.__code__, counting))
    Neighbors(clustered(1003, 0)).search(clustered(50, 1), 3)
    assert 3 * 50 <= len(met) < 0.2 * 1003 * 50


@pytest.mark.parametrize("graph", [False, True])
def test_threads_share_queries_and_change_nothing(graph: bool) -> None:
    bank, asked = clustered(800, 0), clustered(101, 1)
    index = Neighbors(bank, graph=hnsw_graph(bank, "euclidean") if graph else None)
    one, three = (index.search(asked, 5, threads=threads) for threads in (1, 3))
    for a, b in zip(one, three, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_graph_finds_most_and_measures_right(metric: str) -> None:
    bank, asked = rows(2000, 16), rows(300, 16, 1)
    exactly, (distances, found) = (
        Neighbors(bank, metric, graph).search(asked, 5, width=64)  # type: ignore[arg-type]
        for graph in (None, hnsw_graph(bank, metric))  # type: ignore[arg-type]
    )
    assert (found[:, 0] == exactly[1][:, 0]).mean() > 0.97
    assert (np.diff(distances, axis=1) >= 0).all()
    every = brute(bank, asked, metric)
    np.testing.assert_allclose(distances, np.take_along_axis(every, found, 1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("width", [4, 32])
def test_a_query_alone_finds_what_faiss_finds(width: int) -> None:
    """And a neighbour of the query before no less."""
    import faiss

    bank, asked = clustered(3000, 0), clustered(200, 1)
    graph = Neighbors(bank, graph=hnsw_graph(bank, "euclidean"))
    coordinates, _ = graph.exact.bound(asked)
    index = faiss.IndexHNSWFlat(coordinates.shape[1], HNSW_M)  # FAISS draws the same layers and links every time
    with one_thread_below():
        index.add(graph.exact.coordinates)
    index.hnsw.efSearch = width
    theirs = [set(row) for row in index.search(coordinates, width)[1].tolist()]
    ours = [set(graph.search(one[None], width, width=width)[1][0].tolist()) for one in asked]
    assert ours == theirs
    nearest = Neighbors(bank).search(asked, 1)[1][:, 0]
    misses = [sum(row not in found for row, found in zip(nearest, sets, strict=True))
              for sets in (graph.search(asked, width, width=width)[1].tolist(), theirs)]  # fmt: skip
    assert misses[0] <= misses[1]


def test_a_wider_search_misses_less() -> None:
    bank, asked = rows(3000, 24), rows(300, 24, 1)
    nearest, index = Neighbors(bank).search(asked, 1)[1], Neighbors(bank, graph=hnsw_graph(bank, "euclidean"))
    found = [(index.search(asked, 1, width=width)[1] == nearest).mean() for width in (4, 16, 128)]
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("found", [0, -1, 1002])  # rows that are near none of them, no row, a row far from all
@pytest.mark.parametrize("threads", [1, 2])
def test_settling_gives_what_an_exact_search_gives(found: int, threads: int) -> None:
    bank, asked = clustered(1003, 0), clustered(101, 1)
    index = Neighbors(bank)
    exactly = index.search_exactly(asked, np.full((101, 4), found), threads=threads)
    for one, other in zip(index.search(asked, 4), exactly, strict=True):
        np.testing.assert_array_equal(one, other)
    graph = Neighbors(bank, graph=hnsw_graph(bank, "euclidean"))
    rough = graph.search(asked, 4, width=4)
    assert (rough[1] != exactly[1]).any()
    for one, other in zip(graph.search_exactly(asked, rough[1], threads=threads), exactly, strict=True):
        np.testing.assert_array_equal(one, other)


def test_equal_banks_give_equal_graphs() -> None:
    one, other = (hnsw_graph(rows(500, 8), "euclidean") for _ in range(2))
    assert {name: array.tobytes() for name, array in one.items()} == {
        name: array.tobytes() for name, array in other.items()
    }


@pytest.mark.parametrize("name", ["levels", "offsets", "neighbors", "entry"])
def test_a_graph_that_leads_out_of_the_bank_is_refused(name: str) -> None:
    graph = hnsw_graph(rows(200, 8), "euclidean")
    check_graph(graph, 200, "hnsw")
    for change in (lambda array: array[:-1], lambda array: array + 200):
        with pytest.raises(ValueError, match="does not fit"):
            check_graph({**graph, name: change(graph[name])}, 200, "hnsw")
    low, high = (int(np.flatnonzero(test)[0]) for test in (graph["levels"] == 1, graph["levels"] > 1))
    links = graph["neighbors"].copy()
    links[int(graph["offsets"][high]) + 2 * HNSW_M] = low  # from a layer where that row has no links
    with pytest.raises(ValueError, match="does not fit"):
        check_graph({**graph, "neighbors": links}, 200, "hnsw")
    with pytest.raises(ValueError, match="exact"):
        check_graph(graph, 200, "exact")


def test_the_bank_and_the_queries_stay_as_they_were() -> None:
    bank, asked = rows(30, 4), rows(5, 4, 1)
    copies = bank.copy(), asked.copy()
    Neighbors(bank, "cosine").search(asked, 3)
    np.testing.assert_array_equal(bank, copies[0])
    np.testing.assert_array_equal(asked, copies[1])
