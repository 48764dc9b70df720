"""Real-IAD (Wang et al.: "Real-IAD", CVPR 2024): 30 classes, 150,000 images, every part seen by five cameras C1 to C5.

    ROOT/realiad_jsons/CLASS.json                             or realiad_jsons/realiad_jsons, as its archive nests it
    ROOT/realiad_SIZE/CLASS/OK/SAMPLE/STEM.jpg                SIZE: 256, 512, 1024 or raw, one of them
    ROOT/realiad_SIZE/CLASS/NG/DEFECT/SAMPLE/STEM.jpg
    ROOT/realiad_SIZE/CLASS/NG/DEFECT/SAMPLE/STEM.png         mask

The JSON is the official split: `meta` with `prefix` (of the paths) and `normal_class`, `train` and `test` with
`image_path`, `mask_path` (or null), `anomaly_class` and `category` of each image. A view of a defective part that does
not show the defect is normal there, and so it is here.
"""

import json
from pathlib import Path
from typing import Any

from adshift.data.listing import Candidate, Listing, folders_in, not_there
from adshift.data.manifest import GOOD
from adshift.errors import AdshiftError

LAYOUT = (
    "realiad_jsons/CLASS.json (or realiad_jsons/realiad_jsons/CLASS.json) and one folder of images, realiad_256, "
    "realiad_512, realiad_1024 or realiad_raw, with CLASS/OK and CLASS/NG"
)
EMPTY_MASKS = True  # as its authors publish it; nobody can correct it

JSONS = ("realiad_jsons/realiad_jsons", "realiad_jsons")
SIZES = ("realiad_256", "realiad_512", "realiad_1024", "realiad_raw")


def classes_under(root: Path) -> list[str]:
    """Classes that have both a JSON and images."""
    there = {path.name for size in SIZES for path in folders_in(root / size)}
    return sorted(path.stem for path in _jsons(root).glob("*.json") if path.stem in there)


def candidates(root: Path, name: str) -> Listing:
    """Images of a class, each defective one with its mask."""
    sizes = [size for size in SIZES if (root / size / name).is_dir()]
    if len(sizes) > 1:
        message = f"{root}: holds {name} in {' and '.join(sizes)}; keep one, or name another root with links to one"
        return Listing(problems=[message])
    path = _jsons(root) / f"{name}.json"
    listing = Listing()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        prefix, normal = Path(content["meta"]["prefix"]), content["meta"]["normal_class"]
        for part in ("train", "test"):
            for entry in content[part]:
                try:
                    listing.images.append(_candidate(root / sizes[0], prefix, part, normal, entry))
                except ValueError as error:
                    listing.problems.append(f"{path}: {error}")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        message = f"{path}: not a readable split ({type(error).__name__}: {error})"
        raise AdshiftError(message, f"restore it; expected is {LAYOUT}") from None
    listing.problems += not_there((file for one in listing.images for file in (one.image, one.mask)), path)
    return listing


def _candidate(base: Path, prefix: Path, part: str, normal: str, entry: dict[str, Any]) -> Candidate:
    """An entry of the JSON; ValueError if it is a defective training image, lacks its mask or leads elsewhere."""
    image, mask = Path(entry["image_path"]), entry["mask_path"] or ""
    defective = entry["anomaly_class"] != normal
    defect = entry["anomaly_class"] if defective else GOOD
    if defective and part == "train":
        raise ValueError(f"{image}: is defective and in train")
    if defective and not mask:
        raise ValueError(f"{image}: has no mask")
    if "/" in defect or any(path.is_absolute() or ".." in path.parts for path in (prefix, image, Path(mask))):
        raise ValueError(f"{image}: leads out of the folder")
    # Stems repeat in no class seen, but nothing promises it: the folders tell samples and defects apart.
    key = "_".join((*image.parts[:-1], image.stem))
    return Candidate(part, defect, base / prefix / image, base / prefix / mask if defective else None, key)


def _jsons(root: Path) -> Path:
    nested, flat = (root / folder for folder in JSONS)
    return nested if nested.is_dir() else flat
