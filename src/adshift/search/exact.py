"""Exact nearest neighbors, faster than comparing with every row of the bank.

Notation: B rows of the bank, Q queries, D dimensions, K neighbors, A main axes of the bank.

Let x' be the A coordinates of x along the axes, and the length of the rest of x. Then |q' - x'| <= |q - x|
(Cauchy-Schwarz on the rests), and A + 1 numbers are quick to compare. Rows whose bound exceeds the K-th smallest
distance so far are skipped; for the few others the distance itself is computed. Queries are neighbors in an image, so
each query starts from the nearest rows of the query before it.
"""

import numpy as np

from adshift.search.kernels import jit, main_axes, rough

AXES = 63  # 64 columns with the length of the rest: a fast matrix product that leaves few rows
QUERIES, ROWS = 512, 1536  # compared at a time: the bank is read rarely, and the products stay in the cache
GROUP = 32  # rows that one comparison can skip
EPSILON = float(np.finfo(np.float32).eps)


class Exact:
    """The bank with its bounds."""

    def __init__(self, bank: np.ndarray) -> None:
        self.bank, self.mean = bank, bank.mean(axis=0)
        self.axes = main_axes(bank, AXES).T
        # The rounding errors of float32 in coordinates, product and distance are below this share of |q|^2 + |x|^2.
        # It is subtracted from both, so that no nearer row is ever skipped.
        self._sure = np.float32(1 - 4 * EPSILON * (bank.shape[1] + AXES))
        bounds, self.norms = self.bound(bank)
        short = -len(bank) % GROUP
        self.norms = np.append(self.norms, np.full(short, np.inf, np.float32))  # padding, never near
        self.norms *= self._sure
        # The term -2 q'x' of |q' - x'|^2.
        self.bounds = -2 * np.ascontiguousarray(np.pad(bounds, ((0, short), (0, 0))).T)

    @property
    def coordinates(self) -> np.ndarray:
        """(B, A + 1) coordinates of the bank's rows, as `bound` computes them, row by row in memory."""
        return np.divide(self.bounds[:, : len(self.bank)].T, -2, order="C")

    def bound(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, A + 1) coordinates whose distances bound those of the rows, and (N,) squared lengths of both."""
        centred = rows - self.mean
        along = centred @ self.axes
        norms, within = (np.einsum("nd,nd->n", part, part) for part in (centred, along))
        return np.concatenate([along, np.sqrt(np.maximum(norms - within, 0))[:, None]], axis=1), norms

    def search(self, queries: np.ndarray, squared: np.ndarray, indices: np.ndarray, rows: slice | None = None) -> None:
        """Fill `squared` (Q, K) float32 and `indices` (Q, K) int64 with the nearest rows of the bank.

        Args:
            queries: (Q, D) float32.
            squared: output.
            indices: output; on input rows to start from, or -1.
            rows: the slice of the bank to search, beginning at a multiple of GROUP; all if not given.
        """
        if not len(queries):
            return
        bounds, norms = self.bound(queries)
        norms *= self._sure
        nearby = np.arange(squared.shape[1])
        begin, end, _ = (rows or slice(None)).indices(len(self.norms))
        # Allocated once: fresh memory would cost more than the product.
        scratch = np.empty(min(QUERIES, len(queries)) * min(ROWS, end - begin), np.float32)
        for low in range(0, len(queries), QUERIES):
            part = slice(low, low + QUERIES)
            for first in range(begin, end, ROWS):
                some = slice(first, min(first + ROWS, end))
                shape = len(bounds[part]), len(self.norms[some])
                dots = np.matmul(bounds[part], self.bounds[:, some], out=scratch[: shape[0] * shape[1]].reshape(shape))
                _update(dots, norms[part], self.norms[some], first, first == begin, queries[part], self.bank, nearby,
                        squared[part], indices[part])  # fmt: skip


@jit()
def _near(dots, norms, limit):  # type: ignore[no-untyped-def]
    """Number of rows with |x'|^2 - 2 q'x' of at most `limit`. Counting is quicker than finding the smallest."""
    count = np.int32(0)
    for j in range(len(dots)):
        count += np.int32(norms[j] + dots[j] <= limit)
    return count


@jit()
def insert(values, rows, value, row):  # type: ignore[no-untyped-def]
    """Insert a row in order of (value, row) unless it is there already or beyond the last; the last row is dropped."""
    i = len(values) - 1
    if value > values[i] or (value == values[i] and row >= rows[i]):
        return
    for known in rows:
        if known == row:
            return
    while i > 0 and (values[i - 1] > value or (values[i - 1] == value and rows[i - 1] > row)):
        values[i], rows[i] = values[i - 1], rows[i - 1]
        i -= 1
    values[i], rows[i] = value, row


@jit()
def _update(dots, own, norms, first, start, queries, bank, nearby, squared, indices):  # type: ignore[no-untyped-def]
    """Update the neighbors of some queries with the bank's rows from `first` on; `dots` are -2 q'x'.

    With `start` each query begins at the rows in `indices` and in `nearby`. On return `nearby` holds the nearest rows
    of the last query.
    """
    k = squared.shape[1]
    for q in range(len(queries)):
        values, rows, line = squared[q], indices[q], dots[q]
        if start:
            started = rows.copy()
            values[:], rows[:] = np.inf, -1
            for row in nearby:
                insert(values, rows, rough(queries[q], bank[row]), row)
            for row in started:
                if row >= 0:
                    insert(values, rows, rough(queries[q], bank[row]), row)
        limit = values[k - 1] - own[q]
        for group in range(0, len(norms), GROUP):
            end = group + GROUP
            if not _near(line[group:end], norms[group:end], limit):
                continue
            for j in range(group, end):
                if norms[j] + line[j] <= limit:
                    insert(values, rows, rough(queries[q], bank[first + j]), first + j)
                    limit = values[k - 1] - own[q]
        nearby[:] = rows


@jit()
def merge(others_squared, others, squared, indices):  # type: ignore[no-untyped-def]
    """Update neighbors (Q, K) with those from a search among other rows."""
    for q in range(len(squared)):
        for i in range(others.shape[1]):
            insert(squared[q], indices[q], others_squared[q, i], others[q, i])


@jit()
def refine(queries, codes, centroids, norms, candidates, squared, indices):  # type: ignore[no-untyped-def]
    """Fill `squared` and `indices` with the candidates that are nearest once decompressed.

    A squared distance is a sum over the parts of the code, so the distance to each centroid is computed once a query.
    `centroids` (M, W, 16). For rows scaled to a length x of one, |q - row / x|^2 = (|q - row|^2 - (1 - x)^2) / x.
    """
    parts, width, count = centroids.shape
    table = np.empty((parts, count), np.float32)
    for q in range(len(queries)):
        table[:] = 0
        for part in range(parts):
            for d in range(width):
                value = queries[q, part * width + d]
                for c in range(count):
                    step = value - centroids[part, d, c]
                    table[part, c] += step * step
        values, rows = squared[q], indices[q]
        for i in candidates[q]:
            low, high = np.float32(0), np.float32(0)
            for byte in range(codes.shape[1]):
                low += table[2 * byte, codes[i, byte] & 15]
                high += table[2 * byte + 1, codes[i, byte] >> 4]
            insert(values, rows, (low + high - (1 - norms[i]) ** 2) / norms[i], i)
