"""MVTec AD 2, its public part (Heckler-Kram et al.: "The MVTec AD 2 Dataset", 2025).

    ROOT/CLASS/train/good/STEM.png
    ROOT/CLASS/validation/good/STEM.png
    ROOT/CLASS/test_public/good/STEM.png
    ROOT/CLASS/test_public/bad/STEM.png
    ROOT/CLASS/test_public/ground_truth/bad/STEM_mask.png

Eight classes. `test_private` and `test_private_mixed` have no labels and are passed over: their authors' server scores
them. The validation images are normal ones.
"""

from pathlib import Path

from adshift.data.datasets.mvtec import Folders
from adshift.data.listing import Listing

LAYOUT = (
    "CLASS/train/good, CLASS/validation/good, CLASS/test_public/good, CLASS/test_public/bad and "
    "CLASS/test_public/ground_truth/bad"
)
EMPTY_MASKS = False

FOLDERS = Folders({"train": "train", "validation": "val", "test_public": "test"}, masks="test_public/ground_truth")


def classes_under(root: Path) -> list[str]:
    """Folders that hold a folder `test_public`; another set's `train` does not make one."""
    return [name for name in FOLDERS.classes_under(root) if (root / name / "test_public").is_dir()]


def candidates(root: Path, name: str) -> Listing:
    """Labelled images of a class, each defective one with its mask."""
    listing = FOLDERS.candidates(root / name)
    if not listing.of_part("val"):
        listing.problems.append(f"{root / name}: has no validation images, in validation/{FOLDERS.normal}")
    return listing
