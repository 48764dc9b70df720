"""The three pictures of the sample set: a nut, a carpet and a zipper, whole or with one defect.

A scene takes the random generator and a defect's name (`good` for none) and returns the picture, (SIZE, SIZE, 3)
float32 on [0, 1], and the map of the defect: a pixel of which it covers at least half belongs to the mask.
Lengths are in pixels, angles in radians; a pair is a range to draw from.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from adshift.data.datasets.drawing import (
    SIZE,
    Color,
    Point,
    X,
    Y,
    box,
    clouds,
    cover,
    disc,
    line,
    paint,
    photograph,
    plain,
    sample,
    scale,
    texture,
    turn,
    walk,
)

Picture = tuple[np.ndarray, np.ndarray]
Range = tuple[float, float]
Brush = Callable[[np.random.Generator, np.ndarray, Point], Picture]

CENTRE = SIZE / 2
FAINTNESS = 3  # a fifth of the defects shows less than half of its range, one in twenty less than a seventh
NOTHING = np.zeros((SIZE, SIZE), dtype=np.float32)


def visible(rng: np.random.Generator, amount: Range) -> float:
    """How much of a defect shows: most show nearly the upper bound of `amount`, few are faint."""
    low, high = amount
    return high - (high - low) * rng.random() ** FAINTNESS


@dataclass(frozen=True)
class Stroke:
    """A defect drawn as a line: a crack, a cut, a wire, a thread.

    Attributes:
        color: of the line.
        amount: how much of it shows, on [0, 1] (`visible`).
        length, width: of the line.
        jag, drift: how crooked and how curved it is (`drawing.walk`).
        halo: how much darker the ground is beside it; negative for lighter.
    """

    color: Color
    amount: Range
    length: Range
    width: Range
    jag: float = 0.05
    drift: float = 0.05
    halo: float = 0.0

    def __call__(self, rng: np.random.Generator, image: np.ndarray, at: Point) -> Picture:
        shape = line(walk(rng, at, rng.uniform(*self.length), self.jag, self.drift), rng.uniform(*self.width))
        ground = scale(image, 1 - self.halo * cover(shape - 1.5, 3))
        return paint(ground, self.color, visible(rng, self.amount) * cover(shape)), cover(shape - 0.7)


@dataclass(frozen=True)
class Spot:
    """A defect drawn as a blot of `color`: a hole, a stain, mould.

    Attributes:
        color: of the blot.
        amount: how much of it shows, on [0, 1] (`visible`).
        radius: of the blot.
        rough: how far its outline strays.
        edge: how soft its outline is.
        grain: contrast of its own texture.
    """

    color: Color
    amount: Range
    radius: Range
    rough: float
    edge: float = 4.0
    grain: float = 0.0

    def __call__(self, rng: np.random.Generator, image: np.ndarray, at: Point) -> Picture:
        radius = rng.uniform(*self.radius)
        shape = disc(at, radius) + self.rough * clouds(rng, max(0.7 * radius, 4))
        color = plain(self.color, 1 + self.grain * texture("gravel", rng, 0.5)) if self.grain else self.color
        return paint(image, color, visible(rng, self.amount) * cover(shape, self.edge)), cover(shape)


# Normal in small numbers at any place: hard on a model of each position, easy on a memory of patches.
SCAR = Spot((0.22, 0.13, 0.08), (0.3, 0.6), radius=(2, 4.5), rough=1, edge=2)
NEP = Spot((0.74, 0.73, 0.7), (0.3, 0.6), radius=(2, 4), rough=1, edge=2)
LINT = Stroke((0.75, 0.75, 0.75), (0.3, 0.6), length=(8, 20), width=(1.2, 2), drift=0.4)


def strewn(rng: np.random.Generator, image: np.ndarray, mark: Brush, mean: float = 1.5) -> np.ndarray:
    """`image` with about `mean` marks at random places."""
    for _ in range(rng.poisson(mean)):
        image, _ = mark(rng, image, (rng.uniform(0, SIZE), rng.uniform(0, SIZE)))
    return image


NUT_DEFECTS: dict[str, Brush] = {
    "crack": Stroke((0.05, 0.03, 0.02), (0.2, 1), length=(65, 105), width=(6, 11), jag=0.5, drift=0.12, halo=-0.6),
    "cut": Stroke((0.95, 0.85, 0.7), (0.2, 1), length=(55, 85), width=(6, 11)),
    "hole": Spot((0.03, 0.02, 0.02), (0.2, 1), radius=(11, 18), rough=1.5, edge=2),
    "mould": Spot((0.8, 0.84, 0.78), (0.15, 0.95), radius=(16, 28), rough=5, grain=0.25),
    "paint": Spot((0.3, 0.55, 0.85), (0.15, 0.95), radius=(15, 26), rough=4, edge=2),
}


def hazelnut(rng: np.random.Generator, defect: str) -> Picture:
    """A nut on a dark ground, turned at random: an egg with fibres from tip to base and a pale, rough base."""
    centre = CENTRE + rng.normal(0, 6), CENTRE + rng.normal(0, 6)
    long = rng.normal(88, 4)
    wide = long * rng.normal(0.85, 0.02)
    v, u = turn(Y, X, centre, rng.uniform(0, 2 * np.pi))
    v, u = v / long, u / wide / (1 - 0.13 * v / long)
    radius = np.hypot(v, u) + 0.012 * clouds(rng, 48)
    body = cover((radius - 1) * wide, 1.5)

    longitude = u / np.sqrt(np.clip(1 - 0.8 * v**2, 0.1, 1))
    origin = rng.uniform(0, 500, 2)
    fibres = sample(photograph("grass"), origin[0] + 14 * v, origin[1] + 70 * longitude)
    shell = plain(rng.normal((0.53, 0.34, 0.19), 0.012), 1 + 0.11 * fibres + 0.05 * texture("gravel", rng, 0.6))
    base = cover((0.62 - v + 0.05 * clouds(rng, 24)) * 40, 8)
    shell = paint(shell, plain((0.66, 0.52, 0.36), 1 + 0.16 * texture("gravel", rng, 0.5)), 0.8 * base)
    shell, changed = strewn(rng, shell, SCAR), NOTHING
    if defect in NUT_DEFECTS:
        at = centre[0] + rng.uniform(-40, 40), centre[1] + rng.uniform(-40, 40)
        shell, changed = NUT_DEFECTS[defect](rng, shell, at)

    light = 0.45 + 0.55 * np.sqrt(np.clip(1 - radius**2, 0.02, 1)) - 0.12 * (Y + X - sum(centre)) / long * body
    ground = plain(rng.normal((0.13, 0.13, 0.13), 0.004), 1 + 0.05 * texture("grass", rng, 3) + 0.05 * clouds(rng, 60))
    shadow = cover((np.hypot((Y - centre[0] - 8), (X - centre[1] - 8)) - long), 24)
    return paint(scale(ground, 1 - 0.5 * shadow), scale(shell, light), body), changed * body


CARPET_DEFECTS: dict[str, Brush] = {
    "color": Spot((0.5, 0.12, 0.14), (0.1, 0.9), radius=(16, 28), rough=6),
    "cut": Stroke((0.05, 0.05, 0.05), (0.2, 1), length=(50, 95), width=(7, 12), drift=0.1),
    "hole": Spot((0.04, 0.04, 0.04), (0.3, 1), radius=(13, 21), rough=3, edge=2),
    "metal": Stroke((1.0, 1.0, 1.0), (0.2, 1), length=(55, 85), width=(7, 11), drift=0.25, halo=0.4),
    "thread": Stroke((0.05, 0.15, 0.75), (0.3, 1), length=(80, 125), width=(5, 9), drift=0.4, halo=0.3),
}


def carpet(rng: np.random.Generator, defect: str) -> Picture:
    """A grey carpet of loops, uneven and fuzzy: it looks the same at any place and turned by any angle."""
    at = rng.uniform(70, SIZE - 70), rng.uniform(70, SIZE - 70)
    loops = 0.14 * np.clip(clouds(rng, 5), -1.5, 1.5) + 0.1 * texture("gravel", rng, 0.7)
    image = plain(rng.normal((0.46, 0.45, 0.44), 0.01), 1 + loops + 0.04 * clouds(rng, 60))
    image = strewn(rng, image, NEP)
    draw = CARPET_DEFECTS.get(defect)
    return draw(rng, image, at) if draw else (image, NOTHING)


ZIPPER_DEFECTS = ("broken_teeth", "caught_thread", "fabric_border", "fabric_interior", "split_teeth")
PITCH = 22  # from a tooth to the next one on its side
CAUGHT = Stroke((0.85, 0.15, 0.1), (0.25, 1), length=(70, 110), width=(6, 10), drift=0.3, halo=0.3)
ABRASION = Spot((0.75, 0.74, 0.7), (0.2, 0.95), radius=(15, 24), rough=4, grain=0.2)


def zipper(rng: np.random.Generator, defect: str) -> Picture:
    """A closed zipper, upright, each tooth at its place: two interlocking rows on two tapes, on a pale table."""
    middle = CENTRE + rng.normal(0, 3)
    y, x = turn(Y, X, (CENTRE, middle), rng.normal(0, 0.03))
    along, side = rng.uniform(-60, 60), rng.choice((-1, 1))

    weave = 0.08 * np.sin(2 * np.pi * (y + np.abs(x)) / 8) + 0.08 * texture("grass", rng, 0.6) + 0.04 * clouds(rng, 50)
    cloth = plain(rng.normal((0.22, 0.23, 0.27), 0.005), 1 + weave)
    cloth, changed = strewn(rng, cloth, LINT), NOTHING
    if defect == "fabric_interior":
        cloth, changed = ABRASION(rng, cloth, (CENTRE + along, middle + side * 50))
    edge = 80 + rng.normal(0, 1)
    tape = cover(np.abs(x) - edge - 0.4 * clouds(rng, 40), 2)
    if defect == "fabric_border":
        torn = cover(np.hypot(y - along, x - side * edge) - rng.uniform(24, 34) + 4 * clouds(rng, 9), 2)
        gap = cover(texture("grass", rng, 0.8) - 0.6)  # between fibres that still hang there
        tape, changed = tape * (1 - torn * gap), tape * torn
    table = plain((0.62, 0.62, 0.62), 1 + 0.015 * texture("gravel", rng, 2) + 0.015 * clouds(rng, 60))
    image = scale(paint(table, cloth, tape), 1 - 0.45 * cover(np.abs(x) - 24, 14))

    opening, kept = 0 * y, 1 + 0 * y
    if defect == "split_teeth":
        opening = visible(rng, (5, 22)) * np.exp(-(((y - along) / rng.uniform(14, 22)) ** 2))
        changed = cover(np.maximum(np.abs(x) - 26, 2.5 - opening))
        image = paint(image, table, cover(np.abs(x) - 0.8 * opening))
    if defect == "broken_teeth":
        changed = cover(box(y - along, side * x - 16, rng.uniform(50, 95), 24, 4) + 2 * clouds(rng, 9), 2)
        image, kept = paint(image, table, changed), 1 - changed
    wear = 0.5 + 0.02 * texture("gravel", rng, 0.5)
    for half in (-1, 1):
        v = y + (PITCH / 2 if half > 0 else 0)
        v, u = v - PITCH * np.round(v / PITCH), half * x - 9 - opening
        shine = wear + 0.3 * np.exp(-(((v + 2) / 3) ** 2))
        image = paint(image, plain((0.95, 0.92, 0.8), shine), kept * cover(box(v, u, 13, 30, 4), 1.5))
    if defect == "caught_thread":
        image, changed = CAUGHT(rng, image, (CENTRE + along, middle + side * rng.uniform(0, 30)))
    return image, changed
