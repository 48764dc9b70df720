"""Bilinear enlargement, average pooling and Gaussian smoothing as small matrices.

Each operation is linear and separable, so on an H x W map it is `A @ map @ B.T`, and a chain of operations is one
product of matrices. It agrees with torch's interpolate(bilinear, align_corners=False), avg_pool2d and anomalib's
GaussianBlur2d to float32 rounding (tests/unit/detectors/test_resample.py).
"""

from functools import cache

import numpy as np

from adshift.data.shapes import Size, sides
from adshift.runtime.parallel import one_thread_below


@cache
def bilinear(size_in: int, size_out: int) -> np.ndarray:
    """(size_out, size_in) float32: linear interpolation between pixel centres, edges repeated."""
    return _linear((np.arange(size_out) + 0.5) * size_in / size_out - 0.5, size_in)


@cache
def cropped(grid: int, kept: int, content: float) -> np.ndarray:
    """(grid, kept) float32: stretches the first `content` of `grid` positions over all of them.

    Args:
        grid: positions of a map along one side.
        kept: number of positions without padding; no others are read.
        content: part of the side that shows the image, in positions.
    """
    return _linear((np.arange(grid) + 0.5) * content / grid - 0.5, kept)


def _linear(centre: np.ndarray, size_in: int) -> np.ndarray:
    """Linear interpolation at the positions `centre` of a row, edges repeated: (len(centre), size_in) float32."""
    centre = np.clip(centre, 0, size_in - 1)
    low = np.minimum(centre.astype(int), max(size_in - 2, 0))
    weight = centre - low
    matrix = np.zeros((len(centre), size_in))
    matrix[np.arange(len(centre)), low] = 1 - weight
    matrix[np.arange(len(centre)), np.minimum(low + 1, size_in - 1)] += weight
    return matrix.astype(np.float32)


@cache
def average_pool(size_in: int, window: int, stride: int) -> np.ndarray:
    """(size_out, size_in) float32: mean of `window` neighbours, zeros beyond the edge counted, as PatchCore does."""
    starts = np.arange(0, size_in + 2 * (window // 2) - window + 1, stride) - window // 2
    offset = np.arange(size_in)[None] - starts[:, None]
    return ((offset >= 0) & (offset < window)).astype(np.float32) / window


@cache
def gaussian(size: int, sigma: float) -> np.ndarray:
    """(size, size) float32: Gaussian of `sigma` pixels, cut at 4 sigma, mirrored at the edge pixels."""
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return np.eye(size, dtype=np.float32)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    source = np.arange(size)[:, None] + np.arange(-radius, radius + 1)[None]
    period = max(2 * (size - 1), 1)
    source = np.abs((source + size - 1) % period - (size - 1)) if size > 1 else np.zeros_like(source)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], source), kernel / kernel.sum())
    return matrix.astype(np.float32)


def enlarge(maps: np.ndarray, size: Size, smoothing: float) -> np.ndarray:
    """Anomaly maps (N, h, w) at the network's input size, smoothed: (N, height, width) float32.

    It runs on one thread: such small products gain little from two, and if NumPy was loaded before this package,
    OpenBLAS's threads would block the cores for the next image's network for 25 ms.
    """
    with one_thread_below():
        rows, columns = (enlargement(*both, smoothing) for both in zip(maps.shape[1:], sides(size), strict=True))
        return rows @ maps.astype(np.float32) @ columns.T


@cache
def enlargement(positions: int, side: int, smoothing: float) -> np.ndarray:
    """(side, positions) float32: the matrix that enlarges and smooths the rows of a map, or its columns."""
    with one_thread_below():
        return gaussian(side, float(smoothing)) @ bilinear(positions, side)
