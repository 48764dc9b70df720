"""Search in an HNSW graph (Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
Hierarchical Navigable Small World graphs", 2018) that FAISS has built.

The layers are descended as in the paper (algorithm 5). The lowest layer is searched as in the paper (algorithm 2), but
from more than one row: queries are neighbors in an image, so the rows that the previous query returned are near as
well. FAISS's own search takes twice the time for the same graph and misses more rows (docs/performance.md). The first
query of every block of QUERIES_PER_BLOCK starts without a predecessor, so the result depends on no number of threads.

Notation: B rows of the bank, Q queries, C coordinates, K neighbors.
"""

from collections.abc import Mapping

import numpy as np

from adshift.search.exact import Exact, insert
from adshift.search.hnsw import HNSW_M, QUERIES_PER_BLOCK
from adshift.search.kernels import jit, rough


class Graph:
    """Search among the coordinates that bound distances, then true distances of what was found.

    There are 64 coordinates, however many dimensions the bank has.

    Args:
        exact: the bank with its bounds.
        arrays: FAISS's `levels`, `offsets` and `neighbors`, and `entry`: the row at the top, and its layer.
    """

    def __init__(self, exact: Exact, arrays: Mapping[str, np.ndarray]) -> None:
        self.exact, self.coordinates = exact, exact.coordinates
        self.links, self.offsets = arrays["neighbors"], arrays["offsets"].astype(np.int64)
        self.entry, self.top = map(int, arrays["entry"])

    def search(self, queries: np.ndarray, squared: np.ndarray, indices: np.ndarray, width: int) -> None:
        """Fill `squared` (Q, K) float32 and `indices` (Q, K) int64; fewer found than K repeat the last one.

        Args:
            queries: (Q, D) float32, whose first is the first of a run.
            squared, indices: to be filled.
            width: candidates that are kept (efSearch), at least K.
        """
        found = np.empty((len(queries), max(width, squared.shape[1])), np.int64)
        bounds = np.empty(found.shape, np.float32)
        coordinates, _ = self.exact.bound(queries)
        _walk(coordinates, self.coordinates, self.links, self.offsets, self.entry, self.top, bounds, found)
        _rank(queries, self.exact.bank, bounds, found, squared, indices)


@jit()
def _walk(queries, rows, links, offsets, entry, top, bounds, found):  # type: ignore[no-untyped-def]
    """Fill `found` (Q, width) int64 with rows near each query, nearest first, then -1, and `bounds` with how near.

    `queries` (Q, C) and `rows` (B, C) float32; the links of a row from its offset on are those of the lowest layer,
    then those of each above, -1 behind the last.
    """
    width = found.shape[1]
    start, open_ = np.empty(width + 1, np.int64), np.empty(width, np.bool_)
    fresh = np.empty(max(2 * HNSW_M, width + 1) + 1, np.int64)
    seen = np.zeros(len(rows), np.int32)  # by the query of this number, from 1 on
    for q in range(len(queries)):
        values, kept = bounds[q], found[q]
        values[:], kept[:], open_[:] = np.inf, -1, False
        start[0] = _descend(queries[q], rows, links, offsets, entry, top)
        if q % QUERIES_PER_BLOCK:
            start[1:] = found[q - 1]
        else:
            start[1:] = -1
        place, count = 0, _unseen(start, seen, q + 1, fresh)
        while True:
            for row in fresh[:count]:
                value = rough(queries[q], rows[row])
                if value < values[-1]:
                    place = min(place, _keep(values, kept, open_, value, row))
            while place < width and not open_[place]:
                place += 1
            if place == width:
                break
            open_[place] = False
            first = offsets[kept[place]]
            count = _unseen(links[first : first + 2 * HNSW_M], seen, q + 1, fresh)


@jit()
def _unseen(candidates, seen, number, fresh):  # type: ignore[no-untyped-def]
    """Put those that this query has not seen into `fresh`, and return how many they are."""
    count = 0
    for row in candidates:
        if row < 0:
            break
        fresh[count] = row  # it stays if it counts: a branch would be mispredicted every other time
        count += np.int64(seen[row] != number)
        seen[row] = number
    return count


@jit()
def _descend(query, rows, links, offsets, entry, top):  # type: ignore[no-untyped-def]
    """The nearest row that greedy steps from `entry` lead to, layer by layer; the lowest is left out."""
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
    """Put a row in its place by value, still to be followed; the last one drops out."""
    place = len(values) - 1
    while place > 0 and values[place - 1] > value:
        values[place], kept[place], open_[place] = values[place - 1], kept[place - 1], open_[place - 1]
        place -= 1
    values[place], kept[place], open_[place] = value, row, True
    return place


@jit()
def _rank(queries, bank, bounds, found, squared, indices):  # type: ignore[no-untyped-def]
    """Fill `squared` and `indices` (Q, K) with the nearest of the rows found; of fewer than K, the last is repeated."""
    last = squared.shape[1] - 1
    for q in range(len(queries)):
        values, rows = squared[q], indices[q]
        values[:], rows[:] = np.inf, -1
        for i in range(found.shape[1]):
            row = found[q, i]
            if row < 0 or bounds[q, i] > values[last]:  # as are all that follow
                break
            insert(values, rows, rough(queries[q], bank[row]), row)
        for place in range(1, last + 1):
            if rows[place] < 0:
                values[place], rows[place] = values[place - 1], rows[place - 1]
