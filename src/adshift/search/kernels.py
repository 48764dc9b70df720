"""Shared by coreset selection and exact search: compiled distances, and axes that bound them from below."""

from typing import Any

import numba
import numpy as np
from threadpoolctl import threadpool_limits

LEAST, MOST, SPARSE = 500, 4096, 50  # number of points that estimate the axes: every 50th point, within these limits


def main_axes(points: np.ndarray, count: int) -> np.ndarray:
    """Approximate main axes of the points, orthonormal: (min(count, D), D) float32.

    A distance along them is never larger than the true one, so it can exclude points. It decides nothing else, so a
    rough estimate by subspace iteration on a sample is enough.

    Args:
        points: (M, D) float32.
        count: axes asked for.
    """
    step = max(len(points) // MOST, min(len(points) // LEAST, SPARSE), 1)
    sample = points[::step]
    axes = np.random.default_rng(0).standard_normal((points.shape[1], min(count, points.shape[1])))
    with threadpool_limits(1), np.errstate(invalid="ignore"):  # the caller checks for values that are not finite
        sample = sample - sample.mean(axis=0)
        for _ in range(4):
            axes, _triangle = np.linalg.qr(sample.T @ (sample @ axes.astype(np.float32)))
    return np.ascontiguousarray(axes.T, dtype=np.float32)


def jit(**options: Any) -> Any:
    """Compile a kernel that releases the interpreter's lock, and cache it on disk."""
    return numba.njit(nogil=True, cache=True, error_model="numpy", **options)


@jit()
def exact(a, b):  # type: ignore[no-untyped-def]
    """Squared distance of two vectors in float64, summed in the order of the dimensions: the same on any machine."""
    total = 0.0
    for d in range(a.shape[0]):
        step = np.float64(a[d]) - np.float64(b[d])
        total += step * step
    return total


@jit(fastmath=True)
def rough(a, b):  # type: ignore[no-untyped-def]
    """Squared distance of two vectors in float32, summed in an order that suits the processor."""
    total = np.float32(0)
    for d in range(a.shape[0]):
        step = a[d] - b[d]
        total += step * step
    return total


@jit(fastmath=True)
def quadratic_forms(vectors, triangles, out):  # type: ignore[no-untyped-def]
    """x' A x of P symmetric matrices, in float32: `vectors` (P, N, D), `triangles` (P, D (D + 1) / 2), `out` (P, N).

    `triangles` are the upper ones, row by row, so half of the matrix is read, and every entry off the diagonal counts
    twice.
    """
    positions, count, dimensions = vectors.shape
    for p in range(positions):
        for n in range(count):
            vector, first, total = vectors[p, n], 0, np.float32(0)
            for i in range(dimensions):
                row, rest = triangles[p, first : first + dimensions - i], vector[i:]
                inner = np.float32(0)
                for j in range(1, dimensions - i):
                    inner += row[j] * rest[j]
                total += rest[0] * (row[0] * rest[0] + inner + inner)
                first += dimensions - i
            out[p, n] = total
