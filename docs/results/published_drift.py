"""Models of anomalib through the bridge beside ours under synthetic drift, on magnetic tiles, in one process.

    python docs/results/published_drift.py docs/results/published/drift.csv --root DATA/magnetic_tile_quarter \
        --weights WEIGHTS/resnet18_imagenet_layers1-3.safetensors

DATA/magnetic_tile_quarter is every fourth image of each folder of the set. Of its normal images, in an order drawn by
the seed, some train, some set the threshold (95 % of them pass), the others test with as many defective ones. Drift is
MVTec-Shift of params.yaml. Trained models have few epochs on a processor (column `epochs`), so their figures say how
they stand drift, not how good they can be. Rows are appended as they are made.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from embedded import append

from adshift.data import datasets
from adshift.data.images import load_image
from adshift.data.shift.synthetic import apply, draw
from adshift.detectors import registry
from adshift.evaluation.metrics.ranking import Ranked
from adshift.features.backbones import Backbone
from adshift.features.extract import network_inputs, spec_of
from adshift.features.settings import Features as Settings
from adshift.features.store import IMAGES, Features
from adshift.project import params
from adshift.runtime import seeding

LEVELS = ["layer1", "layer2", "layer3"]
MODELS: dict[str, dict[str, Any]] = {
    "anomalib_dfm": {"model": "Dfm", "epochs": None, "layer": "layer3"},
    "anomalib_dfkde": {"model": "Dfkde", "epochs": None, "layers": ["layer3"]},
    "anomalib_stfpm": {"model": "Stfpm", "epochs": 5, "layers": LEVELS},
    "anomalib_fastflow": {"model": "Fastflow", "epochs": 3},
    "anomalib_supersimplenet": {"model": "Supersimplenet", "epochs": 3, "layers": LEVELS[1:]},
    "anomalib_reverse": {"model": "ReverseDistillation", "epochs": 3, "layers": LEVELS},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--train", type=int, default=40)
    parser.add_argument("--val", type=int, default=20)
    parser.add_argument("--test", type=int, default=40, help="normal images, and as many defective ones")
    parser.add_argument("methods", nargs="*", default=["patchcore", "padim", *MODELS])
    args = parser.parse_args()
    settings = params.load_all()
    values = {"backbone": "resnet18", "weights": args.weights, "layers": None, "images": True}
    backbone = Backbone(Settings.within({**dict(settings.features), **values}))
    domains = images(settings, args, backbone)
    for method in args.methods:
        append(args.out, measured(settings, args, method, domains))


def images(settings: Any, args: argparse.Namespace, backbone: Backbone) -> dict[str, dict[str, Features]]:
    """{domain: {part: features}}; the shifted domain has the same images."""
    with tempfile.TemporaryDirectory() as folder:
        [items] = datasets.build("magnetic_tile", args.root, ["tile"], Path(folder)).values()
    generator = seeding.generator(settings.seed, "published", "drift")
    normal, bad = ([one for one in items if one.anomalous == kind] for kind in (False, True))
    normal, bad = ([part[index] for index in generator.permutation(len(part))] for part in (normal, bad))
    ends = np.cumsum([args.train, args.val, args.test])
    parts = {"train": normal[: ends[0]], "val": normal[ends[0] : ends[1]],
             "test": normal[ends[1] : ends[2]] + bad[: args.test]}  # fmt: skip
    spec, domains = spec_of(backbone), {}
    for domain in ("clean", "shift"):
        domains[domain] = {}
        for part, chosen in parts.items():
            pixels = [network_inputs(load_image(item), backbone.settings) for item in chosen]
            if domain == "shift":
                drawn = [draw(settings.shift, settings.seed, "tile", item.name) for item in chosen]
                pixels = [apply(*pair) for pair in zip(pixels, drawn, strict=True)]
            maps = zip(*(backbone(one[None]) for one in pixels), strict=True)
            arrays = {level: np.concatenate(rows) for level, rows in enumerate(maps, start=1)}
            names = [item.name for item in chosen]
            domains[domain][part] = Features.of(names, {**arrays, IMAGES: np.stack(pixels)}, spec)
    return domains


def measured(settings: Any, args: argparse.Namespace, method: str, domains: Any) -> dict[str, Any]:
    """A row of the table."""
    if method in MODELS:
        section = {"weights": args.weights, "batch": 8, "backbone": "resnet18", **MODELS[method]}
    else:
        section = dict(getattr(settings, method))
    halves, kinds = registry.halves(method, section), registry.schemas(method)
    scoring = kinds["score"].of(halves["score"])
    registry.warm_up(method)
    models, start = {}, time.perf_counter()
    for domain in domains:
        models[domain] = registry.detector_class(method)(kinds["fit"].of(halves["fit"]))
        models[domain].fit(domains[domain]["train"], seeding.generator(settings.seed, "published", method, domain))
    fitted = time.perf_counter()
    bad = np.arange(2 * args.test) >= args.test
    row: dict[str, Any] = {"method": method, "epochs": halves["fit"].get("epochs") or ""}
    limits = {}
    for model, domain in (("clean", "clean"), ("clean", "shift"), ("shift", "shift")):
        val, test = (models[model].predict(domains[domain][part], scoring).scores for part in ("val", "test"))
        limits[model, domain] = float(np.percentile(val, 95))
        pair = f"{model}_on_{domain}"
        row[f"auroc_{pair}"] = round(float(Ranked.of(test, bad).auroc() or 0), 3)
        row[f"specificity_{pair}"] = round(float((test[~bad] < limits[model, domain]).mean()), 3)
        if pair == "clean_on_shift":
            row["specificity_old_threshold"] = round(float((test[~bad] < limits["clean", "clean"]).mean()), 3)
    row |= {"train": args.train, "val": args.val, "test_normal": args.test, "test_defective": args.test}
    scored = time.perf_counter() - fitted
    return {**row, "fit_seconds": round((fitted - start) / 2, 1), "score_seconds": round(scored, 1)}


if __name__ == "__main__":
    main()
