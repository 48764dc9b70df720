"""MVTec AD's folder layout, and any user's own folder in it.

    ROOT/CLASS/train/good/STEM.png
    ROOT/CLASS/test/good/STEM.png
    ROOT/CLASS/test/DEFECT/STEM.png
    ROOT/CLASS/ground_truth/DEFECT/STEM_mask.png     or STEM.png

Any suffix of `images.SUFFIXES` will do, for an image and its mask apart. `ground_truth/good` is ignored.

Bergmann et al.: "The MVTec Anomaly Detection Dataset", IJCV 2021; its 15 classes are in `PUBLISHED`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adshift.data.datasets import Candidate, Listing, files_in, folders_in
from adshift.data.manifest import GOOD

LAYOUT = "CLASS/train/good, CLASS/test/good, CLASS/test/DEFECT and CLASS/ground_truth/DEFECT"
EMPTY_MASKS = False
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
        parts: {part: folder}; `test` is among them.
        masks: folder of the masks.
        normal: folder of the normal images in each.
    """

    parts: Mapping[str, str]
    masks: str = "ground_truth"
    normal: str = GOOD

    def classes_under(self, root: Path) -> list[str]:
        """Folders that hold a folder of a part."""
        return [path.name for path in folders_in(root) if any((path / part).is_dir() for part in self.parts.values())]

    def candidates(self, base: Path) -> Listing:
        """Images of the class in `base`, each defective one with its mask."""
        found: list[Candidate] = []
        problems: list[str] = []
        test, truth = base / self.parts["test"], base / self.masks
        for part, folder in self.parts.items():
            normal, met = files_in(base / folder / self.normal)
            problems += met
            found += [Candidate(part, GOOD, image) for image in normal.values()]
            if part != "test":
                wrong = self._defects(base / folder)
                problems += [f"{path}: images of {folder} are normal, in {folder}/{self.normal}" for path in wrong]
        for defect in sorted({path.name for area in (test, truth) for path in self._defects(area)}):
            defective, met = files_in(test / defect)
            masks, met_masks = files_in(truth / defect)
            problems += met + met_masks
            for stem, image in defective.items():
                mask = masks.pop(f"{stem}_mask", None) or masks.pop(stem, None)
                if mask is None:
                    problems.append(f"{image}: has no mask {truth}/{defect}/{stem}_mask.png")
                found.append(Candidate("test", defect, image, mask))
            problems += [f"{mask}: is a mask without its image in {test}/{defect}" for mask in masks.values()]
        return found, problems

    def _defects(self, folder: Path) -> list[Path]:
        # The masks may lie among the defects (MVTec AD 2).
        return [path for path in folders_in(folder) if path.name not in (self.normal, Path(self.masks).name)]


FOLDERS = Folders({"train": "train", "test": "test"})


def classes_under(root: Path) -> list[str]:
    """Folders that hold a folder `train` or `test`."""
    return FOLDERS.classes_under(root)


def candidates(root: Path, name: str) -> Listing:
    """Images of a class, each defective one with its mask."""
    return FOLDERS.candidates(root / name)
