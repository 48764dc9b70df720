"""Nearest neighbours in a memory bank: exact, or by an HNSW graph that FAISS builds.

Notation: B rows of the bank, Q queries, D dimensions, K neighbours.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import numpy as np

from adshift.runtime.parallel import in_slices, one_thread_below

Metric = Literal["euclidean", "cosine"]
Index = Literal["exact", "hnsw"]

LINKS = 16  # of a row in each layer of an HNSW graph but the lowest, which has twice as many
RUN = 16  # queries that such a search takes one after the other, whatever the number of threads


class Neighbors:
    """An index of a bank.

    Args:
        bank: (B, D) float32.
        metric: `euclidean`, the distance itself and not its square, or `cosine`, 1 - cos, in [0, 2].
        graph: of an HNSW index over the same bank, as `hnsw_graph` returns it, for approximate search.
    """

    def __init__(
        self, bank: np.ndarray, metric: Metric = "euclidean", graph: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self.metric = metric
        # Of unit vectors, 1 - cos is half the squared distance: one index serves both.
        self.bank = prepared(bank, metric)
        from adshift.search.exact import Exact  # compiled code, which reading params.yaml spares

        self.exact, self.graph = Exact(self.bank), None
        if graph:
            from adshift.search.graph import Graph

            self.graph = Graph(self.exact, graph)

    def search(
        self, queries: np.ndarray, k: int, *, width: int = LINKS, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """The K = min(k, B) nearest rows of each query, nearest first, ties to the lowest index.

        Args:
            queries: (Q, D) float32.
            k: neighbours asked for.
            width: candidates that a search in a graph keeps (efSearch), at least k.
            threads: share the queries. They change no byte.

        Returns:
            distances (Q, K) float32 and indices (Q, K) int64.
        """
        none = np.full((len(queries), min(k, len(self.bank))), -1)
        if self.graph is None:
            return self._each(self.exact.search, queries, none, threads)
        return self._each(partial(self.graph.search, width=width), queries, none, threads, RUN)

    def settle(self, queries: np.ndarray, found: np.ndarray, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """As `search`, and exact whatever the index: `found` (Q, K) are rows near the queries, where it starts.

        Queries are few here, so threads share the bank, which is read but once.
        """
        from adshift.search.exact import GROUP, merge

        queries, parts = prepared(queries, self.metric), []

        def work(rows: slice) -> None:
            squared, indices = np.empty(found.shape, np.float32), found.copy()
            self.exact.search(queries, squared, indices, rows)
            parts.append((squared, indices))

        with one_thread_below():
            in_slices(work, len(self.exact.norms), threads, GROUP)
        (squared, indices), *others = parts
        for other in others:
            merge(*other, squared, indices)
        return self._distances(squared), indices

    def _each(
        self, search: Callable[..., None], queries: np.ndarray, indices: np.ndarray, threads: int, run: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Distances and indices that `search` fills in, a slice of the queries at a time, made of whole runs."""
        queries, squared = prepared(queries, self.metric), np.empty(indices.shape, np.float32)

        def work(part: slice) -> None:
            search(queries[part], squared[part], indices[part])

        with one_thread_below():
            in_slices(work, len(queries), threads, run)
        return self._distances(squared), indices

    def _distances(self, squared: np.ndarray) -> np.ndarray:
        return np.sqrt(squared) if self.metric == "euclidean" else squared / 2


def hnsw_graph(bank: np.ndarray, metric: Metric) -> dict[str, np.ndarray]:
    """The links of an HNSW index over a bank (B, D), apart from the bank itself: what a model stores.

    One thread, so that equal banks give equal graphs.
    """
    import faiss

    from adshift.search.exact import Exact

    coordinates = Exact(prepared(bank, metric)).coordinates
    index = faiss.IndexHNSWFlat(coordinates.shape[1], LINKS)
    with one_thread_below():
        index.add(coordinates)
    arrays = {name: faiss.vector_to_array(getattr(index.hnsw, name)) for name in ("levels", "offsets", "neighbors")}
    return {**arrays, "entry": np.array([index.hnsw.entry_point, index.hnsw.max_level])}


def check_graph(graph: Mapping[str, np.ndarray], rows: int, index: Index) -> None:
    """Refuse a graph that would lead outside of the bank.

    Raises:
        ValueError: it is no graph over `rows` rows, or `index` needs none.
    """
    if set(graph) != ({"levels", "offsets", "neighbors", "entry"} if index == "hnsw" else set()):
        raise ValueError(f"the index is {index}, its arrays are {sorted(graph)}")
    if not graph:
        return
    levels, offsets, links, entry = (graph[name] for name in ("levels", "offsets", "neighbors", "entry"))
    sound = (
        len(levels) == rows == len(offsets) - 1
        and len(entry) == 2
        and levels.min() >= 1
        and np.array_equal(np.diff(offsets.astype(np.int64)), LINKS * (levels.astype(np.int64) + 1))
        and offsets[0] == 0
        and offsets[-1] == len(links)
        and -1 <= links.min() <= links.max() < rows
        and 0 <= entry[0] < rows
        and entry[1] == levels[entry[0]] - 1 == levels.max() - 1
        and _layers_are_closed(levels, offsets.astype(np.int64), links)
    )
    if not sound:
        raise ValueError("the graph of the index does not fit its bank")


def _layers_are_closed(levels: np.ndarray, offsets: np.ndarray, links: np.ndarray) -> bool:
    """Whether the links of each layer above the lowest lead to rows that have links there."""
    for layer in range(1, levels.max()):
        first = offsets[:-1][levels > layer] + LINKS * (layer + 1)
        linked = links[first[:, None] + np.arange(LINKS)]
        if (levels[linked[linked >= 0]] <= layer).any():
            return False
    return True


def prepared(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Rows (N, D) as they are compared: float32, and of length one for cosine."""
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if metric == "euclidean":
        return rows
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
