"""Means and covariances of many positions in one pass over images, merged batch by batch (Chan et al., 1983).

Notation: P positions, D channels, n images of a batch.
"""

from collections.abc import Iterable

import numpy as np

from adshift.runtime.parallel import map_ordered

TILE = 64  # positions per tile: temporary arrays fit into the processor's cache


def upper_triangles(matrices: np.ndarray) -> np.ndarray:
    """(N, D (D + 1) / 2): the upper triangles of matrices (N, D, D), row by row."""
    return np.ascontiguousarray(matrices[:, *np.triu_indices(matrices.shape[1])])


class Comoments:
    """Count, means and sums of products of deviations of P positions, merged batch by batch.

    Attributes:
        count: images seen.
        mean: (P, D) float64.
        products: (P, D, D) float64.
    """

    def __init__(self, positions: int, channels: int) -> None:
        self.count = 0
        self.mean = np.zeros((positions, channels))
        self.products = np.zeros((positions, channels, channels))

    @classmethod
    def of_inverses(cls, count: int, mean: np.ndarray, triangles: np.ndarray, regularisation: float) -> "Comoments":
        """What `count` images had left, from the means and from what `invert` wrote; float32 arrays."""
        moments, channels = cls(*mean.shape), mean.shape[1]
        moments.count, moments.mean = count, mean.astype(np.float64)
        upper = np.triu_indices(channels)

        def restore(tile: slice) -> None:
            inverse = np.empty((len(triangles[tile]), channels, channels))
            inverse[:, *upper] = inverse[:, *upper[::-1]] = triangles[tile]
            moments.products[tile] = (np.linalg.inv(inverse) - regularisation * np.eye(channels)) * (count - 1)

        map_ordered(restore, moments.tiles(), what="covariance", unit="tile")
        return moments

    def tiles(self) -> list[slice]:
        return [slice(start, start + TILE) for start in range(0, len(self.mean), TILE)]

    def add(self, batch: np.ndarray) -> None:
        """Add n images: (P, n, D)."""
        more = batch.shape[1]
        total = self.count + more

        def merge(tile: slice) -> None:
            rows = batch[tile].astype(np.float64)
            mean = rows.mean(1)
            delta = mean - self.mean[tile]
            # Both terms of the update in one product: the shift of the mean is one more row.
            shift = delta * np.sqrt(self.count * more / total)
            rows = np.concatenate([rows - mean[:, None], shift[:, None]], axis=1)
            self.products[tile] += rows.transpose(0, 2, 1) @ rows
            self.mean[tile] += delta * (more / total)

        map_ordered(merge, self.tiles(), what="covariance", unit="tile")
        self.count = total

    def invert(self, regularisation: float, into: np.ndarray) -> None:
        """Write the inverses of the regularized covariances as upper triangles, (P, D (D + 1) / 2), into an array."""
        ridge = regularisation * np.eye(self.mean.shape[1])

        def work(tile: slice) -> None:
            inverse = np.linalg.inv(self.covariance(tile) + ridge)
            into[tile] = upper_triangles((inverse + inverse.transpose(0, 2, 1)) / 2)

        map_ordered(work, self.tiles(), what="inverses", unit="tile")

    def covariance(self, tile: slice = slice(None)) -> np.ndarray:
        """Unbiased covariance of some positions: (p, D, D) float64."""
        return self.products[tile] / (self.count - 1)


def comoments(batches: Iterable[np.ndarray], positions: int, channels: int) -> Comoments:
    """The `Comoments` of all batches (P, n, D)."""
    total = Comoments(positions, channels)
    for batch in batches:
        total.add(batch)
    return total
