"""Mean brightness of the images of a data set, by part and kind, in MVTec's layout.

    python docs/results/brightness.py docs/results/defences/screw_brightness.csv ../shared/data/mvtec_screw screw

One row a part and kind: number of images, mean and standard deviation over images of the mean gray value (0 to 255),
and the mean over images of the standard deviation of its pixels (contrast).
"""

import csv
import sys
from pathlib import Path

import numpy as np

from adshift.data.images import read_image


def main() -> None:
    out, root, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    rows = []
    for folder in sorted((root / name).glob("t*/*")):
        images = [read_image(path).astype(np.float64) for path in sorted(folder.iterdir())]
        means, spreads = (np.array([statistic(image) for image in images]) for statistic in (np.mean, np.std))
        rows.append({
            "part": folder.parent.name, "kind": folder.name, "images": len(images),
            "brightness": round(means.mean(), 1), "brightness_std": round(means.std(), 1),
            "contrast": round(spreads.mean(), 1),
        })  # fmt: skip
    if not rows:
        sys.exit(f"{root / name}: no images in train/KIND and test/KIND")
    with out.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
