"""What `features.fit` does on oblong images: image AUROC, PRO and time of PatchCore and PaDiM, several draws.

Magnetic tiles have many shapes. Looked at here are the portrait ones, at least ASPECT times as high as wide. A draw
chooses TRAIN of their normal images; the other normal and all defective ones are for testing. Features are made once,
by each fit. Times are of the processor, in all threads. Run from the repository's root; no other output of the pipeline
is needed:

    python docs/results/fits.py DATA/magnetic_tile docs/results/fits.csv
"""

import argparse
import csv
import time
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from adshift.data import datasets
from adshift.data.geometry import fit
from adshift.data.images import load_mask
from adshift.data.manifest import Item, anomalous
from adshift.data.shapes import propose
from adshift.detectors import padim_streaming, patchcore, registry
from adshift.evaluation.metrics.pixel import pixel_metrics
from adshift.evaluation.metrics.ranking import auroc
from adshift.features import extract
from adshift.features.backbones import Backbone
from adshift.features.settings import Features as Settings
from adshift.features.store import Features
from adshift.project import params
from adshift.runtime import seeding
from adshift.runtime.provenance import provenance, sentence

ASPECT, TRAIN, SEEDS = 1.7, 60, (42, 43, 44)
LIMIT = 0.3  # of PRO
SCORE = {"patchcore": patchcore, "padim_streaming": padim_streaming}  # the latter is PaDiM, fitted without anomalib


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    settings = params.load("features", *SCORE)
    with TemporaryDirectory() as folder:
        found = datasets.build("magnetic_tile", str(args.data), ["tile"], Path(folder))["tile"]
        items = [item for item in found if item.height >= ASPECT * item.width]
        oblong = propose((item.height, item.width) for item in items).resize
        print(len(items), "images,", propose((item.height, item.width) for item in items))
        side = settings.features.resize
        rows = []
        for how, resize in (("squeeze", side), ("pad", side), ("squeeze", oblong), ("pad", oblong), ("tile", oblong)):
            look = settings.features.model_copy(update={"fit": how, "resize": resize})
            rows += list(measured(settings, look, items, Path(folder) / f"{how}-{resize}"))
    rows += means(rows)
    with args.out.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        file.write(f"# python docs/results/fits.py DATA/magnetic_tile fits.csv; {sentence(provenance())}\n")


def measured(settings: Any, look: Settings, items: list[Item], folder: Path) -> Any:
    """One row a method and draw."""
    backbone = Backbone(look)
    extract.spec_of(backbone)  # the first image takes longer
    start = time.process_time()
    extract.embed(items, backbone, folder, what=f"embedding, {look.fit}")
    embedded = (time.process_time() - start) / len(items)
    features, by_name = Features.open(folder), {item.name: item for item in items}
    normal = [item.name for item in items if not item.anomalous]
    for seed in SEEDS:
        train = set(seeding.generator(seed, "fits").choice(normal, TRAIN, replace=False).tolist())
        test = features.select(name for name in features.names if name not in train)
        masks = np.stack([fit(load_mask(by_name[name]), look.resize, look.crop) for name in test.names])
        for method, module in SCORE.items():
            section = dict(getattr(settings, method))
            detector = registry.detector_class(method)(module.Fit.within(section))
            registry.warm_up(method)
            start = time.process_time()
            detector.fit(features.select(sorted(train)), seeding.generator(seed, "fits", method))
            fitted = time.process_time() - start
            detector.predict(test[:1], module.Score.within(section))  # the first image takes longer
            start = time.process_time()
            predicted = detector.predict(test, module.Score.within(section))
            scored = (time.process_time() - start) / len(test)
            pixels = pixel_metrics(predicted.full_maps(), masks, LIMIT, anomalous(test.names))
            row = {"fit": look.fit, "resize": str(look.resize), "method": method, "seed": seed, "train": len(train)}
            row |= {"normal": int((~anomalous(test.names)).sum()), "defective": int(anomalous(test.names).sum())}
            row |= {"image_auroc": auroc(predicted.scores, anomalous(test.names)), "pro": pixels.pro}
            row |= {"embed_ms": 1000 * embedded, "fit_s": fitted, "score_ms": 1000 * scored}
            row = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
            print(*row.values(), flush=True)
            yield row


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means of the draws."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["fit"], row["resize"], row["method"]), []).append(row)
    figures = ("image_auroc", "pro", "embed_ms", "fit_s", "score_ms")
    return [
        members[0] | {"seed": "mean"} | {key: round(mean(row[key] for row in members), 4) for key in figures}
        for members in groups.values()
    ]


if __name__ == "__main__":
    main()
