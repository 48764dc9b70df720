"""Magnetic tile defects (Huang, Qiu, Yuan: "Surface defect saliency of magnetic tile", The Visual Computer 2020).

    ROOT/MT_DEFECT/Imgs/STEM.jpg     with its mask STEM.png beside it
    ROOT/MT_Free/Imgs/STEM.jpg       normal; the black masks beside them are ignored

One class, `tile`. The authors publish no split: all defective images are for testing, and so is a fifth of the normal
ones, chosen by a hash of the stem, so that adding an image moves no other. Four images of MT_Uneven are published with
a black mask: they count as defective images without a defective pixel.
"""

import hashlib
from pathlib import Path

from adshift.data import images
from adshift.data.listing import Candidate, Listing, folders_in
from adshift.data.manifest import GOOD

LAYOUT = "MT_Free/Imgs and MT_DEFECT/Imgs"
EMPTY_MASKS = True
CLASS = "tile"
TEST_SHARE = 0.2  # of the normal images

_PHOTOS = [suffix for suffix in images.SUFFIXES if suffix != ".png"]
_PREFIX, _FREE = "MT_", "MT_Free"


def classes_under(root: Path) -> list[str]:
    """`tile`, if there is a folder `MT_...`."""
    return [CLASS] if _kinds(root) else []


def candidates(root: Path, name: str) -> Listing:
    """All images; those of MT_Free normal, the others with their masks."""
    listing = Listing()
    for kind in _kinds(root):
        folder = kind / "Imgs"
        photos, masks = listing.files_in(folder, _PHOTOS), listing.files_in(folder, (".png",))
        listing.problems += [
            f"{mask}: is a mask without its image" for stem, mask in masks.items() if stem not in photos
        ]
        if kind.name == _FREE:
            listing.images += [Candidate(_part(stem), GOOD, image) for stem, image in photos.items()]
            continue
        defect = kind.name.removeprefix(_PREFIX).lower()
        listing.images += [Candidate("test", defect, image, masks.get(stem)) for stem, image in photos.items()]
        missing = [f"{image}: has no mask {stem}.png" for stem, image in photos.items() if stem not in masks]
        listing.problems += missing
    listing.problems = list(dict.fromkeys(listing.problems))  # images and masks lie in one folder, looked at twice
    return listing


def _kinds(root: Path) -> list[Path]:
    return [path for path in folders_in(root) if path.name.startswith(_PREFIX)]


def _part(stem: str) -> str:
    draw = int.from_bytes(hashlib.sha256(stem.encode()).digest()[:8], "big") / 2**64
    return "test" if draw < TEST_SHARE else "train"
