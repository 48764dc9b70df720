"""Greedy k-center (farthest-point) selection of a coreset, exact and lazy; in chunks if memory is short.

Notation: M points of D dimensions, K picks. The key of a point is its squared distance to its nearest pick.

Plain farthest-point sampling updates all M keys after each pick, K * M distances from memory. Here a key is updated
only when its point is in the top levels of a heap: keys only shrink, so a point below them cannot be the next pick,
even with an outdated key. An update compares the point with all picks since its last update. Most of these are excluded
by their distance in the plane of `PLANE` main axes, which is never larger than the true one.

Floats: float32 excludes points, with a margin for its rounding; float64, summed in the order of the dimensions,
decides. So the picks are exactly those of the plain algorithm in float64, ties to the lowest index, on any machine.
"""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from adshift.errors import AdshiftError
from adshift.runtime.parallel import progress, thread_count
from adshift.search.kernels import exact, jit, main_axes, rough

PLANE = 16  # main axes by which picks are excluded
POOL = 1023  # points updated together: the upper levels of the heap

LOOSE = 1.001  # factor on float32 distances that covers their rounding, up to D = 16000
EPSILON = float(np.finfo(np.float32).eps)
TAKEN = -1.0  # key of a pick: below all others
SPARE = 2  # candidates of a chunk for the final selection, as a multiple of its share of the picks


@dataclass(frozen=True)
class Coreset:
    """A selection. It is nested: its first k picks are the selection of k.

    Attributes:
        indices: (K,) int64, in the order of picking, unique.
        radii: (K,) float64; `radii[k]` is the covering radius of the first k + 1 picks, the largest distance of a point
            to its nearest pick; if the points came in chunks, an upper bound of it.
        seconds: (K,) float64, when each pick was made, from the start of the selection.
    """

    indices: np.ndarray
    radii: np.ndarray
    seconds: np.ndarray

    def __getitem__(self, part: slice) -> "Coreset":
        return Coreset(self.indices[part], self.radii[part], self.seconds[part])


def size_of(ratio: float, total: int) -> int:
    """Picks for a ratio of `total` points, rounded down.

    Raises:
        AdshiftError: the ratio selects nothing.
    """
    count = int(ratio * total + 1e-9)  # 0.07 * 100 is 7.000000000000001, 0.29 * 100 is 28.999999999999996
    if count < 1:
        raise AdshiftError(f"a coreset ratio of {ratio} selects nothing of {total} patches", "raise patchcore.coreset")
    return min(count, total)


def projection(dimensions: int, target: int, generator: np.random.Generator) -> np.ndarray:
    """Gaussian random projection (Johnson and Lindenstrauss), (dimensions, target) float32: `points @ projection`."""
    return (generator.standard_normal((dimensions, target)) / np.sqrt(target)).astype(np.float32)


def greedy(points: np.ndarray, count: int, start: int) -> Coreset:
    """Farthest-point sampling: each pick is the point farthest from all picks so far, ties to the lowest index.

    Beside the points it holds 16 bytes a point and 4 * PLANE a pick.

    Args:
        points: (M, D) float32, finite.
        count: picks, 1 to M.
        start: index of the first pick.

    Raises:
        ValueError: points, count or start are not as said above.
    """
    begin = time.perf_counter()
    points = np.ascontiguousarray(points, dtype=np.float32)
    if not (1 <= count <= len(points) < 2**31 and 0 <= start < len(points)):
        raise ValueError(f"{count} picks of {len(points)} points from {start}")
    state = _State.of(points, count)
    slack = _begin(state, start)
    if not np.isfinite(slack):
        raise ValueError("a point is not finite")
    seconds = np.zeros(count)
    for pick in progress(_rounds(state, slack), what="coreset", total=count, unit="pick"):
        seconds[pick - 1] = time.perf_counter() - begin
    return Coreset(state.picks, np.sqrt(state.radii), seconds)


def greedy_in_chunks(chunks: Iterable[np.ndarray], total: int, count: int, start: int) -> Coreset:
    """Farthest-point sampling of points that come in chunks: of each chunk `SPARE` times its share, then of all those.

    A point is at most as far from a pick as it is from its chunk's nearest candidate and that one from a pick: `radii`
    holds the sum of both radii. As many candidates as picks from each chunk would make it a composable coreset, within
    a constant factor of the exact selection whatever the points; a share of them is what memory is bounded by, and
    relies on chunks that are alike, as images of one class are. One chunk gives what `greedy` does.

    Args:
        chunks: (M_i, D) float32, finite. Only the candidates of a chunk are kept when the next one is read,
            SPARE * count rows of all chunks.
        total: points of all chunks.
        count: picks, 1 to `total`.
        start: index of the first pick among all points.

    Raises:
        ValueError: points, count or start are not as said above.
    """
    begin = time.perf_counter()
    low, radius, rows, candidates = 0, 0.0, [], []
    size = 0
    for chunk in chunks:
        size = size or len(chunk)
        share = count if len(chunk) == total else -(-SPARE * count * len(chunk) // total)
        inside = low <= start < low + len(chunk)
        # The start in the chunk that contains it; an arbitrary point in all others.
        selected = greedy(chunk, min(share, len(chunk)), start - low if inside else start % size % len(chunk))
        if len(chunk) == total:
            return selected
        radius = max(radius, selected.radii[-1])
        picks = np.sort(selected.indices)  # so that ties go to the lowest index among all points
        rows.append(picks + low)
        candidates.append(chunk[picks])
        low += len(chunk)
    if low != total:
        raise ValueError(f"chunks of {low} points, not {total}")
    indices = np.concatenate(rows)
    spent = time.perf_counter() - begin
    points = np.concatenate(candidates)
    del chunk, candidates  # one copy of the candidates is enough
    selected = greedy(points, count, int(np.searchsorted(indices, start)))
    return Coreset(indices[selected.indices], selected.radii + radius, selected.seconds + spent)


def _rounds(state: "_State", slack: float) -> Iterator[int]:
    """Picks, in bursts."""
    threads = thread_count()
    done = 1
    with ThreadPoolExecutor(threads) as pool:
        while done <= len(state.picks):
            list(pool.map(lambda share: _update_top(state, slack, share, threads, done), range(threads)))  # noqa: B023
            last, done = done, _pick(state, done)
            yield from range(last, done)


def covering_radius(points: np.ndarray, picks: np.ndarray) -> float:
    """Largest distance of `points` (M, D) to the nearest of `picks` (K, D)."""
    from adshift.search.neighbors import Neighbors

    bank = Neighbors(picks)
    return max(float(bank.search(points[low : low + 4096], 1)[0].max()) for low in range(0, len(points), 4096))


class _State(NamedTuple):
    """What the kernels share."""

    points: np.ndarray  # (M, D)
    axes: np.ndarray  # (PLANE, D)
    heap: np.ndarray  # (M,) indices of points; by `keys` a heap, parent before child
    keys: np.ndarray  # (M,) float64, in the heap's order
    seen: np.ndarray  # (M,) number of picks that a point's key includes, in the points' order
    picks: np.ndarray  # (K,)
    planes: np.ndarray  # (PLANE, K), the picks in the plane
    radii: np.ndarray  # (K,), squared

    @classmethod
    def of(cls, points: np.ndarray, count: int) -> "_State":
        total, axes = len(points), main_axes(points, PLANE)
        return cls(points, axes, np.arange(total, dtype=np.int32), np.empty(total), np.ones(total, np.int32),
                   np.empty(count, np.int64), np.empty((len(axes), count), np.float32), np.empty(count))  # fmt: skip


@jit(fastmath=True)
def _dot(a, b):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for d in range(a.shape[0]):
        total += a[d] * b[d]
    return total


@jit()
def _above(key, i, other, j):  # type: ignore[no-untyped-def]
    """Whether point i is picked before point j: farther, or as far and of lower index."""
    return key > other or (key == other and i < j)


@jit()
def _sink(state, node):  # type: ignore[no-untyped-def]
    """Move a point of the heap down until none of its children is above it."""
    keys, heap = state.keys, state.heap
    key, point = keys[node], heap[node]
    while 2 * node + 1 < len(heap):
        child = 2 * node + 1
        if child + 1 < len(heap) and _above(keys[child + 1], heap[child + 1], keys[child], heap[child]):
            child += 1
        if not _above(keys[child], heap[child], key, point):
            break
        keys[node], heap[node] = keys[child], heap[child]
        node = child
    keys[node], heap[node] = key, point


@jit()
def _begin(state, start):  # type: ignore[no-untyped-def]
    """The first pick; returns a bound on the error of a distance in the plane."""
    first = state.points[start]
    for i in range(len(state.points)):
        state.keys[i] = exact(state.points[i], first)
    # A projection in float32 errs by less than D * eps * |x|, and |x| <= |x - start| + |start|.
    norm = np.sqrt(state.keys.max()) + np.sqrt(exact(first, np.zeros_like(first)))
    _take(state, start, 0)
    for node in range(len(state.heap) // 2, -1, -1):
        _sink(state, node)
    return 4 * EPSILON * len(first) * norm


@jit()
def _take(state, node, done):  # type: ignore[no-untyped-def]
    """Make the point at a node of the heap the pick with index `done`."""
    i = state.heap[node]
    state.picks[done] = i
    state.keys[node], state.seen[i] = TAKEN, len(state.picks)
    for axis in range(len(state.axes)):
        state.planes[axis, done] = _dot(state.axes[axis], state.points[i])


@jit()
def _update_top(state, slack, share, shares, done):  # type: ignore[no-untyped-def]
    """Update every `shares`-th key of the heap's top levels, from `share` on, with all picks so far."""
    bounds = np.empty(done, dtype=np.float32)
    for node in range(share, min(POOL, len(state.heap)), shares):
        i = state.heap[node]
        if state.seen[i] < done:
            state.keys[node] = _updated(state, slack, i, state.keys[node], bounds[state.seen[i] :])
            state.seen[i] = done


@jit()
def _updated(state, slack, i, key, bounds):  # type: ignore[no-untyped-def]
    """The key of point i, updated with the picks that it has not seen; `bounds` is scratch, one value a pick."""
    first, done = state.seen[i], state.seen[i] + len(bounds)
    point, picks = state.points[i], state.picks[first:done]
    bounds[:] = 0
    for axis in range(len(state.axes)):
        coordinate, others = _dot(state.axes[axis], point), state.planes[axis, first:done]
        for j in range(len(bounds)):
            step = coordinate - others[j]
            bounds[j] += step * step
    near, limit = _limits(key, slack)
    for j in range(len(bounds)):
        if bounds[j] <= limit and rough(point, state.points[picks[j]]) <= near:
            squared = exact(point, state.points[picks[j]])
            if squared < key:
                key = squared
                near, limit = _limits(key, slack)
    return key


@jit()
def _limits(key, slack):  # type: ignore[no-untyped-def]
    """Largest squared float32 distances, in full and in the plane, of a point that may be nearer than `key`."""
    near = np.sqrt(key) * LOOSE
    return np.float32(near**2), np.float32((near + slack) ** 2)


@jit()
def _pick(state, done):  # type: ignore[no-untyped-def]
    """Pick from the updated top levels of the heap while no point below can be farther; returns the number of picks."""
    keys, heap, points = state.keys, state.heap, state.points
    top = min(POOL, len(heap))
    below = -1  # the farthest point of the next level, and so of all levels below
    for node in range(top, min(2 * top + 1, len(heap))):
        if below < 0 or _above(keys[node], heap[node], keys[below], heap[below]):
            below = node
    while True:
        best = 0
        for node in range(1, top):
            if _above(keys[node], heap[node], keys[best], heap[best]):
                best = node
        if below >= 0 and _above(keys[below], heap[below], keys[best], heap[best]):
            break
        state.radii[done - 1] = max(keys[best], 0.0)
        if done == len(state.picks):
            return done + 1
        pick = heap[best]
        _take(state, best, done)
        done += 1
        for node in range(top):
            i = heap[node]
            if state.seen[i] < done:
                if rough(points[i], points[pick]) <= _limits(keys[node], 0.0)[0]:
                    keys[node] = min(keys[node], exact(points[i], points[pick]))
                state.seen[i] = done
    for node in range(top - 1, -1, -1):
        _sink(state, node)
    return done
