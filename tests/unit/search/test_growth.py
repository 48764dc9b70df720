"""More rows for a coreset."""

import numpy as np
import pytest

from adshift.search.coreset import greedy
from adshift.search.growth import growth


def plain(points: np.ndarray, rows: np.ndarray, radius: float, most: int | None) -> tuple[list[int], list[float]]:
    """The picks by definition: all distances anew after each pick."""
    known, picks, radii = list(rows), [], []
    while most is None or len(picks) < most:
        distances = np.array([min(np.linalg.norm(point - row) for row in known) for point in points])
        if distances.max() <= radius:
            return picks, radii
        picks.append(int(distances.argmax()))
        known.append(points[picks[-1]])
        radii.append(max(min(np.linalg.norm(point - row) for row in known) for point in points))
    return picks, radii


@pytest.mark.parametrize("most", [None, 1, 4])
def test_picks_are_those_of_the_definition(most: int | None) -> None:
    rng = np.random.default_rng(3)
    rows, points = rng.normal(0, 1, (12, 5)).astype(np.float32), rng.normal(0.5, 1.5, (40, 5)).astype(np.float32)
    found, (picks, radii) = growth(points, rows, 2.0, most), plain(points, rows, 2.0, most)
    assert found.indices.tolist() == picks and len(picks) > 0
    # Points within the radius need no row, so their distances are left out of the product's radii.
    np.testing.assert_allclose(np.maximum(found.radii, 2.0), np.maximum(radii, 2.0), rtol=1e-5)


def test_points_that_the_coreset_covers_add_nothing() -> None:
    points = np.random.default_rng(1).normal(0, 1, (200, 6)).astype(np.float32)
    coreset = greedy(points, 20, 0)
    assert len(growth(points, points[coreset.indices], coreset.radii[-1] * 1.00001).indices) == 0
    assert len(growth(points + 3, points[coreset.indices], coreset.radii[-1] * 1.00001).indices) > 0
