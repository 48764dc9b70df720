"""Search in an HNSW graph (Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
Hierarchical Navigable Small World graphs", 2018) that FAISS has built.

The layers are descended as in the paper (algorithm 5). The lowest layer is searched as in the paper (algorithm 2), but
from more than one row: queries are neighbors in an image, so the rows that the previous query returned are near as
well. FAISS's own search takes twice the time for the same graph and misses more rows (docs/performance.md). The first
query of every block of QUERIES_PER_BLOCK starts without a predecessor, so the number of threads changes no result.

Notation: B rows of the bank, Q queries, C coordinates, K neighbors.
"""

from collections.abc import Mapping

import numpy as np

from adshift.search.exact import Exact, insert
from adshift.search.hnsw import HNSW_M, QUERIES_PER_BLOCK
from adshift.search.kernels import jit, rough


class Graph:
    """Search by the 64 coordinates that bound distances, then rank the candidates by their true distances.

    Args:
        exact: the bank with its bounds.
        arrays: FAISS's `levels`, `offsets` and `neighbors`, and `entry`: the row at the top, and its layer.
    """

    def __init__(self, exact: Exact, arrays: Mapping[str, np.ndarray]) -> None:
        self.exact, self.coordinates = exact, exact.coordinates
        self.links, self.offsets = arrays["neighbors"], arrays["offsets"].astype(np.int64)
        self.entry, self.top = map(int, arrays["entry"])

    def search(self, queries: np.ndarray, squared: np.ndarray, indices: np.ndarray, width: int) -> None:
        """Fill `squared` (Q, K) float32 and `indices` (Q, K) int64; of fewer than K candidates the last is repeated.

        Args:
            queries: (Q, D) float32, from the first query of a block on.
            squared, indices: outputs.
            width: candidates kept during the search (efSearch), at least K.
        """
        candidates = np.empty((len(queries), max(width, squared.shape[1])), np.int64)
        bounds = np.empty(candidates.shape, np.float32)
        coordinates, _ = self.exact.bound(queries)
        _walk(coordinates, self.coordinates, self.links, self.offsets, self.entry, self.top, bounds, candidates)
        _rank(queries, self.exact.bank, bounds, candidates, squared, indices)


@jit()
def _walk(queries, rows, links, offsets, entry, top, bounds, candidates):  # type: ignore[no-untyped-def]
    """Fill `candidates` (Q, width) int64 with rows near each query, nearest first, then -1; `bounds`: their distances.

    `queries` (Q, C) and `rows` (B, C) float32. From a row's offset on stand its links of the lowest layer, then those
    of each layer above, each list padded with -1.
    """
    width = candidates.shape[1]
    start, open_ = np.empty(width + 1, np.int64), np.empty(width, np.bool_)
    fresh = np.empty(max(2 * HNSW_M, width + 1) + 1, np.int64)
    seen = np.zeros(len(rows), np.int32)  # number, from 1 on, of the last query that visited a row
    for q in range(len(queries)):
        values, kept = bounds[q], candidates[q]
        values[:], kept[:], open_[:] = np.inf, -1, False
        start[0] = _descend(queries[q], rows, links, offsets, entry, top)
        if q % QUERIES_PER_BLOCK:
            start[1:] = candidates[q - 1]
        else:
            start[1:] = -1
        position, count = 0, _unseen(start, seen, q + 1, fresh)
        while True:
            for row in fresh[:count]:
                value = rough(queries[q], rows[row])
                if value < values[-1]:
                    position = min(position, _keep(values, kept, open_, value, row))
            while position < width and not open_[position]:
                position += 1
            if position == width:
                break
            open_[position] = False
            first = offsets[kept[position]]
            count = _unseen(links[first : first + 2 * HNSW_M], seen, q + 1, fresh)


@jit()
def _unseen(candidates, seen, number, fresh):  # type: ignore[no-untyped-def]
    """Copy the candidates that this query has not visited to `fresh`; returns their number."""
    count = 0
    for row in candidates:
        if row < 0:
            break
        fresh[count] = row  # overwritten unless it counts; a branch would be mispredicted half of the time
        count += np.int64(seen[row] != number)
        seen[row] = number
    return count


@jit()
def _descend(query, rows, links, offsets, entry, top):  # type: ignore[no-untyped-def]
    """Greedy descent from `entry` through all layers above the lowest (algorithm 5); returns the nearest row."""
    nearest, least = entry, rough(query, rows[entry])
    for layer in range(top, 0, -1):
        better = True
        while better:
            better, first = False, offsets[nearest] + (layer + 1) * HNSW_M
            for row in links[first : first + HNSW_M]:
                if row < 0:
                    break
                value = rough(query, rows[row])
                if value < least:
                    nearest, least, better = np.int64(row), value, True
    return nearest


@jit()
def _keep(values, kept, open_, value, row):  # type: ignore[no-untyped-def]
    """Insert a row in order of distance, its links still to be followed; the last row is dropped. Returns its index."""
    i = len(values) - 1
    while i > 0 and values[i - 1] > value:
        values[i], kept[i], open_[i] = values[i - 1], kept[i - 1], open_[i - 1]
        i -= 1
    values[i], kept[i], open_[i] = value, row, True
    return i


@jit()
def _rank(queries, bank, bounds, candidates, squared, indices):  # type: ignore[no-untyped-def]
    """Fill `squared` and `indices` (Q, K) with the nearest candidates; with fewer than K the last one is repeated."""
    last = squared.shape[1] - 1
    for q in range(len(queries)):
        values, rows = squared[q], indices[q]
        values[:], rows[:] = np.inf, -1
        for i in range(candidates.shape[1]):
            row = candidates[q, i]
            if row < 0 or bounds[q, i] > values[last]:  # candidates are in order of their bounds
                break
            insert(values, rows, rough(queries[q], bank[row]), row)
        for i in range(1, last + 1):
            if rows[i] < 0:
                values[i], rows[i] = values[i - 1], rows[i - 1]
