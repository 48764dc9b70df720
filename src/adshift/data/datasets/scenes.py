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
NOTHING = np.zeros((SIZE, SIZE), dtype=np.float32)


@dataclass(frozen=True)
class Stroke:
    """A defect drawn as a line: a crack, a cut, a wire, a thread.

    Attributes:
        color: of the line.
        amount: how much of it shows, on [0, 1].
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
        return paint(ground, self.color, rng.uniform(*self.amount) * cover(shape)), cover(shape - 0.7)


@dataclass(frozen=True)
class Spot:
    """A defect drawn as a blot of `color`: a hole, a stain, mould. `rough` is how far its outline strays."""

    color: Color
    amount: Range
    radius: Range
    rough: float
    edge: float = 4.0

    def __call__(self, rng: np.random.Generator, image: np.ndarray, at: Point) -> Picture:
        radius = rng.uniform(*self.radius)
        shape = disc(at, radius) + self.rough * clouds(rng, max(0.7 * radius, 4))
        return paint(image, self.color, rng.uniform(*self.amount) * cover(shape, self.edge)), cover(shape)


# Normal in small numbers at any place: hard on a model of each position, easy on a memory of patches.
SCAR = Spot((0.22, 0.13, 0.08), (0.5, 0.85), radius=(2, 4.5), rough=1, edge=2)
NEP = Spot((0.74, 0.73, 0.7), (0.5, 0.9), radius=(2, 4), rough=1, edge=2)
LINT = Stroke((0.75, 0.75, 0.75), (0.5, 0.9), length=(8, 20), width=(1.2, 2), drift=0.4)


def strewn(rng: np.random.Generator, image: np.ndarray, mark: Brush, mean: float = 3.0) -> np.ndarray:
    """`image` with about `mean` marks at random places."""
    for _ in range(rng.poisson(mean)):
        image, _ = mark(rng, image, (rng.uniform(0, SIZE), rng.uniform(0, SIZE)))
    return image


NUT_DEFECTS: dict[str, Brush] = {
    "crack": Stroke((0.12, 0.07, 0.04), (0.6, 0.95), length=(40, 90), width=(1.2, 3), jag=0.5, drift=0.12, halo=-0.2),
    "cut": Stroke((0.8, 0.66, 0.5), (0.5, 0.9), length=(30, 60), width=(1.5, 2.8)),
    "hole": Spot((0.07, 0.04, 0.03), (0.85, 0.95), radius=(3, 7), rough=0.8, edge=2),
    "mould": Spot((0.6, 0.62, 0.52), (0.2, 0.45), radius=(10, 18), rough=4),
    "stain": Spot((0.16, 0.09, 0.05), (0.3, 0.6), radius=(11, 20), rough=4),
}


def hazelnut(rng: np.random.Generator, defect: str) -> Picture:
    """A nut on a dark ground: an egg with fibres from tip to base and a pale, rough base."""
    centre = CENTRE + rng.normal(0, 5), CENTRE + rng.normal(0, 5)
    long, wide = rng.normal(95, 3), rng.normal(81, 3)
    v, u = turn(Y, X, centre, rng.uniform(-0.6, 0.6))
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
        at = centre[0] + rng.uniform(-50, 50), centre[1] + rng.uniform(-45, 45)
        shell, changed = NUT_DEFECTS[defect](rng, shell, at)

    light = 0.45 + 0.55 * np.sqrt(np.clip(1 - radius**2, 0.02, 1)) - 0.12 * (v + u) * body
    ground = plain(rng.normal((0.13, 0.13, 0.13), 0.004), 1 + 0.05 * texture("grass", rng, 3) + 0.05 * clouds(rng, 60))
    shadow = cover((np.hypot((Y - centre[0] - 8) / long, (X - centre[1] - 8) / wide) - 1) * wide, 24)
    return paint(scale(ground, 1 - 0.5 * shadow), scale(shell, light), body), changed * body


CARPET_DEFECTS: dict[str, Brush | None] = {
    "color": Spot((0.42, 0.24, 0.2), (0.1, 0.4), radius=(12, 24), rough=5),
    "cut": Stroke((0.12, 0.12, 0.12), (0.4, 0.85), length=(25, 60), width=(1.5, 3.5)),
    "metal": Stroke((0.85, 0.86, 0.9), (0.35, 0.8), length=(18, 45), width=(1.2, 2.5), drift=0.25),
    "thread": Stroke((0.6, 0.58, 0.55), (0.4, 0.8), length=(40, 90), width=(1.6, 3), drift=0.45, halo=0.3),
    "pulled": None,  # drawn in the weave itself
}


def carpet(rng: np.random.Generator, defect: str) -> Picture:
    """A grey twill: threads over and under each other, uneven and fuzzy."""
    at = rng.uniform(40, SIZE - 40), rng.uniform(40, SIZE - 40)
    y, x = turn(Y, X, (rng.uniform(0, 99), rng.uniform(0, 99)), rng.normal(0, 0.03))
    y, x = y + 0.8 * clouds(rng, 40), x + 0.8 * clouds(rng, 40)
    changed = NOTHING
    if defect == "pulled":
        changed = cover(disc(at, rng.uniform(12, 22)) + 3 * clouds(rng, 16), 6)
        y = y + rng.uniform(2, 4) * changed
        x = x + rng.uniform(1.5, 4) * changed * np.sin((Y - at[0]) / 6)
    crossing = np.sin(2 * np.pi * x / 9) * np.sin(2 * np.pi * y / 9)
    twill = np.cos(2 * np.pi * (x + y) / 18)
    fuzz = 0.07 * texture("grass", rng, 0.7) + 0.03 * clouds(rng, 60)
    image = plain(rng.normal((0.46, 0.45, 0.44), 0.008), 1 + 0.2 * np.tanh(2 * crossing) + 0.1 * twill + fuzz)
    image = strewn(rng, image, NEP)
    draw = CARPET_DEFECTS.get(defect)
    return draw(rng, image, at) if draw else (image, changed)


ZIPPER_DEFECTS = ("broken_teeth", "displaced_tooth", "fabric_border", "fabric_interior", "split_teeth")
PITCH = 22  # from a tooth to the next one on its side
ABRASION = Spot((0.5, 0.5, 0.52), (0.2, 0.5), radius=(8, 16), rough=4)


def zipper(rng: np.random.Generator, defect: str) -> Picture:
    """A closed zipper, upright: two rows of interlocking teeth on two tapes, on a pale table."""
    middle = CENTRE + rng.normal(0, 4)
    y, x = turn(Y, X, (CENTRE, middle), rng.normal(0, 0.015))
    along, side = rng.uniform(-75, 75), rng.choice((-1, 1))

    weave = 0.08 * np.sin(2 * np.pi * (y + np.abs(x)) / 5) + 0.08 * texture("grass", rng, 0.4) + 0.04 * clouds(rng, 50)
    cloth = plain(rng.normal((0.22, 0.23, 0.27), 0.005), 1 + weave)
    cloth, changed = strewn(rng, cloth, LINT), NOTHING
    if defect == "fabric_interior":
        cloth, changed = ABRASION(rng, cloth, (CENTRE + along, middle + side * rng.uniform(45, 75)))
    edge = 98 + rng.normal(0, 1)
    tape = cover(np.abs(x) - edge - 0.4 * clouds(rng, 40), 2)
    if defect == "fabric_border":
        torn = cover(np.hypot(y - along, x - side * edge) - rng.uniform(9, 15) + 2 * clouds(rng, 9), 2)
        gap = cover(texture("grass", rng, 0.8) - 0.3)  # between fibres that still hang there
        tape, changed = tape * (1 - torn * gap), tape * torn
    table = plain((0.62, 0.62, 0.62), 1 + 0.015 * texture("gravel", rng, 2) + 0.015 * clouds(rng, 60))
    image = scale(paint(table, cloth, tape), 1 - 0.45 * cover(np.abs(x) - 24, 14))

    opening = 0 * y
    if defect == "split_teeth":
        opening = rng.uniform(5, 12) * np.exp(-(((y - along) / rng.uniform(20, 35)) ** 2))
        changed = cover(np.maximum(np.abs(x) - 26, 2.5 - opening))
    phase = rng.uniform(0, PITCH)
    for half in (-1, 1):
        v = y + phase + (PITCH / 2 if half > 0 else 0)
        row = np.round(v / PITCH)
        v, u = v - PITCH * row, half * x - 9 - opening
        struck = (row == round(along / PITCH)) & (half == side)
        slot = box(v, u, 15, 34, 3)
        if defect == "displaced_tooth":
            moved = turn(v, u, (rng.normal(0, 1.5), rng.uniform(4, 9)), rng.normal(0, 0.2))
            v, u = (np.where(struck, new, old) for new, old in zip(moved, (v, u), strict=True))
        tooth = box(v, u, 13, 30, 4)
        if defect == "broken_teeth":
            tooth = np.where(struck, box(v, u - 11, 13, 9, 3), tooth)
        if defect in ("broken_teeth", "displaced_tooth") and half == side:
            changed = cover(np.minimum(slot, box(v, u, 15, 34, 3))) * struck
        shine = 0.3 + 0.2 * np.exp(-(((v + 2) / 3) ** 2)) + 0.02 * texture("gravel", rng, 0.5)
        image = paint(image, plain((0.95, 0.97, 1.0), shine), cover(tooth, 1.5))
    return image, changed
