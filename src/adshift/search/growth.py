"""More rows for a coreset, from new points: k-center selection that starts from the rows that are there.

Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach" (2018), algorithm 1.
"""

from typing import NamedTuple

import numpy as np

from adshift.search.neighbors import Neighbors


class Growth(NamedTuple):
    """Points that were picked.

    Attributes:
        indices: (K,) int64, in the order of picking.
        radii: (K,) float64; `radii[k]` is the largest distance of a point to its nearest row after pick k.
    """

    indices: np.ndarray
    radii: np.ndarray


def growth(points: np.ndarray, rows: np.ndarray, radius: float, most: int | None = None) -> Growth:
    """Pick the point that is farthest from all rows and picks, until none is farther than `radius`.

    Args:
        points: (M, D) float32, finite.
        rows: (B, D) float32, of the coreset.
        radius: covering radius that is to be reached, such as the coreset's own.
        most: largest number of picks; None for no limit.
    """
    distances = Neighbors(rows).search(points, 1)[0][:, 0].astype(np.float64)
    far = np.flatnonzero(distances > radius)
    candidates, keys = points[far].astype(np.float64), distances[far] ** 2
    picks: list[int] = []
    radii: list[float] = []
    while len(picks) < (len(far) if most is None else most) and len(keys) and keys.max() > radius**2:
        pick = int(keys.argmax())
        keys = np.minimum(keys, ((candidates - candidates[pick]) ** 2).sum(1))
        picks.append(int(far[pick]))
        radii.append(float(np.sqrt(keys.max())))
    return Growth(np.array(picks, np.int64), np.array(radii))
