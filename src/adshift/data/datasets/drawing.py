"""Brushes for the generated sample set: photographs as textures, soft shapes, light.

All pictures are `SIZE` pixels square. `Y` and `X` are pixel coordinates, points are (y, x), shapes are signed distances
in pixels (negative inside), images are (SIZE, SIZE, 3) float32 RGB on [0, 1], and a map is (SIZE, SIZE) float32.
"""

from functools import cache
from math import ceil

import numpy as np

SIZE = 256
TAPS = 5  # knots that a pixel of `clouds` depends on; the weight of the next one is below 1e-5
Y, X = np.mgrid[:SIZE, :SIZE].astype(np.float32)

Point = tuple[float, float]
Color = tuple[float, float, float]


@cache
def photograph(name: str) -> np.ndarray:
    """A grey photograph that scikit-image ships in its wheel, (H, W) float32 of mean 0 and deviation 1."""
    from skimage import data

    grey = getattr(data, name)().astype(np.float32)
    return (grey - grey.mean()) / grey.std()


def sample(picture: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`picture` at fractional places, linear between pixels, mirrored at its edges."""
    from scipy.ndimage import map_coordinates

    return map_coordinates(picture, [y, x], order=1, mode="mirror")


def texture(name: str, rng: np.random.Generator, zoom: float, angle: float | None = None) -> np.ndarray:
    """A map cut from a photograph at a random place, `zoom` times enlarged, turned by `angle` or at random."""
    angle = rng.uniform(0, 2 * np.pi) if angle is None else angle
    y, x = turn(Y, X, (rng.uniform(0, 2000), rng.uniform(0, 2000)), angle)
    return sample(photograph(name), y / zoom, x / zoom)


def clouds(rng: np.random.Generator, size: float) -> np.ndarray:
    """A smooth random map of mean 0 and deviation 1, its blots about `size` pixels wide."""
    count, *spread = _spread(float(size))
    noise = rng.standard_normal((count, count), dtype=np.float32)
    return _smoothed(_smoothed(noise, *spread).T, *spread).T


@cache
def _spread(size: float) -> tuple[int, np.ndarray, np.ndarray]:
    """Number of knots, `size` pixels apart; of each pixel the nearest ones and their weights, (SIZE, TAPS) each."""
    count = ceil(SIZE / size) + 4
    position = np.arange(SIZE)[:, None] / size + TAPS // 2
    knots = np.rint(position).astype(int) + np.arange(TAPS) - TAPS // 2
    weights = np.where(knots < count, np.exp(-2 * (position - knots) ** 2), 0)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return count, np.minimum(knots, count - 1), weights.astype(np.float32)


def _smoothed(rows: np.ndarray, knots: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n, m) -> (SIZE, m). No matrix product: its rounding depends on the processor and the number of threads."""
    smoothed = np.zeros((len(knots), rows.shape[1]), dtype=np.float32)
    for tap in range(TAPS):
        smoothed += weights[:, tap, None] * rows[knots[:, tap]]
    return smoothed


def turn(y: np.ndarray, x: np.ndarray, centre: Point, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates seen from `centre` in a frame turned by `angle` (radians)."""
    dy, dx = y - centre[0], x - centre[1]
    return np.cos(angle) * dy - np.sin(angle) * dx, np.sin(angle) * dy + np.cos(angle) * dx


def disc(centre: Point, radius: float) -> np.ndarray:
    """A disc."""
    return np.hypot(Y - centre[0], X - centre[1]) - radius


def box(y: np.ndarray, x: np.ndarray, height: float, width: float, corner: float) -> np.ndarray:
    """A rounded rectangle about the origin of coordinates `y`, `x`, `height` by `width`."""
    dy, dx = np.abs(y) - height / 2 + corner, np.abs(x) - width / 2 + corner
    return np.hypot(np.maximum(dy, 0), np.maximum(dx, 0)) + np.minimum(np.maximum(dy, dx), 0) - corner


def line(points: np.ndarray, width: float) -> np.ndarray:
    """A polyline through (N, 2) `points`."""
    distance = np.full((SIZE, SIZE), np.inf, dtype=np.float32)
    for (y0, x0), (dy, dx) in zip(points[:-1].tolist(), np.diff(points, axis=0).tolist(), strict=True):
        along = np.clip(((Y - y0) * dy + (X - x0) * dx) / (dy * dy + dx * dx + 1e-6), 0, 1)
        distance = np.minimum(distance, np.hypot(Y - y0 - along * dy, X - x0 - along * dx))
    return distance - width / 2


def walk(rng: np.random.Generator, centre: Point, length: float, jag: float, drift: float) -> np.ndarray:
    """(N, 2) points of a path about `centre` in a random direction.

    Each step's direction is off by about `jag` radians on its own and by `drift` more than the step before.
    """
    steps = 12
    heading = rng.uniform(0, 2 * np.pi) + rng.normal(0, jag, steps) + np.cumsum(rng.normal(0, drift, steps))
    points = length / steps * np.cumsum(np.stack([np.sin(heading), np.cos(heading)], axis=1), axis=0)
    return points - points.mean(axis=0) + centre


def cover(shape: np.ndarray, softness: float = 1.0) -> np.ndarray:
    """Share of each pixel that a shape covers, its edge `softness` pixels wide."""
    return np.clip(0.5 - shape / softness, 0, 1)


def paint(image: np.ndarray, color: Color | np.ndarray, amount: np.ndarray) -> np.ndarray:
    """`image` with `color` laid over it, by `amount` (a map on [0, 1])."""
    return image + amount[..., None] * (np.asarray(color, dtype=np.float32) - image)


def scale(image: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """`image` made brighter or darker by the factor `amount` (a map)."""
    return image * amount[..., None]


def plain(color: Color | np.ndarray, shade: np.ndarray) -> np.ndarray:
    """An image of one color, made brighter or darker by the factor `shade` (a map)."""
    return np.asarray(color, dtype=np.float32) * shade[..., None]


def photographed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture as a camera takes it: exposure, white balance, uneven light, focus, sensor noise.

    Returns:
        (SIZE, SIZE, 3) uint8.
    """
    from scipy.ndimage import gaussian_filter

    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.15)
    slope = (np.sin(angle) * (Y - SIZE / 2) + np.cos(angle) * (X - SIZE / 2)) / (SIZE / 2)
    balance = rng.normal(1, 0.06) * rng.normal(1, 0.01, 3).astype(np.float32)
    sharp = gaussian_filter(image, rng.uniform(0.3, 0.7), axes=(0, 1), truncate=3)
    noise = np.float32(rng.uniform(0.004, 0.014)) * rng.standard_normal(image.shape, dtype=np.float32)
    noisy = scale(sharp * balance, 1 + fall * slope) + noise
    return np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
