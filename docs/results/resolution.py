"""Small defects against the side of the network's input: recall, image AUROC, cost.

    python docs/results/resolution.py docs/results/resolution.csv --dataset mvtec --root DATA/mvtec_screw --name screw \
        --weights WEIGHTS/resnet18_imagenet_layers1-3.safetensors
    python docs/results/resolution.py docs/results/resolution.csv --dataset magnetic_tile --root DATA/magnetic_tile \
        --name tile --weights WEIGHTS/resnet18_imagenet_layers1-3.safetensors
    python docs/results/resolution.py docs/results/resolution.csv --show

The first two append rows as they are made, the third writes a table and a plot beside them. PatchCore has the settings
of params.yaml but a coreset of 1 %; one thread, three draws. At most 200 images of train/good fit. At most 80 others of
them set the threshold: 5 % of them lie above it. At most 300 normal and all defective test images judge. `small` is the
third of the defective images whose masks mark the smallest share; without masks there is none. `tiles`: the side of the
parts in which the network sees a large input.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from embedded import append, network, network_arguments

from adshift.data import datasets
from adshift.data.images import load_mask
from adshift.detectors import registry
from adshift.evaluation.metrics.ranking import Ranked
from adshift.features import extract
from adshift.features.backbones import Backbone
from adshift.features.store import Features
from adshift.project import params
from adshift.runtime import provenance, seeding

SIDES = ((128, None), (224, None), (320, None), (512, None), (512, 256))  # of the input, and of its tiles
DRAWS, CORESET, RATE = 3, 0.01, 0.05
TRAIN, VALIDATION, NORMAL = 200, 80, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--show", action="store_true", help="write table and plot of the rows that are there")
    parser.add_argument("--dataset")
    parser.add_argument("--root")
    parser.add_argument("--name", help="class")
    network_arguments(parser)
    args = parser.parse_args()
    if args.show:
        show(args.out)
        return
    if not (args.dataset and args.root and args.name and args.weights):
        parser.error("--dataset, --root, --name and --weights are needed")
    os.environ["ADSHIFT_THREADS"] = "1"
    settings = params.load_all()
    with tempfile.TemporaryDirectory() as folder:
        items = datasets.build(args.dataset, args.root, [args.name], Path(folder))[args.name]
        chosen = drawn(items, args.name)
        for side, tiles in SIDES:
            fit = "tile" if tiles else "squeeze"
            look = network(settings, args, resize=side, crop=None, tiles=tiles, fit=fit)
            start = time.perf_counter()
            stored = Path(folder) / f"{side}-{tiles}"
            images = [item for part in chosen.values() for item in part]
            extract.embed(images, Backbone(look), stored, what=args.name)
            milliseconds = 1000 * (time.perf_counter() - start) / len(images)
            base = {"class": args.name, "backbone": args.backbone, "side": side, "tiles": tiles or "",
                    "embed_ms": round(milliseconds, 1)}  # fmt: skip
            for draw in range(DRAWS):
                append(args.out, {**base, "draw": draw, **measured(settings, Features.open(stored), chosen, draw)})


def drawn(items: list[Any], name: str) -> dict[str, list[Any]]:
    """{part: its images}."""
    generator = seeding.generator(42, "resolution", name)
    kinds = {
        part: [item for item in items if (item.part, item.anomalous) == (part, anomalous)]
        for part, anomalous in (("train", False), ("test", False))
    }
    good, normal = ([some[index] for index in generator.permutation(len(some))] for some in kinds.values())
    return {"train": good[:TRAIN], "validation": good[TRAIN : TRAIN + VALIDATION], "normal": normal[:NORMAL],
            "defective": [item for item in items if item.part == "test" and item.anomalous]}  # fmt: skip


def measured(settings: Any, features: Features, chosen: dict[str, list[Any]], draw: int) -> dict[str, Any]:
    """What a PatchCore of this draw makes of the images."""
    kinds, section = registry.schemas("patchcore"), {**dict(settings.patchcore), "coreset": CORESET}
    parts = {part: features.select([item.name for item in items]) for part, items in chosen.items()}
    detector = registry.detector_class("patchcore")(kinds["fit"].within(section))
    registry.warm_up("patchcore")
    start = time.perf_counter()
    detector.fit(parts.pop("train"), seeding.generator(settings.seed, "resolution", str(draw)))
    fitted = time.perf_counter()
    scores = {part: detector.predict(some, kinds["score"].within(section)).scores for part, some in parts.items()}
    seconds = time.perf_counter() - fitted
    threshold = np.quantile(scores["validation"], 1 - RATE)
    caught, shares = scores["defective"] > threshold, [share(item) for item in chosen["defective"]]
    small = None
    bad = np.repeat([False, True], [len(scores["normal"]), len(caught)])
    if None not in shares:
        small = np.zeros(len(shares), bool)
        small[np.argsort(np.array(shares), kind="stable")[: len(shares) // 3]] = True
    ranked = Ranked.of(np.concatenate([scores["normal"], scores["defective"]]), bad)
    return {
        "image_auroc": round(float(ranked.auroc() or 0), 4),
        "specificity": round(float((scores["normal"] <= threshold).mean()), 4),
        "recall": round(float(caught.mean()), 4),
        "recall_small": "" if small is None else round(float(caught[small].mean()), 4),
        "recall_others": "" if small is None else round(float(caught[~small].mean()), 4),
        "fit_seconds": round(fitted - start, 2),
        "score_ms": round(1000 * seconds / sum(map(len, scores.values())), 2),
        "bank_rows": len(detector.bank),
    }  # fmt: skip


def share(item: Any) -> float | None:
    """The share of an image that its mask marks; None without a mask."""
    return float(load_mask(item).mean()) if item.mask_known else None


def show(path: Path) -> None:
    """Write a table and a plot beside the CSV."""
    import pandas as pd
    import vl_convert

    rows = pd.read_csv(path)
    measures = ["image_auroc", "specificity", "recall", "recall_small", "recall_others"]
    costs = ["embed_ms", "fit_seconds", "score_ms", "bank_rows"]
    lines = ["# Small defects and the side of the input", "",
             "| " + " | ".join(["class", "side", "tiles", *measures, *costs]) + " |",
             "| --- | ---: | ---: |" + " ---: |" * (len(measures) + len(costs))]  # fmt: skip
    for (name, side, tiles), some in rows.fillna({"tiles": 0}).groupby(["class", "side", "tiles"], sort=False):
        cells = [name, str(side), f"{tiles:g}" if tiles else ""]
        cells += [
            "" if some[one].isna().all() else f"{some[one].mean():.3f} ± {some[one].std():.3f}" for one in measures
        ]
        lines.append("| " + " | ".join([*cells, *(f"{some[one].median():g}" for one in costs)]) + " |")
    lines += ["", f"Mean and standard deviation of {DRAWS} draws; costs are medians, on one thread.", "",
              f"![Recall over the side of the input]({path.stem}.svg)", "",
              f"Table written with {provenance.sentence(provenance.provenance())}."]  # fmt: skip
    path.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    long = rows[rows.tiles.isna()].melt(["class", "side"], ["recall", "recall_small", "recall_others"]).dropna()
    specification = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "data": {"values": json.loads(long.to_json(orient="records"))},
        "mark": {"type": "line", "point": True},
        "width": 240,
        "height": 160,
        "encoding": {
            "x": {"field": "side", "type": "quantitative", "title": "side of the input, pixels"},
            "y": {"field": "value", "aggregate": "mean", "type": "quantitative", "title": "recall"},
            "color": {"field": "variable", "type": "nominal", "title": None},
            "column": {"field": "class", "type": "nominal"},
        },
    }
    path.with_suffix(".svg").write_text(vl_convert.vegalite_to_svg(specification), encoding="utf-8")


if __name__ == "__main__":
    main()
