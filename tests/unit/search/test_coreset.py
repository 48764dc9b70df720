"""Greedy selection against plain farthest-point sampling, written once more by the book in NumPy float64."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adshift.errors import AdshiftError
from adshift.search import coreset, kernels
from adshift.search.coreset import SPARE, Coreset, covering_radius, greedy, greedy_in_chunks, projection, size_of
from banks import clustered, plain


def assert_plain(points: np.ndarray, count: int, start: int) -> Coreset:
    selected = greedy(points, count, start)
    picks, radii = plain(points, count, start)
    np.testing.assert_array_equal(selected.indices, picks)
    np.testing.assert_array_equal(selected.radii, np.sqrt(radii))
    return selected


@pytest.mark.parametrize("dimensions", [1, 3, 16, 152])
@pytest.mark.parametrize("seed", [0, 1])
def test_picks_are_those_of_the_plain_algorithm(dimensions: int, seed: int) -> None:
    points = clustered(6000, dimensions, seed)  # several times POOL
    assert_plain(points, 300, 17)


def test_features_with_a_common_offset_far_from_the_origin() -> None:
    assert_plain(clustered(4000, 32) + np.float32(3000), 200, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 60), st.integers(0, 2**16))
def test_ties_go_to_the_lowest_index(dimensions: int, total: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    points = generator.integers(0, 3, (total, dimensions)).astype(np.float32)  # a grid: nothing but ties and duplicates
    assert_plain(points, int(generator.integers(1, total + 1)), int(generator.integers(total)))


def test_ties_across_the_levels_of_the_heap() -> None:
    points = np.random.default_rng(3).integers(0, 4, (9000, 4)).astype(np.float32)
    assert_plain(points, 400, 8999)


def test_indices_are_unique_of_the_asked_size_and_nested() -> None:
    points = np.repeat(clustered(500, 8), 3, axis=0)
    whole = assert_plain(points, len(points), 5)
    assert sorted(whole.indices) == list(range(len(points)))
    assert whole.radii[-1] == 0
    part = greedy(points, 40, 5)
    np.testing.assert_array_equal(part.indices, whole[:40].indices)
    np.testing.assert_array_equal(part.radii, whole[:40].radii)


def test_the_thread_count_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points = clustered(5000, 24)
    found = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("ADSHIFT_THREADS", threads)
        found.append(greedy(points, 250, 0))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].indices, other.indices)
        np.testing.assert_array_equal(found[0].radii, other.radii)


def test_the_start_is_the_first_pick_and_matters() -> None:
    points = clustered(300, 4)
    assert greedy(points, 5, 123).indices[0] == 123
    assert greedy(points, 5, 124).indices.tolist() != greedy(points, 5, 123).indices.tolist()


def test_the_radius_is_the_largest_distance_to_a_pick() -> None:
    points = clustered(2000, 12)
    selected = greedy(points, 100, 0)
    gaps = np.linalg.norm(points[:, None].astype(float) - points[selected.indices].astype(float), axis=2)
    np.testing.assert_allclose(selected.radii[-1], gaps.min(axis=1).max(), rtol=1e-12)
    np.testing.assert_allclose(covering_radius(points, points[selected.indices]), selected.radii[-1], rtol=1e-6)
    assert (np.diff(selected.radii) <= 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 70])
def test_a_point_that_is_not_finite_is_refused(bad: float, row: int) -> None:
    points = clustered(100, 4)
    points[row, 2] = bad
    with pytest.raises(ValueError, match="not finite"):
        greedy(points, 5, 0)


@pytest.mark.parametrize(("count", "start"), [(0, 0), (11, 0), (3, 10), (3, -1)])
def test_a_count_or_start_outside_is_refused(count: int, start: int) -> None:
    with pytest.raises(ValueError, match="picks of 10 points"):
        greedy(clustered(10, 2), count, start)


def test_memory_beside_the_points_stays_below_a_tenth() -> None:
    import tracemalloc

    points = clustered(40000, 152)
    greedy(points[:3000], 20, 0)  # compiled before it is measured
    tracemalloc.start()
    greedy(points, 200, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.1 * points.nbytes


@pytest.mark.parametrize(("ratio", "total", "count"), [(0.07, 100, 7), (0.29, 100, 29), (1.0, 5, 5), (0.05, 39, 1)])
def test_size_of_a_ratio(ratio: float, total: int, count: int) -> None:
    assert size_of(ratio, total) == count


def test_a_ratio_that_selects_nothing_is_refused() -> None:
    with pytest.raises(AdshiftError, match="selects nothing"):
        size_of(0.001, 999)


def test_a_projection_keeps_distances_about() -> None:
    points = clustered(200, 400)
    matrix = projection(400, 128, np.random.default_rng(0))
    assert matrix.shape == (400, 128)
    assert matrix.dtype == np.float32
    before = np.linalg.norm(points[:100] - points[100:], axis=1)
    after = np.linalg.norm((points @ matrix)[:100] - (points @ matrix)[100:], axis=1)
    assert abs((after / before).mean() - 1) < 0.03
    assert (np.abs(after / before - 1) < 0.35).all()


def test_float32_rules_out_only_what_float64_would() -> None:
    """Near-ties below float32's resolution: distances of 1 + k * 1e-7 from the start, decided in float64."""
    points = np.zeros((64, 2), dtype=np.float32)
    points[:, 0] = 1000
    points[1:, 0] += np.float32(1) + np.arange(63)[::-1].astype(np.float32) * np.float32(2**-13)
    points[1:, 1] = np.random.default_rng(0).normal(size=63).astype(np.float32) * np.float32(1e-4)
    assert_plain(points, 64, 0)


def test_constants_cover_the_rounding_of_wide_features() -> None:
    """The bound behind LOOSE: a float32 sum of D squares errs by less than D * eps / 2, relatively."""
    wide = clustered(50, 4096)
    rough = np.array([kernels.rough(wide[0], point) for point in wide])
    exactly = np.array([kernels.exact(wide[0], point) for point in wide])
    assert (np.abs(rough - exactly) <= exactly * 4096 * coreset.EPSILON / 2).all()
    assert 4096 * coreset.EPSILON / 2 < coreset.LOOSE - 1
    assert_plain(clustered(300, 4096), 60, 1)


def test_seconds_never_run_backwards_and_end_with_the_last_pick():
    chosen = coreset.greedy(np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32), 60, 3)
    assert len(chosen.seconds) == 60
    assert (np.diff(chosen.seconds) >= 0).all()
    assert chosen.seconds[-1] > 0


def chunks(points: np.ndarray, size: int) -> list[np.ndarray]:
    return [points[low : low + size] for low in range(0, len(points), size)]


@pytest.mark.parametrize("size", [3000, 10_000])
def test_one_chunk_is_the_plain_selection(size: int) -> None:
    points = clustered(3000, 24)
    found, expected = greedy_in_chunks(chunks(points, size), 3000, 200, 2999), greedy(points, 200, 2999)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.radii, expected.radii)


@pytest.mark.parametrize("size", [500, 1700])
@pytest.mark.parametrize("start", [0, 2500, 5999])
def test_chunks_cover_nearly_as_well_as_the_exact_selection(size: int, start: int) -> None:
    points = clustered(6000, 24, seed=2)
    exact, found = greedy(points, 300, start), greedy_in_chunks(chunks(points, size), 6000, 300, start)
    assert found.indices[0] == start
    assert len(set(found.indices.tolist())) == 300
    covered = covering_radius(points, points[found.indices])
    assert covered <= 1.5 * exact.radii[-1]
    assert covered <= found.radii[-1] * (1 + 1e-6)


def test_the_start_of_a_selection_in_chunks_covers_what_its_radius_says() -> None:
    points = clustered(4000, 16)
    found = greedy_in_chunks(chunks(points, 700), 4000, 250, 7)
    for count in (1, 50, 250):
        assert covering_radius(points, points[found.indices[:count]]) <= found.radii[count - 1] * (1 + 1e-6)
    assert (np.diff(found.radii) <= 0).all()
    assert (np.diff(found.seconds) >= 0).all()


def test_chunks_may_share_their_memory_and_give_all_that_is_asked_for() -> None:
    points, buffer = clustered(1000, 8), np.empty((300, 8), np.float32)

    def reused() -> Iterator[np.ndarray]:
        for part in chunks(points, 300):
            buffer[: len(part)] = part
            yield buffer[: len(part)]

    found = greedy_in_chunks(reused(), 1000, 1000, 950)
    assert sorted(found.indices) == list(range(1000))
    few, expected = (greedy_in_chunks(one, 1000, 90, 950) for one in (reused(), chunks(points, 300)))
    np.testing.assert_array_equal(few.indices, expected.indices)


def test_a_chunk_gives_its_share() -> None:
    """A chunk of points that are all far takes SPARE times its share, and not more."""
    points = clustered(1000, 8)
    points[:100] += 1000 * np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    found = greedy_in_chunks(chunks(points, 100), 1000, 100, 500)
    assert (found.indices < 100).sum() == SPARE * 100 * 100 // 1000


def test_chunks_of_another_total_are_refused() -> None:
    with pytest.raises(ValueError, match="chunks of 100 points, not 120"):
        greedy_in_chunks(chunks(clustered(100, 4), 30), 120, 5, 0)
