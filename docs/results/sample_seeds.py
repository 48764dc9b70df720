"""What the sample's recipe gives with other seeds than the shipped one: the images on which its difficulty was set.

Run from the repository's root; needs no run before it:

    python docs/results/sample_seeds.py docs/results/sample_seeds.csv 1001 1002 1003 1004 1005

A seed replaces `sample.SEED` and the `seed` of params.yaml: images, split, shift and fits are all drawn anew. All else
is params.yaml's. Rows: one a seed, method, scenario and class, and the mean over the classes. PaDiM is fitted on
clean images alone. Rows of other seeds in the file are kept. The means over the classes go to docs/datasets.md.
"""

import argparse
import csv
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adshift.data import datasets, manifest, splits
from adshift.data.datasets import sample
from adshift.data.shapes import sides
from adshift.data.shift import synthetic
from adshift.detectors import registry
from adshift.evaluation.calibration import calibrate
from adshift.evaluation.metrics.image import image_metrics
from adshift.evaluation.scenarios import BASELINE, DRIFT
from adshift.features import extract
from adshift.features.backbones import Backbone
from adshift.features.store import Features
from adshift.project import params
from adshift.runtime import seeding

Judged = tuple[np.ndarray, np.ndarray]  # scores (N,), anomalous (N,)
KEYS, MEAN = ("seed", "method", "scenario"), "(mean)"
PAGE = Path("docs/datasets.md")
OPEN, CLOSE = "<!-- sample_seeds -->", "<!-- /sample_seeds -->"
FIGURES = {"image_auroc": "auroc", "specificity": "specificity", "recall": "recall"}
REFIT = {"patchcore"}  # methods that are also fitted on shifted images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("seeds", type=int, nargs="+")
    args = parser.parse_args()
    for seed in args.seeds:
        kept = list(csv.DictReader(args.out.open(encoding="utf-8"))) if args.out.exists() else []
        rows = sorted(
            [*(row for row in kept if row["seed"] != str(seed)), *measure(seed)], key=lambda row: int(row["seed"])
        )
        with args.out.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
        before, rest = PAGE.read_text(encoding="utf-8").split(OPEN)
        PAGE.write_text(before + OPEN + summary(rows) + CLOSE + rest.split(CLOSE)[1], encoding="utf-8")


def summary(rows: list[dict[str, Any]]) -> str:
    """The table of the means over the classes: image AUROC and specificity, and AUROC on the zipper."""
    lines = ["", "| seed | method | scenario | image AUROC | specificity | AUROC on the zipper |"]
    lines += ["| --- | --- | --- | ---: | ---: | ---: |"]
    values = {(*(str(row[key]) for key in KEYS), row["class"]): row for row in rows}
    for row in rows:
        if row["class"] == MEAN:
            key = tuple(str(row[name]) for name in KEYS)
            shown = [row["image_auroc"], row["specificity"], values[(*key, "zipper")]["image_auroc"]]
            lines.append(f"| {' | '.join(key)} | {' | '.join(f'{float(value):.3f}' for value in shown)} |")
    return "\n".join([*lines, ""])


def measure(seed: int) -> list[dict[str, Any]]:
    """The rows of a seed."""
    settings = params.load_all()
    sample.SEED = seed
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        made = datasets.build("sample", settings.dataset.root, settings.classes, work / "clean", work / "clean")
        rows = [row for name, items in made.items() for row in of_class(seed, name, items, settings, work)]
    for method, scenario in dict.fromkeys((row["method"], row["scenario"]) for row in rows):
        of = [row for row in rows if (row["method"], row["scenario"]) == (method, scenario)]
        means = {key: round(statistics.mean(row[key] for row in of), 4) for key in FIGURES}
        rows.append({**of[0], "class": MEAN, **means})
        print(*rows[-1].values(), flush=True)
    return rows


def of_class(seed: int, name: str, items: list[manifest.Item], settings: Any, work: Path) -> Iterator[dict[str, Any]]:
    """The rows of a class."""
    out = work / "shift" / name
    moved = synthetic.shift_class(items, settings.shift, seed, name, out, out, sides(settings.features.resize))
    backbone, features = Backbone(settings.features), {}
    for domain, images in (("clean", items), ("shift", moved)):
        extract.embed(images, backbone, work / "features" / name / domain, what=f"embedding {name}, {domain}")
        features[domain] = Features.open(work / "features" / name / domain)
    roles = splits.split(items, settings.split, seed, name)
    parts = {part: [image for image in sorted(roles) if roles[image] == part] for part in ("train", "val", "test")}
    for method in settings.methods:
        for scenario, thresholds, tests in judged(seed, name, method, features, parts, settings):
            threshold = calibrate(*thresholds, settings.calibrate).threshold
            found = image_metrics(*tests, threshold).to_dict()
            figures = {key: round(found[figure], 4) for key, figure in FIGURES.items()}
            yield {"seed": seed, "method": method, "scenario": scenario, "class": name, **figures}


def judged(
    seed: int, name: str, method: str, features: dict[str, Features], parts: dict[str, list[str]], settings: Any
) -> Iterator[tuple[str, Judged, Judged]]:
    """Each scenario, and scores and truth of its validation and test images."""
    halves, schemas = registry.halves(method, dict(getattr(settings, method))), registry.schemas(method)
    models = {}
    for domain in features if method in REFIT else ("clean",):
        models[domain] = registry.detector_class(method)(schemas["fit"](**halves["fit"]))
        generator = seeding.generator(seed, "fit", method, name, domain)
        models[domain].fit(features[domain].select(parts["train"]), generator)
    for scenario in (one for one in (BASELINE, *DRIFT) if not one.lever):
        if scenario.model in models:
            chosen = [features[scenario.val].select(parts["val"]), features[scenario.test].select(parts["test"])]
            scores = [models[scenario.model].predict(one, schemas["score"](**halves["score"])).scores for one in chosen]
            val, test = ((found, manifest.anomalous(one.names)) for found, one in zip(scores, chosen, strict=True))
            yield scenario.name, val, test


if __name__ == "__main__":
    main()
