"""All scenarios under each of PatchCore's reweightings, PaDiM beside them: image and pixel metrics.

Run from the repository's root after `dvc repro`; reads its models, features and PaDiM's scores:

    python docs/results/variants.py variants.csv
    python docs/results/variants.py --cross-class cross_class_variants.csv    # false-positive rates of unified models

The reweighting acts when scoring, so one memory bank serves all three. Thresholds come from validation images alone.
"""

import argparse
import csv
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from adshift.data import manifest
from adshift.data.geometry import fit
from adshift.data.images import load_mask
from adshift.detectors.patchcore import PatchCore, Score
from adshift.detectors.records import Predictions
from adshift.detectors.registry import UNIFIED
from adshift.evaluation.calibration import calibrate
from adshift.evaluation.metrics.image import false_positive_rate, image_metrics
from adshift.evaluation.metrics.pixel import pixel_metrics
from adshift.evaluation.scenarios import SCENARIOS
from adshift.evaluation.stored_predictions import predictions
from adshift.features.stored_features import stored
from adshift.project import params
from adshift.project.paths import model_path
from adshift.report.labels import MACRO

REWEIGHT = ("softmax", "original", "none")
IMAGE = ("auroc", "auprc", "f1", "accuracy", "recall", "specificity")
PIXEL = ("auroc", "auprc", "pro")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cross-class", action="store_true")
    args = parser.parse_args()
    settings = params.load("dataset.name", "classes", "features", "patchcore", "calibrate", "evaluate")
    if args.cross_class:
        found = list(cross_class(settings))
    else:
        found = list(rows(settings))
        found += means(found)
    with args.out.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(
            {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()} for row in found
        )


def rows(settings: Any) -> Iterator[dict[str, Any]]:
    """One row a method, reweighting, scenario and class."""
    dataset, look = settings.dataset.name, settings.features

    @cache
    def patchcore(reweight: str, model: str, domain: str, name: str, on: str, part: str) -> Predictions:
        detector = PatchCore.load(model_path(dataset, "patchcore", model, domain))
        how = Score.within({**dict(settings.patchcore), "reweight": reweight})
        return detector.predict(stored(dataset, [name], on, part), how)

    @cache
    def pixels(key: tuple[str, ...]) -> dict[str, float | None]:
        name, on = key[3:5]
        found = patchcore(*key) if key[0] else stored_padim[key]
        items = {item.name: item for item in manifest.read(manifest.path_of(dataset, name, on))}
        masks = np.stack([fit(load_mask(items[image]), look.resize, look.crop) for image in found.names])
        return pixel_metrics(found.full_maps(), masks, settings.evaluate.pro_limit).to_dict()

    stored_padim: dict[tuple[str, ...], Predictions] = {}
    for name in settings.classes:
        for reweight in (*REWEIGHT, ""):
            for scenario in (
                one for one in SCENARIOS if not (one.absolute or one.lever)
            ):  # thresholds are a class's own here
                model = (reweight, scenario.model_of(name), scenario.model, name)
                keys = [(*model, scenario.val, "val"), (*model, scenario.test, "test")]
                for key in [] if reweight else keys:
                    stored_padim[key] = predictions(key[-1], dataset, "padim", scenario, name)
                val, test = (patchcore(*key) if reweight else stored_padim[key] for key in keys)
                limit = calibrate(val.scores, manifest.anomalous(val.names), settings.calibrate).threshold
                image = image_metrics(test.scores, manifest.anomalous(test.names), limit).to_dict()
                row = {"method": "patchcore" if reweight else "padim", "reweight": reweight}
                row |= {"scenario": scenario.name, "class": name}
                row |= {f"image_{key}": image[key] for key in IMAGE}
                yield row | {f"pixel_{key}": pixels(keys[1])[key] for key in PIXEL}


def cross_class(settings: Any) -> Iterator[dict[str, Any]]:
    """False-positive rates of one class's threshold on another class's normal test images, unified PatchCore."""
    dataset = settings.dataset.name
    detector = PatchCore.load(model_path(dataset, "patchcore", UNIFIED, "clean"))
    for reweight in REWEIGHT:
        how = Score.within({**dict(settings.patchcore), "reweight": reweight})
        limits, normal = {}, {}
        for name in settings.classes:
            val, test = (detector.predict(stored(dataset, [name], "clean", part), how) for part in ("val", "test"))
            limits[name] = calibrate(val.scores, manifest.anomalous(val.names), settings.calibrate).threshold
            normal[name] = test.scores[~manifest.anomalous(test.names)]
        for of, to in product(settings.classes, repeat=2):
            rate = false_positive_rate(normal[to], limits[of])
            yield {"reweight": reweight, "threshold_of": of, "applied_to": to, "fpr": rate}


def means(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means of classes."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in found:
        groups.setdefault((row["method"], row["reweight"], row["scenario"]), []).append(row)
    columns = list(found[0])
    return [
        dict(zip(columns, (*group, MACRO), strict=False))
        | {column: float(np.mean([row[column] for row in members])) for column in columns[4:]}
        for group, members in groups.items()
    ]


if __name__ == "__main__":
    main()
