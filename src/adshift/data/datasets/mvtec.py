"""MVTec AD's folder layout, and any user's own folder in it.

    ROOT/CLASS/train/good/STEM.png
    ROOT/CLASS/test/good/STEM.png
    ROOT/CLASS/test/DEFECT/STEM.png
    ROOT/CLASS/ground_truth/DEFECT/STEM_mask.png     or STEM.png

Of these, `train/good` alone has to be there. Without `test/good`, normal test images come from `train/good`; without a
mask, nobody knows which pixels of an image are defective. A folder `val` or `validation` beside them, with `good` and
maybe defects, holds validation images.

Any suffix of `images.SUFFIXES` will do, for an image and its mask apart. `ground_truth/good` is ignored.

Bergmann et al.: "The MVTec Anomaly Detection Dataset", IJCV 2021; its 15 classes are in `PUBLISHED`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adshift.data.listing import Candidate, Listing, folders_in
from adshift.data.manifest import GOOD

LAYOUT = "CLASS/train/good, and as far as there are CLASS/test/good, CLASS/test/DEFECT and CLASS/ground_truth/DEFECT"
EMPTY_MASKS = False
WHOLE = False
PUBLISHED = {
    "bottle": (209, 20, 63),
    "cable": (224, 58, 92),
    "capsule": (219, 23, 109),
    "carpet": (280, 28, 89),
    "grid": (264, 21, 57),
    "hazelnut": (391, 40, 70),
    "leather": (245, 32, 92),
    "metal_nut": (220, 22, 93),
    "pill": (267, 26, 141),
    "screw": (320, 41, 119),
    "tile": (230, 33, 84),
    "toothbrush": (60, 12, 30),
    "transistor": (213, 60, 40),
    "wood": (247, 19, 60),
    "zipper": (240, 32, 119),
}


@dataclass(frozen=True)
class Folders:
    """How a data set of this kind calls its folders in a class.

    Attributes:
        parts: {folder: part}; one is for `test`.
        masks: folder of the masks.
        normal: folder of the normal images in each.
        whole: whether every defective image has a mask, and all of them are in `test`, as the authors of a data set
            promise.
    """

    parts: Mapping[str, str]
    masks: str = "ground_truth"
    normal: str = GOOD
    whole: bool = True

    def classes_under(self, root: Path) -> list[str]:
        """Folders that hold a folder of a part."""
        return [path.name for path in folders_in(root) if any((path / part).is_dir() for part in self.parts)]

    def candidates(self, base: Path) -> Listing:
        """Images of the class in `base`, each defective one with its mask, if it has one."""
        listing = Listing()
        defects: dict[str, list[str]] = {}  # folders of the parts that hold images of a defect
        for folder, part in self.parts.items():
            for image in listing.files_in(base / folder / self.normal).values():
                listing.images.append(Candidate(part, GOOD, image))
            for path in self._defects(base / folder):
                if part == "test" or (part == "val" and not self.whole):
                    defects.setdefault(path.name, []).append(folder)
                else:
                    what = f"{path}: images of {folder} are normal, in {folder}/{self.normal}"
                    listing.problems.append(what)
        for path in self._defects(base / self.masks):
            defects.setdefault(path.name, [])
        for defect, folders in sorted(defects.items()):
            self._add_defects(listing, base, defect, folders)
        if not self.whole:
            known = {Path(name).parts[0] for name in (*self.parts, self.masks)}
            listing.passed |= {path: f"folder {path.name}" for path in folders_in(base) if path.name not in known}
        return listing

    def _add_defects(self, listing: Listing, base: Path, defect: str, folders: list[str]) -> None:
        truth = base / self.masks / defect
        masks = listing.files_in(truth)
        for folder in folders:
            for stem, image in listing.files_in(base / folder / defect).items():
                mask = listing.mask_of(image, masks, (f"{stem}_mask", stem))
                if mask is None and self.whole:
                    listing.problems.append(f"{image}: has no mask {truth}/{stem}_mask.png")
                listing.images.append(Candidate(self.parts[folder], defect, image, mask))
        test = next(base / folder for folder, part in self.parts.items() if part == "test")
        lone = [mask for mask in masks.values() if mask not in listing.marked]
        listing.problems += [f"{mask}: is a mask without its image in {test}/{defect}" for mask in lone]

    def _defects(self, folder: Path) -> list[Path]:
        # The masks may lie among the defects (MVTec AD 2).
        return [path for path in folders_in(folder) if path.name not in (self.normal, Path(self.masks).name)]


FOLDERS = Folders({"train": "train", "val": "val", "validation": "val", "test": "test"}, whole=WHOLE)


def classes_under(root: Path) -> list[str]:
    """Folders that hold a folder `train`, `test` or one of validation images."""
    return FOLDERS.classes_under(root)


def candidates(root: Path, name: str) -> Listing:
    """Images of a class, each defective one with its mask, if it has one."""
    return FOLDERS.candidates(root / name)
