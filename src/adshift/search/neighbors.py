"""Nearest neighbors in a memory bank: exact, on the device, or by an HNSW graph that FAISS builds.

Notation: B rows of the bank, Q queries, D dimensions, K neighbors.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from adshift.runtime import device
from adshift.runtime.parallel import in_slices, one_thread_below
from adshift.search.hnsw import HNSW_M, QUERIES_PER_BLOCK
from adshift.search.rows import Metric, prepared


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
        self.graph = self.products = None
        if device.on_card() and not graph:
            from adshift.search.products import Products

            self.products = Products(self.bank)
            return
        from adshift.search.exact import Exact  # compiled code, not needed to read params.yaml

        self.exact = Exact(self.bank)
        if graph:
            from adshift.search.graph import Graph

            self.graph = Graph(self.exact, graph)

    def search(
        self, queries: np.ndarray, k: int, *, width: int = HNSW_M, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """The K = min(k, B) nearest rows of each query, nearest first, ties to the lowest index.

        Args:
            queries: (Q, D) float32.
            k: neighbors wanted.
            width: candidates kept by a search in a graph (efSearch), at least k.
            threads: the queries are divided among them; their number changes no byte.

        Returns:
            distances (Q, K) float32 and indices (Q, K) int64.
        """
        if self.products:
            squared, indices = self.products.search(prepared(queries, self.metric), min(k, len(self.bank)))
            return self._distances(squared), indices
        none = np.full((len(queries), min(k, len(self.bank))), -1)
        if self.graph is None:
            return self._each(self.exact.search, queries, none, threads)
        return self._each(partial(self.graph.search, width=width), queries, none, threads, QUERIES_PER_BLOCK)

    def search_exactly(self, queries: np.ndarray, near: np.ndarray, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """As `search`, but exact for every index, starting from rows `near` the queries (Q, K).

        It is meant for few queries: the threads divide the bank, which is read only once.
        """
        from adshift.search.exact import GROUP, merge

        queries, parts = prepared(queries, self.metric), []

        def work(rows: slice) -> None:
            squared, indices = np.empty(near.shape, np.float32), near.copy()
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
        """Distances and indices that `search` fills in, a slice of whole blocks of queries at a time."""
        queries, squared = prepared(queries, self.metric), np.empty(indices.shape, np.float32)

        def work(part: slice) -> None:
            search(queries[part], squared[part], indices[part])

        with one_thread_below():
            in_slices(work, len(queries), threads, run)
        return self._distances(squared), indices

    def _distances(self, squared: np.ndarray) -> np.ndarray:
        return np.sqrt(squared) if self.metric == "euclidean" else squared / 2
