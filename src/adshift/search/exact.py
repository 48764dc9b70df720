"""Exact nearest neighbours, faster than comparing with every row of the bank.

Notation: B rows of the bank, Q queries, D dimensions, K neighbours, A main axes of the bank.

With x' = (x along the A axes, length of the rest of x), |q' - x'| <= |q - x| (Cauchy-Schwarz on the
rests), and A + 1 numbers are quick to compare. Rows whose bound exceeds the K-th distance found so far are ruled out;
of the few others the distance itself is computed and decides. Queries are neighbours in an image, so each starts from
the rows that the one before it found.
"""

import numpy as np

from adshift.search.kernels import jit, main_axes, rough

AXES = 63  # and the rest's length: the product of 64 columns is quick, and few rows are left
QUERIES, ROWS = 512, 1536  # compared at once: the bank is read seldom, and what lies between stays cached
GROUP = 32  # rows that are ruled out by one comparison
EPSILON = float(np.finfo(np.float32).eps)


class Exact:
    """Search among bounds, as said above."""

    def __init__(self, bank: np.ndarray) -> None:
        self.bank, self.mean = bank, bank.mean(axis=0)
        self.axes = main_axes(bank, AXES).T
        # All that float32 can be wrong by, in the coordinates, their product and the distance, is less than this share
        # of |q|^2 + |x|^2: taken off both, what rules out is sure.
        self._sure = np.float32(1 - 4 * EPSILON * (bank.shape[1] + AXES))
        bounds, self.norms = self.bound(bank)
        short = -len(bank) % GROUP
        self.norms = np.append(self.norms, np.full(short, np.inf, np.float32))  # rows that are never near
        self.norms *= self._sure
        self.bounds = -2 * np.ascontiguousarray(np.pad(bounds, ((0, short), (0, 0))).T)  # as |q' - x'|^2 has it

    @property
    def coordinates(self) -> np.ndarray:
        """(B, A + 1) of the bank's rows, as `bound` has them, row by row in memory."""
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
            squared: to be filled.
            indices: to be filled; has rows to start from, or -1.
            rows: those to look at, beside the ones to start from; all if not given. From a multiple of GROUP on.
        """
        if not len(queries):
            return
        bounds, norms = self.bound(queries)
        norms *= self._sure
        nearby = np.arange(squared.shape[1])
        begin, end, _ = (rows or slice(None)).indices(len(self.norms))
        # Made once: fresh memory would cost more than the product.
        scratch = np.empty(min(QUERIES, len(queries)) * min(ROWS, end - begin), np.float32)
        for low in range(0, len(queries), QUERIES):
            part = slice(low, low + QUERIES)
            for first in range(begin, end, ROWS):
                some = slice(first, min(first + ROWS, end))
                shape = len(bounds[part]), len(self.norms[some])
                dots = np.matmul(bounds[part], self.bounds[:, some], out=scratch[: shape[0] * shape[1]].reshape(shape))
                _settle(dots, norms[part], self.norms[some], first, first == begin, queries[part], self.bank, nearby,
                        squared[part], indices[part])  # fmt: skip


@jit()
def _near(dots, norms, limit):  # type: ignore[no-untyped-def]
    """How many rows have |x'|^2 - 2 q'x' of at most `limit`; counted, which is quicker than to find the smallest."""
    count = np.int32(0)
    for j in range(len(dots)):
        count += np.int32(norms[j] + dots[j] <= limit)
    return count


@jit()
def insert(values, rows, value, row):  # type: ignore[no-untyped-def]
    """Put a row in its place by (value, row), unless it is there or belongs behind all; the last one drops out."""
    place = len(values) - 1
    if value > values[place] or (value == values[place] and row >= rows[place]):
        return
    for known in rows:
        if known == row:
            return
    while place > 0 and (values[place - 1] > value or (values[place - 1] == value and rows[place - 1] > row)):
        values[place], rows[place] = values[place - 1], rows[place - 1]
        place -= 1
    values[place], rows[place] = value, row


@jit()
def _settle(dots, own, norms, first, start, queries, bank, nearby, squared, indices):  # type: ignore[no-untyped-def]
    """Bring the neighbours of some queries up to date with the bank's rows from `first` on; `dots` are -2 q'x'.

    `nearby` are rows to start a query from, beside those in `indices`, if this is to `start` with; it leaves with those
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
    """Bring neighbours (Q, K) up to date with those found among other rows."""
    for q in range(len(squared)):
        for i in range(others.shape[1]):
            insert(squared[q], indices[q], others_squared[q, i], others[q, i])


@jit()
def refine(queries, codes, centroids, norms, found, squared, indices):  # type: ignore[no-untyped-def]
    """Fill `squared` and `indices` with the rows of `found` that lie nearest once they are decompressed.

    A distance is the sum over the parts of that to their centroids, so each of those is computed once a query.
    `centroids` (M, W, 16); of rows of a length x that stands for one, |q - row / x|^2 = (|q - row|^2 - (1 - x)^2) / x.
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
        for i in found[q]:
            low, high = np.float32(0), np.float32(0)
            for byte in range(codes.shape[1]):
                low += table[2 * byte, codes[i, byte] & 15]
                high += table[2 * byte + 1, codes[i, byte] >> 4]
            insert(values, rows, (low + high - (1 - norms[i]) ** 2) / norms[i], i)
