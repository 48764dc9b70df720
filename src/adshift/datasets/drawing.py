"""Brushes for the generated sample set: photographs as textures, soft shapes, light.

All pictures are `SIZE` pixels square. `Y` and `X` are pixel coordinates, points are (y, x), shapes are signed distances
in pixels (negative inside), images are (SIZE, SIZE, 3) float32 RGB on [0, 1], and a map is (SIZE, SIZE) float32.
"""

from functools import cache

import numpy as np

SIZE = 256
Y, X = np.mgrid[:SIZE, :SIZE].astype(np.float32)

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


def clouds(rng: np.random.Generator, scale: float) -> np.ndarray:
    """A smooth random map of deviation about 1, its blots about `scale` pixels wide."""
    from scipy.ndimage import zoom

    knots = int(np.ceil(SIZE / scale)) + 4
    fine = zoom(rng.standard_normal((knots, knots)).astype(np.float32), scale, order=3)
    return 1.4 * fine[int(scale) :, int(scale) :][:SIZE, :SIZE]


def turn(y: np.ndarray, x: np.ndarray, centre: tuple[float, float], angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates seen from `centre` in a frame turned by `angle` (radians)."""
    dy, dx = y - centre[0], x - centre[1]
    return np.cos(angle) * dy - np.sin(angle) * dx, np.sin(angle) * dy + np.cos(angle) * dx


def disc(centre: tuple[float, float], radius: float) -> np.ndarray:
    return np.hypot(Y - centre[0], X - centre[1]) - radius


def box(y: np.ndarray, x: np.ndarray, height: float, width: float, corner: float) -> np.ndarray:
    """A rounded rectangle about the origin of coordinates `y`, `x`, `height` by `width`."""
    dy, dx = np.abs(y) - height / 2 + corner, np.abs(x) - width / 2 + corner
    return np.hypot(np.maximum(dy, 0), np.maximum(dx, 0)) + np.minimum(np.maximum(dy, dx), 0) - corner


def line(points: np.ndarray, width: float) -> np.ndarray:
    """A polyline through (N, 2) `points`."""
    distance = np.full((SIZE, SIZE), np.inf, dtype=np.float32)
    for (y0, x0), (dy, dx) in zip(points[:-1], np.diff(points, axis=0), strict=True):
        along = np.clip(((Y - y0) * dy + (X - x0) * dx) / (dy * dy + dx * dx + 1e-6), 0, 1)
        distance = np.minimum(distance, np.hypot(Y - y0 - along * dy, X - x0 - along * dx))
    return distance - width / 2


def walk(rng: np.random.Generator, start: tuple[float, float], length: float, wander: float) -> np.ndarray:
    """(N, 2) points of a path from `start` in a random direction, which changes by about `wander` radians a step."""
    steps = 12
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, wander, steps))
    moves = length / steps * np.stack([np.sin(heading), np.cos(heading)], axis=1)
    points = np.cumsum(np.vstack([start, moves]), axis=0)
    return points + np.asarray(start) - points.mean(axis=0)  # centred on its start, so that it stays in the part


def cover(shape: np.ndarray, softness: float = 1.0) -> np.ndarray:
    """Share of each pixel that a shape covers, its edge `softness` pixels wide."""
    return np.clip(0.5 - shape / softness, 0, 1)


def paint(image: np.ndarray, color: Color | np.ndarray, amount: np.ndarray) -> np.ndarray:
    """`image` with `color` laid over it, by `amount` (a map on [0, 1])."""
    return image + amount[..., None] * (np.asarray(color, dtype=np.float32) - image)


def scale(image: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """`image` made brighter or darker by the factor `amount` (a map)."""
    return image * amount[..., None]


def photographed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture as a camera takes it: exposure, white balance, uneven light, sensor noise. (SIZE, SIZE, 3) uint8."""
    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.06)
    slope = (np.sin(angle) * (Y - SIZE / 2) + np.cos(angle) * (X - SIZE / 2)) / (SIZE / 2)
    lit = scale(image * rng.normal(1, 0.03) * rng.normal(1, 0.01, 3), 1 + fall * slope)
    noisy = lit + rng.normal(0, 0.008, image.shape)
    return np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
