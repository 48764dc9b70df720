"""The generated sample set: a nut, a carpet and a zipper, made of real texture photographs and drawing.

In the spirit of MVTec AD's hazelnut (an object in any orientation), carpet (a texture) and zipper (everything at a
fixed place), in its folder layout. Normal images vary in pose, texture, color, light, focus and a few harmless marks.
Defects cover 0.5 to 5 % of the image; most are plain, few are faint. Each image depends on `SEED`, its class and its
name alone.
`scenes.py` composes the pictures, `drawing.py` holds the brushes; docs/datasets.md says how the difficulty was set.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from adshift.data.datasets import mvtec, scenes
from adshift.data.datasets.drawing import photographed
from adshift.data.listing import Listing
from adshift.data.manifest import GOOD
from adshift.runtime import parallel
from adshift.runtime.seeding import generator

LAYOUT = "the recipe, a file sample.py"
EMPTY_MASKS = False
SEED = 2024  # the set's own: params.yaml's seed draws splits and shifts of always the same images
TRAIN, TEST_GOOD, TEST_DEFECTIVE = 60, 40, 60  # images a class

CLASSES = {
    "hazelnut": (scenes.hazelnut, tuple(scenes.NUT_DEFECTS)),
    "carpet": (scenes.carpet, tuple(scenes.CARPET_DEFECTS)),
    "zipper": (scenes.zipper, scenes.ZIPPER_DEFECTS),
}


def classes_under(root: Path) -> list[str]:
    """All classes, if `root` is the recipe."""
    return list(CLASSES) if root.is_file() and root.name == Path(__file__).name else []


def candidates(root: Path, name: str) -> Listing:
    """Images of a class, once they are made."""
    return mvtec.candidates(root, name)


def generate(classes: Sequence[str], out: Path) -> None:
    """Write the images and masks of `classes` to `out/CLASS`, in MVTec AD's layout."""
    work = [(name, *entry) for name in classes for entry in _images(name)]
    parallel.map_ordered(lambda image: _make(out, *image), work, what="draw the sample set")


def render(name: str, part: str, defect: str, stem: str) -> tuple[np.ndarray, np.ndarray]:
    """One image, (SIZE, SIZE, 3) uint8, and its mask, (SIZE, SIZE) bool."""
    rng = generator(SEED, name, part, defect, stem)
    scene, _ = CLASSES[name]
    image, changed = scene(rng, defect)
    mask = changed >= 0.5
    return photographed(image, rng), mask


def _images(name: str) -> list[tuple[str, str, str]]:
    _, defects = CLASSES[name]
    normal = [("train", GOOD, i) for i in range(TRAIN)] + [("test", GOOD, i) for i in range(TEST_GOOD)]
    defective = [("test", defects[i % len(defects)], i // len(defects)) for i in range(TEST_DEFECTIVE)]
    return [(part, defect, f"{number:03}") for part, defect, number in normal + defective]


def _make(out: Path, name: str, part: str, defect: str, stem: str) -> None:
    image, mask = render(name, part, defect, stem)
    _write(out / name / part / defect / f"{stem}.png", image)
    if defect != GOOD:
        _write(out / name / "ground_truth" / defect / f"{stem}_mask.png", mask.astype(np.uint8) * 255)


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=2)
