"""Exact nearest neighbours, faster than comparing with every row of the bank.

Notation: B rows of the bank, Q queries, D dimensions, K neighbours, A main axes of the bank.

With x' = (x along the A axes, length of the rest of x), |q' - x'| <= |q - x| (Cauchy-Schwarz on the
rests), and A + 1 numbers are quick to compare. Rows whose bound exceeds the K-th distance found so far are ruled out;
of the few others the distance itself is computed and decides. Queries are neighbours in an image, so each starts from
the rows that the one before it found.
"""

import numpy as np

from adshift.distances import jit, main_axes, rough

AXES = 63  # and the rest's length: the product of 64 columns is quick, and few rows are left
QUERIES, ROWS = 64, 16_384  # compared at once: what lies between stays in the processor's cache
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
def _insert(values, rows, value, row):  # type: ignore[no-untyped-def]
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
                _insert(values, rows, rough(queries[q], bank[row]), row)
        limit = values[k - 1] - own[q]
        for group in range(0, len(norms), GROUP):
            if _lowest(dots[q], norms, group) > limit:
                continue
            for j in range(group, group + GROUP):
                if norms[j] + dots[q, j] <= limit:
                    value, row = rough(queries[q], bank[first + j]), first + j
                    if value < values[k - 1] or (value == values[k - 1] and row < rows[k - 1]):
                        _insert(values, rows, value, row)
                        limit = values[k - 1] - own[q]
        nearby[:] = rows


@jit()
def measure(queries, bank, rows, squared):  # type: ignore[no-untyped-def]
    """Fill `squared` with the distances of queries to their rows."""
    for q in range(len(queries)):
        for rank in range(rows.shape[1]):
            squared[q, rank] = rough(queries[q], bank[rows[q, rank]])
