"""The generated sample set: a nut, a carpet and a zipper, made of real texture photographs and drawing.

In the spirit of MVTec AD's hazelnut (an object), carpet (a texture) and zipper (a structured mix), in its folder
layout. Normal images vary in pose, texture, colour and light; defects range from plain to hardly visible. Each image
depends on `SEED`, its class and its name alone, and this file and `drawing.py` are all that it is made from.

A painter takes the random generator and a defect's name (`good` for none) and returns the picture, (SIZE, SIZE, 3)
on [0, 1], and the map of the defect: what covers at least half of a pixel is in the mask.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from adshift import parallel
from adshift.datasets import Listing, mvtec
from adshift.datasets.drawing import (
    SIZE,
    X,
    Y,
    box,
    clouds,
    cover,
    disc,
    line,
    paint,
    photograph,
    photographed,
    sample,
    scale,
    texture,
    turn,
    walk,
)
from adshift.manifest import GOOD
from adshift.seeding import generator

LAYOUT = "the recipe, src/adshift/datasets/sample.py"
EMPTY_MASKS = False
SEED = 2024
TRAIN, TEST_GOOD, TEST_DEFECTIVE = 60, 20, 30  # images a class

Picture = tuple[np.ndarray, np.ndarray]
CENTRE = SIZE / 2


def hazelnut(rng: np.random.Generator, defect: str) -> Picture:
    """A nut on a dark ground: an egg with fibres from tip to base and a pale base."""
    centre = (CENTRE + rng.normal(0, 5), CENTRE + rng.normal(0, 5))
    v, u = turn(Y, X, centre, rng.uniform(-0.6, 0.6))
    long, wide = rng.normal(96, 3), rng.normal(82, 3)
    v, u = v / long, u / (wide * (1 - 0.13 * v / long))
    radius = np.hypot(v, u) + 0.012 * clouds(rng, 48)
    body = cover((radius - 1) * wide, 1.5)
    height = np.sqrt(np.clip(1 - radius**2, 0.02, 1))

    longitude = u / np.sqrt(np.clip(1 - 0.8 * v**2, 0.1, 1))
    place = rng.uniform(0, 500, 2)
    fibres = sample(photograph("grass"), place[0] + 14 * v, place[1] + 70 * longitude)
    mottle = texture("gravel", rng, 0.6)
    shell = scale(
        np.asarray(rng.normal((0.53, 0.34, 0.19), 0.012)) * np.ones((SIZE, SIZE, 1)), 1 + 0.11 * fibres + 0.05 * mottle
    )
    base = cover((0.62 - v + 0.05 * clouds(rng, 24)) * 40, 8)
    shell = paint(
        shell, scale(np.ones((SIZE, SIZE, 3)) * (0.66, 0.52, 0.36), 1 + 0.16 * texture("gravel", rng, 0.5)), 0.8 * base
    )

    where = (centre[0] + rng.uniform(-50, 50), centre[1] + rng.uniform(-45, 45))
    shell, changed = HAZELNUT[defect](rng, shell, where) if defect != GOOD else (shell, np.zeros((SIZE, SIZE)))
    light = 0.45 + 0.55 * height + 0.12 * (-v - u) * body
    ground = np.full((SIZE, SIZE, 3), rng.normal(0.13, 0.008)) * (1 + 0.1 * texture("moon", rng, 1.5))[..., None]
    shadow = cover((np.hypot((Y - centre[0] - 8) / long, (X - centre[1] - 8) / wide) - 1) * wide, 24)
    return paint(scale(ground, 1 - 0.5 * shadow), scale(shell, light), body), changed * body


def crack(rng: np.random.Generator, image: np.ndarray, at: tuple[float, float]) -> Picture:
    shape = line(walk(rng, at, rng.uniform(40, 90), 0.45), rng.uniform(1.2, 3.5))
    return paint(scale(image, 1 + 0.25 * cover(shape - 1.5, 3)), (0.1, 0.06, 0.04), 0.9 * cover(shape)), cover(
        shape - 0.7
    )


def cut(rng: np.random.Generator, image: np.ndarray, at: tuple[float, float]) -> Picture:
    shape = line(walk(rng, at, rng.uniform(25, 60), 0.03), rng.uniform(1, 2.4))
    return paint(image, (0.72, 0.58, 0.42), rng.uniform(0.4, 0.8) * cover(shape)), cover(shape - 0.7)


def hole(rng: np.random.Generator, image: np.ndarray, at: tuple[float, float]) -> Picture:
    shape = disc(at, rng.uniform(3, 7)) + 0.8 * clouds(rng, 6)
    return paint(image, (0.07, 0.04, 0.03), 0.92 * cover(shape, 2)), cover(shape)


def stain(rng: np.random.Generator, image: np.ndarray, at: tuple[float, float]) -> Picture:
    shape = disc(at, rng.uniform(12, 22)) + 4 * clouds(rng, 14)
    return scale(image, 1 - rng.uniform(0.12, 0.3) * cover(shape, 5)), cover(shape)


def mould(rng: np.random.Generator, image: np.ndarray, at: tuple[float, float]) -> Picture:
    shape = disc(at, rng.uniform(10, 18)) + 5 * clouds(rng, 8)
    return paint(image, (0.6, 0.62, 0.52), rng.uniform(0.2, 0.45) * cover(shape, 5)), cover(shape)


HAZELNUT = {"crack": crack, "cut": cut, "hole": hole, "mould": mould, "stain": stain}


def carpet(rng: np.random.Generator, defect: str) -> Picture:
    """A grey twill, its threads of uneven lightness, with fuzz."""
    y, x = turn(Y, X, (rng.uniform(0, 99), rng.uniform(0, 99)), rng.normal(0, 0.03))
    y, x = y + 0.8 * clouds(rng, 40), x + 0.8 * clouds(rng, 40)
    at = tuple(rng.uniform(40, SIZE - 40, 2))
    changed = np.zeros((SIZE, SIZE))
    if defect == "pulled":  # the weave is drawn together
        shape = disc(at, rng.uniform(14, 26)) + 3 * clouds(rng, 16)
        changed = cover(shape, 6)
        x = x + rng.uniform(2.5, 5) * changed * np.sin((Y - at[0]) / 6)
        y = y + rng.uniform(2.5, 5) * changed
    period = 9.0
    over = np.sin(2 * np.pi * x / period) * np.sin(2 * np.pi * y / period)
    rib = np.cos(2 * np.pi * (x + y) / (2 * period))
    weave = 0.2 * np.tanh(2 * over) + 0.1 * rib + 0.07 * texture("grass", rng, 0.7) + 0.03 * clouds(rng, 60)
    tint = np.asarray(rng.normal((0.46, 0.45, 0.44), 0.008))
    image = scale(np.ones((SIZE, SIZE, 3)) * tint, 1 + weave)
    if defect in CARPET:
        image, changed = CARPET[defect](rng, image, at)
    return image, changed


def color(rng: np.random.Generator, image: np.ndarray, at: tuple[float, float]) -> Picture:
    shape = disc(at, rng.uniform(12, 24)) + 5 * clouds(rng, 12)
    tint = ((1.25, 0.8, 0.75), (0.8, 0.9, 1.2), (0.8, 0.75, 0.6))[rng.integers(3)]
    return paint(image, image * tint, rng.uniform(0.25, 0.8) * cover(shape, 5)), cover(shape)


def slit(rng: np.random.Generator, image: np.ndarray, at: tuple[float, float]) -> Picture:
    shape = line(walk(rng, at, rng.uniform(25, 60), 0.06), rng.uniform(1.5, 4))
    return paint(image, (0.12, 0.12, 0.12), rng.uniform(0.5, 0.9) * cover(shape, 2)), cover(shape - 0.7)


def metal(rng: np.random.Generator, image: np.ndarray, at: tuple[float, float]) -> Picture:
    shape = line(walk(rng, at, rng.uniform(20, 50), 0.25), rng.uniform(1.2, 2.5))
    return paint(image, (0.85, 0.86, 0.9), rng.uniform(0.4, 0.85) * cover(shape)), cover(shape - 0.7)


def thread(rng: np.random.Generator, image: np.ndarray, at: tuple[float, float]) -> Picture:
    path = walk(rng, at, rng.uniform(40, 90), 0.5)
    shape = line(path, rng.uniform(1.6, 3))
    shaded = scale(image, 1 - 0.4 * cover(line(path + 2, 2), 3))
    return paint(shaded, (0.6, 0.58, 0.55), rng.uniform(0.5, 0.8) * cover(shape)), cover(shape - 0.7)


CARPET = {"color": color, "cut": slit, "metal": metal, "thread": thread}


def zipper(rng: np.random.Generator, defect: str) -> Picture:
    """A closed zipper, upright: two rows of interlocking teeth on two woven tapes."""
    y, x = turn(Y, X, (CENTRE, CENTRE + rng.normal(0, 4)), rng.normal(0, 0.015))
    y = y + rng.uniform(0, 16)
    along = rng.uniform(-75, 75)
    changed = np.zeros((SIZE, SIZE))
    sway = 0.0
    if defect == "split_teeth":
        opening = rng.uniform(4, 10) * np.exp(-(((y - along) / rng.uniform(18, 30)) ** 2))
        sway = opening
        changed = cover(np.abs(x) - 22) * cover(2 - opening)
    cloth = (
        1 + 0.1 * np.sin(2 * np.pi * (y + np.abs(x)) / 5) + 0.1 * texture("grass", rng, 0.6) + 0.05 * clouds(rng, 50)
    )
    tint = np.asarray(rng.normal((0.22, 0.23, 0.27), 0.006))
    image = scale(np.ones((SIZE, SIZE, 3)) * tint, cloth)
    edge = 92 + rng.normal(0, 1)
    if defect == "fabric_border":
        side = rng.choice([-1, 1])
        fray = disc_at(y, x, (along, side * edge), rng.uniform(9, 16)) + 4 * clouds(rng, 9)
        changed = cover(fray)
    tape = cover(np.abs(x) - edge - 0.6 * clouds(rng, 30), 2)
    table = np.full((SIZE, SIZE, 3), 0.62) * (1 + 0.03 * texture("moon", rng, 1.5))[..., None]
    if defect == "fabric_border":
        tape = tape * (1 - 0.85 * changed * cover(0.3 - texture("grass", rng, 0.8), 2))
    if defect == "fabric_interior":
        side = rng.choice([-1, 1])
        spot = disc_at(y, x, (along, side * rng.uniform(42, 75)), rng.uniform(8, 16)) + 4 * clouds(rng, 10)
        changed = cover(spot)
        image = scale(image, 1 + rng.uniform(0.25, 0.6) * cover(spot, 5) * (0.6 + 0.5 * texture("gravel", rng, 0.5)))
    image = paint(table, image, tape)
    pitch = 16.0
    image = scale(image, 1 - 0.45 * cover(np.abs(x) - 20, 14))
    hit = round(along / pitch)
    for side in (-1, 1):
        offset = pitch / 2 * (side > 0)
        row = np.round((y - offset) / pitch)
        dy, dx = y - offset - row * pitch, side * (x - side * sway) - 7
        struck = (row == hit) & (side > 0)
        if defect == "displaced_tooth":
            push = rng.uniform(2.5, 5)
            dx = dx - push * struck
        tooth = box(dy, dx, 9, 24, 3)
        if defect == "broken_teeth":
            tooth = np.where(struck, box(dy, dx - 9, 9, 7, 2) + 0 * tooth, tooth)
        if defect in ("broken_teeth", "displaced_tooth") and side > 0:
            changed = cover(box(y - offset - hit * pitch, side * x - 7, 11, 30, 3))
        gloss = 0.34 + 0.16 * np.exp(-(((dy + 1.5) / 2.0) ** 2)) + 0.02 * texture("gravel", rng, 0.5)
        image = paint(image, gloss[..., None] * np.asarray((0.95, 0.97, 1.0)), cover(tooth, 1.5))
    return image, changed


def disc_at(y, x, centre, radius):
    return np.hypot(y - centre[0], x - centre[1]) - radius


PAINTERS: dict[str, tuple[Callable[[np.random.Generator, str], Picture], tuple[str, ...]]] = {
    "hazelnut": (hazelnut, tuple(HAZELNUT)),
    "carpet": (carpet, (*CARPET, "pulled")),
    "zipper": (zipper, ("broken_teeth", "displaced_tooth", "fabric_border", "fabric_interior", "split_teeth")),
}
CLASSES = tuple(PAINTERS)


def classes_under(root: Path) -> list[str]:
    """All classes of the recipe."""
    return list(CLASSES) if root.name == Path(__file__).name and root.is_file() else []


def candidates(root: Path, name: str) -> Listing:
    """Images of a class, once they are made."""
    return mvtec.candidates(root, name)


def generate(classes: Sequence[str], out: Path) -> None:
    """Write the images and masks of `classes` to `out/CLASS`, in MVTec AD's layout."""
    work = [(name, *place) for name in classes for place in _places(name)]
    parallel.map_ordered(lambda image: _make(out, *image), work, what="draw the sample set")


def render(name: str, part: str, defect: str, stem: str) -> tuple[np.ndarray, np.ndarray]:
    """One image, (SIZE, SIZE, 3) uint8, and its mask, (SIZE, SIZE) bool."""
    rng = generator(SEED, name, part, defect, stem)
    image, changed = PAINTERS[name][0](rng, defect)
    mask = changed >= 0.5
    assert mask.any() == (defect != GOOD), f"{name}/{part}/{defect}/{stem}"
    return photographed(image, rng), mask


def _places(name: str) -> list[tuple[str, str, str]]:
    defects = PAINTERS[name][1]
    normal = [("train", GOOD, i) for i in range(TRAIN)] + [("test", GOOD, i) for i in range(TEST_GOOD)]
    defective = [("test", defects[i % len(defects)], i // len(defects)) for i in range(TEST_DEFECTIVE)]
    return [(part, defect, f"{number:03}") for part, defect, number in normal + defective]


def _make(out: Path, name: str, part: str, defect: str, stem: str) -> None:
    image, mask = render(name, part, defect, stem)
    _write(out / name / part / defect / f"{stem}.png", image)
    if defect != GOOD:
        _write(out / name / "ground_truth" / defect / f"{stem}_mask.png", mask.astype(np.uint8) * 255)


def _write(path: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=2)
