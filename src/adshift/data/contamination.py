"""The defective share of a training set, in images and in pixels (the thesis, 4: c(X))."""

from collections.abc import Mapping
from dataclasses import dataclass

from adshift.data.images import load_mask
from adshift.data.manifest import Item


@dataclass(frozen=True)
class Contamination:
    """The defective share of a training set.

    Attributes:
        images, defective: number of all and of defective training images.
        share: defective / images, in [0, 1].
        pixels: c(X), the share of all pixels of the training images that their masks mark, in [0, 1]; None if a
            defective image has no mask.
    """

    images: int
    defective: int
    share: float
    pixels: float | None


def measure(items: list[Item], roles: Mapping[str, str]) -> Contamination:
    """Measure the contamination. Reads the masks of the defective training images."""
    trained = [item for item in items if roles[item.name] == "train"]
    defective = [item for item in trained if item.anomalous]
    pixels = None
    if all(item.mask_known for item in defective):
        marked = sum(int(load_mask(item).sum()) for item in defective)
        pixels = marked / sum(item.width * item.height for item in trained)
    return Contamination(len(trained), len(defective), len(defective) / len(trained), pixels)
