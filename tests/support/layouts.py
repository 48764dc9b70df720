"""Small trees in the layouts of the data sets, as their authors publish them."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from adshift.data.datasets import visa

SIZE = (8, 10)


def picture(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = list(path.as_posix()[-40:].encode())
    Image.fromarray(np.random.default_rng(seed).integers(1, 255, (*size, 3), dtype=np.uint8)).save(path)
    return path


def mask(path, values=((2, 3, 255),), size=SIZE):
    """A mask with `value` at each (row, column)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size, np.uint8)
    for row, column, value in values:
        pixels[row, column] = value
    Image.fromarray(pixels).save(path)
    return path


def write_mvtec(root, names=("bottle",)):
    for name in names:
        for part, count in (("train/good", 4), ("test/good", 2), ("test/cut", 2), ("test/hole", 1)):
            for stem in range(count):
                picture(root / name / part / f"{stem:03}.png")
        for defect, count in (("cut", 2), ("hole", 1)):
            for stem in range(count):
                mask(root / name / "ground_truth" / defect / f"{stem:03}_mask.png")


def write_mvtec_ad_2(root, names=("can",)):
    for name in names:
        for part, count in (("train/good", 4), ("validation/good", 2), ("test_public/good", 2), ("test_public/bad", 3)):
            for stem in range(count):
                picture(root / name / part / f"{stem:03}_regular.png")
        for stem in range(3):
            mask(root / name / f"test_public/ground_truth/bad/{stem:03}_regular_mask.png")
        picture(root / name / "test_private/000_regular.png")  # no labels
        picture(root / name / "test_private_mixed/000_mixed.png")


def write_visa(root, names=("candle", "pcb1")):
    rows = []
    for name in names:
        for stem in range(6):
            path = picture(root / name / f"Data/Images/Normal/{stem:04}.JPG")
            rows.append((name, "train" if stem % 3 else "test", "normal", path, ""))
        for stem in range(3):  # stems of normal and anomalous images overlap
            path = picture(root / name / f"Data/Images/Anomaly/{stem:04}.JPG")
            truth = mask(root / name / f"Data/Masks/Anomaly/{stem:04}.png", ((1, 1, 1), (2, 2, 6)))
            rows.append((name, "test", "anomaly", path, truth))
        (root / name / "image_anno.csv").write_text("image,label,mask\n")
    (root / "split_csv").mkdir()
    for file in ("1cls.csv", "2cls_fewshot.csv"):
        with (root / "split_csv" / file).open("w", newline="") as out:
            table = csv.writer(out)
            table.writerow(visa.COLUMNS)
            table.writerows([*row[:3], *(path and path.relative_to(root) for path in row[3:])] for row in rows)


def write_visa_folders(root, names=("candle",)):
    for name in names:
        for part, count in (("train/good", 4), ("test/good", 2), ("test/bad", 3)):
            for stem in range(count):
                picture(root / name / part / f"{stem:04}.JPG")
        for stem in range(3):
            mask(root / name / f"ground_truth/bad/{stem:04}.png")


def write_btad(root, names=("01", "02", "03")):
    """Suffixes as published: images of 01 and 03 are bitmaps, of 02 PNG."""
    for name in names:
        suffix = "png" if name == "02" else "bmp"
        for part, count in (("train/ok", 5), ("test/ok", 2), ("test/ko", 3)):
            for stem in range(count):
                picture(root / name / part / f"{stem:04}.{suffix}")
        for stem in range(3):
            mask(root / name / f"ground_truth/ko/{stem:04}.{'bmp' if name == '03' else 'png'}")


def write_real_iad(root, names=("audiojack",), samples=3, nested=True, size="realiad_256"):
    """Parts seen by five cameras; the defect of part 1 does not show in C4 and C5."""
    for name in names:
        images_of = root / size / name
        content = {"meta": {"prefix": f"{name}/", "normal_class": "OK"}, "train": [], "test": []}
        for part, label, sample in [
            *(("train", "OK", number) for number in range(samples)),
            ("test", "OK", samples),
            ("test", "BX", 1),
            ("test", "AK", 2),
        ]:
            for camera in range(1, 6):
                folder = f"{label if label == 'OK' else 'NG/' + label}/S{sample:04}"
                stem = f"{name}__{sample:04}_{'OK' if label == 'OK' else 'NG_' + label}_C{camera}_20230923"
                picture(images_of / folder / f"{stem}.jpg")
                shown = label != "OK" and not (label == "BX" and camera > 3)
                if shown:
                    mask(images_of / folder / f"{stem}.png")
                content[part].append({
                    "category": name, "anomaly_class": label if shown else "OK", "image_path": f"{folder}/{stem}.jpg",
                    "mask_path": f"{folder}/{stem}.png" if shown else None,
                })  # fmt: skip
        jsons = root / ("realiad_jsons/realiad_jsons" if nested else "realiad_jsons")
        jsons.mkdir(parents=True, exist_ok=True)
        (jsons / f"{name}.json").write_text(json.dumps(content))


def write_tiles(root: Path, exposures: str = "123456", normal: int = 25) -> None:
    """Magnetic tiles' layout: `normal` normal images and four of each of two defects an exposure."""
    rng = np.random.default_rng(0)
    for exposure in exposures:
        for kind, count in (("Free", normal), ("Crack", 4), ("Fray", 4)):
            folder = root / f"MT_{kind}" / "Imgs"
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                stem = f"exp{exposure}_num_{number}"
                pixels = rng.integers(20 * int(exposure), 20 * int(exposure) + 60, (16, 16), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{stem}.jpg")
                mask = np.zeros((16, 16), np.uint8)
                mask[4:9, 5:12] = 0 if kind == "Free" else 255
                Image.fromarray(mask).save(folder / f"{stem}.png")
