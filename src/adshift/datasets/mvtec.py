"""MVTec AD's folder layout, and any user's own folder in it.

    ROOT/CLASS/train/good/STEM.png
    ROOT/CLASS/test/good/STEM.png
    ROOT/CLASS/test/DEFECT/STEM.png
    ROOT/CLASS/ground_truth/DEFECT/STEM_mask.png     or STEM.png

Any suffix of `images.SUFFIXES` will do, for an image and its mask apart. `ground_truth/good` is ignored.
"""

from pathlib import Path

from adshift.datasets import Candidate, Listing, files_in, folders_in
from adshift.manifest import GOOD

LAYOUT = "CLASS/train/good, CLASS/test/good, CLASS/test/DEFECT and CLASS/ground_truth/DEFECT"
EMPTY_MASKS = False


def classes_under(root: Path) -> list[str]:
    """Folders that hold a folder `train` or `test`."""
    return [path.name for path in folders_in(root) if (path / "train").is_dir() or (path / "test").is_dir()]


def candidates(root: Path, name: str) -> Listing:
    """Images of a class, each defective one with its mask."""
    base = root / name
    found: list[Candidate] = []
    problems = [f"{path}: training images are normal, in train/{GOOD}" for path in _defects(base / "train")]
    for part in ("train", "test"):
        normal, met = files_in(base / part / GOOD)
        problems += met
        found += [Candidate(part, GOOD, image) for image in normal.values()]
    for defect in sorted({path.name for area in ("test", "ground_truth") for path in _defects(base / area)}):
        defective, met = files_in(base / "test" / defect)
        masks, met_masks = files_in(base / "ground_truth" / defect)
        problems += met + met_masks
        for stem, image in defective.items():
            mask = masks.pop(f"{stem}_mask", None) or masks.pop(stem, None)
            if mask is None:
                problems.append(f"{image}: has no mask {base}/ground_truth/{defect}/{stem}_mask.png")
            found.append(Candidate("test", defect, image, mask))
        problems += [f"{mask}: is a mask without its image in {base}/test/{defect}" for mask in masks.values()]
    return found, problems


def _defects(folder: Path) -> list[Path]:
    return [path for path in folders_in(folder) if path.name != GOOD]
