"""Nearest neighbours in a memory bank: exact, and faster than comparing with every row, or by FAISS's HNSW graph.

Notation: B rows of the bank, Q queries, D dimensions, K neighbours, A main axes of the bank.

Exact search: with x' = (x along the A axes, length of the rest of x), |q' - x'| <= |q - x| (Cauchy-Schwarz on the
rests), and A + 1 numbers are quick to compare. Rows whose bound exceeds the K-th distance found so far are ruled out;
of the few others the distance itself is computed and decides. Queries are neighbours in an image, so each starts from
the rows that the one before it found.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np

from adshift.distances import jit, main_axes, rough
from adshift.parallel import one_thread_below

Metric = Literal["euclidean", "cosine"]
Index = Literal["exact", "hnsw"]

AXES = 63  # and the rest's length: the product of 64 columns is quick, and few rows are left
QUERIES, ROWS = 64, 16_384  # compared at once: what lies between stays in the processor's cache
GROUP = 32  # rows that are ruled out by one comparison
LINKS = 16  # of a row in the HNSW graph
EPSILON = float(np.finfo(np.float32).eps)


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
        self.index = _Graph(self.bank, graph) if graph else _Exact(self.bank)

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
        queries, k = prepared(queries, self.metric), min(k, len(self.bank))
        squared, indices = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        share = max(-(-len(queries) // threads), 1)

        def work(low: int) -> None:
            part = slice(low, low + share)
            self.index.search(queries[part], squared[part], indices[part], width)

        with one_thread_below(), ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(0, len(queries), share)))
        return np.sqrt(squared) if self.metric == "euclidean" else squared / 2, indices


class _Exact:
    """Search among bounds, as said above."""

    def __init__(self, bank: np.ndarray) -> None:
        self.bank, self.mean = bank, bank.mean(axis=0)
        self.axes = main_axes(bank, AXES).T
        # All that float32 can be wrong by, in the coordinates, their product and the distance, is less than this share
        # of |q|^2 + |x|^2: taken off both, what rules out is sure.
        self._sure = np.float32(1 - 4 * EPSILON * (bank.shape[1] + AXES))
        bounds, self.norms = self._bound(bank)
        short = -len(bank) % GROUP
        self.norms = np.append(self.norms, np.full(short, np.inf, np.float32))  # rows that are never near
        self.norms *= self._sure
        self.bounds = -2 * np.ascontiguousarray(np.pad(bounds, ((0, short), (0, 0))).T)  # as |q' - x'|^2 has it

    def _bound(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, A + 1) coordinates whose distances bound those of the rows, and (N,) squared lengths of both."""
        centred = rows - self.mean
        along = centred @ self.axes
        norms, within = (np.einsum("nd,nd->n", part, part) for part in (centred, along))
        return np.concatenate([along, np.sqrt(np.maximum(norms - within, 0))[:, None]], axis=1), norms

    def search(self, queries: np.ndarray, squared: np.ndarray, indices: np.ndarray, _width: int) -> None:
        """Fill `squared` (Q, K) float32 and `indices` (Q, K) int64."""
        if not len(queries):
            return
        bounds, norms = self._bound(queries)
        norms *= self._sure
        nearby = np.arange(squared.shape[1])
        scratch = np.empty(QUERIES * ROWS, np.float32)  # made once: fresh memory would cost more than the product
        for low in range(0, len(queries), QUERIES):
            part = slice(low, low + QUERIES)
            for first in range(0, len(self.norms), ROWS):
                rows = slice(first, first + ROWS)
                shape = len(bounds[part]), len(self.norms[rows])
                dots = np.matmul(bounds[part], self.bounds[:, rows], out=scratch[: shape[0] * shape[1]].reshape(shape))
                _settle(dots, norms[part], self.norms[rows], first, queries[part], self.bank, nearby,
                        squared[part], indices[part])  # fmt: skip


@jit(fastmath=True)
def _lowest(dots, norms, first):  # type: ignore[no-untyped-def]
    """Smallest |x'|^2 - 2 q'x' of a group of rows."""
    smallest = norms[first] + dots[first]
    for j in range(first + 1, first + GROUP):
        value = norms[j] + dots[j]
        if value < smallest:  # noqa: PLR1730  (`min` does not compile to one instruction)
            smallest = value
    return smallest


@jit()
def insert(values, rows, value, row):  # type: ignore[no-untyped-def]
    """Put a row in its place by (value, row), unless it is there; the last one drops out."""
    for known in rows:
        if known == row:
            return
    place = len(values) - 1
    while place > 0 and (values[place - 1] > value or (values[place - 1] == value and rows[place - 1] > row)):
        values[place], rows[place] = values[place - 1], rows[place - 1]
        place -= 1
    values[place], rows[place] = value, row


@jit()
def _settle(dots, own, norms, first, queries, bank, nearby, squared, indices):  # type: ignore[no-untyped-def]
    """Bring the neighbours of some queries up to date with the bank's rows from `first` on; `dots` are -2 q'x'.

    `nearby` are rows to start a query from; it leaves with those of the last query.
    """
    k = squared.shape[1]
    for q in range(len(queries)):
        values, rows = squared[q], indices[q]
        if first == 0:
            values[:], rows[:] = np.inf, -1
            for row in nearby:
                insert(values, rows, rough(queries[q], bank[row]), row)
        limit = values[k - 1] - own[q]
        for group in range(0, len(norms), GROUP):
            if _lowest(dots[q], norms, group) > limit:
                continue
            for j in range(group, group + GROUP):
                if norms[j] + dots[q, j] <= limit:
                    value, row = rough(queries[q], bank[first + j]), first + j
                    if value < values[k - 1] or (value == values[k - 1] and row < rows[k - 1]):
                        insert(values, rows, value, row)
                        limit = values[k - 1] - own[q]
        nearby[:] = rows


class _Graph:
    """Search in an HNSW graph (Malkov and Yashunin, 2018) by FAISS."""

    def __init__(self, bank: np.ndarray, graph: Mapping[str, np.ndarray]) -> None:
        import faiss

        self.bank = bank
        self.index = faiss.IndexHNSWFlat(bank.shape[1], LINKS)
        for name, array in graph.items():
            if name == "entry":
                self.index.hnsw.entry_point, self.index.hnsw.max_level = map(int, array)
            else:
                faiss.copy_array_to_vector(array, getattr(self.index.hnsw, name))
        self.index.storage.add(bank)
        self.index.ntotal = len(bank)

    def search(self, queries: np.ndarray, squared: np.ndarray, indices: np.ndarray, width: int) -> None:
        """Fill `squared` (Q, K) float32 and `indices` (Q, K) int64; fewer found than K repeat the last one."""
        import faiss

        faiss.omp_set_num_threads(1)  # holds for the calling thread
        k = squared.shape[1]
        _, found = self.index.search(queries, k, params=faiss.SearchParametersHNSW(efSearch=max(width, k)))  # type: ignore[attr-defined]
        for rank in range(1, k):
            found[:, rank] = np.where(found[:, rank] < 0, found[:, rank - 1], found[:, rank])
        # FAISS's distances come from an expanded square or not, as it sees fit: ours are all computed alike.
        _measure(queries, self.bank, found, squared)
        order = np.lexsort((found, squared))
        squared[:], indices[:] = (np.take_along_axis(array, order, 1) for array in (squared, found))


@jit()
def _measure(queries, bank, rows, squared):  # type: ignore[no-untyped-def]
    for q in range(len(queries)):
        for rank in range(rows.shape[1]):
            squared[q, rank] = rough(queries[q], bank[rows[q, rank]])


def hnsw_graph(bank: np.ndarray, metric: Metric) -> dict[str, np.ndarray]:
    """The links of an HNSW index over a bank (B, D), apart from the bank itself: what a model stores.

    One thread, so that equal banks give equal graphs.
    """
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(bank.shape[1], LINKS)
    index.add(prepared(bank, metric))
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
    )
    if not sound:
        raise ValueError("the graph of the index does not fit its bank")


def prepared(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Rows (N, D) as they are compared: float32, and of length one for cosine."""
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if metric == "euclidean":
        return rows
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
