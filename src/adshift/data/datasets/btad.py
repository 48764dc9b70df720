"""beanTech anomaly detection (Mishra et al.: "VT-ADL", ISIE 2021). Classes 01, 02 and 03: quote them in params.yaml.

ROOT/CLASS/train/ok/STEM.bmp         the suffixes differ among classes
ROOT/CLASS/test/ok/STEM.bmp
ROOT/CLASS/test/ko/STEM.bmp
ROOT/CLASS/ground_truth/ko/STEM.png
"""

from pathlib import Path

from adshift.data.datasets.mvtec import Folders
from adshift.data.listing import Listing

LAYOUT = "CLASS/train/ok, CLASS/test/ok, CLASS/test/ko and CLASS/ground_truth/ko"
EMPTY_MASKS = True  # as its authors publish it; nobody can correct it
PUBLISHED = {"01": (400, 21, 49), "02": (399, 30, 200), "03": (1000, 400, 41)}

FOLDERS = Folders({"train": "train", "test": "test"}, normal="ok")


def classes_under(root: Path) -> list[str]:
    """Folders that hold a folder `train/ok` or `test/ok`."""
    return [
        name
        for name in FOLDERS.classes_under(root)
        if any((root / name / part / FOLDERS.normal).is_dir() for part in FOLDERS.parts)
    ]


def candidates(root: Path, name: str) -> Listing:
    """Images of a class, each defective one (`ko`) with its mask."""
    return FOLDERS.candidates(root / name)
