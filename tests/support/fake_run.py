"""Outputs of a run that never happened: format-true files of every stage before aggregation, small and drawn at random.

Scores obey a simple world: defects score higher; drift lifts all scores of a clean model, so its thresholds break.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from adshift.data import manifest
from adshift.data.manifest import Item
from adshift.detectors.records import Predictions
from adshift.evaluation import intervals
from adshift.evaluation.metrics.counts import decide
from adshift.evaluation.scenarios import SCENARIOS
from adshift.project.paths import scores_path, split_path

DATASET, CLASSES, METHODS, RATIOS = "sample", ("hazelnut", "carpet"), ("patchcore", "padim"), (0.01, 0.05, 0.1)
RESAMPLES = 200
DEFECTS = ("crack", "hole")
EVIL = "<img src=x onerror=alert(1)>"  # a defect's name that must not reach the page as markup
# Images whose names would end or confuse the page's scripts; the first is a file `script><script>...` in a folder `<`.
HOSTILE = (
    "test/</script><script>window.hacked=1",
    "test/crack/<!--<script>",
    "test/hole/<img src=x onerror=window.hacked=1>",
    "test/hole/\"'&quot;&lt;${1}\\u003c",
)
SIDE, MAP, SIZE = 40, 8, 32  # pixels of images, maps, and of the network's input


def _names(normal: int, defective: int) -> list[str]:
    good = [f"test/good/{number:03}" for number in range(normal)]
    bad = [f"test/{(*DEFECTS, EVIL)[number % 3]}/{number:03}" for number in range(defective)]
    return sorted(good + bad)


def _write_csv(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _images(folder: Path, names: list[str], rng: np.random.Generator) -> list[Item]:
    items = []
    for number, name in enumerate(names):
        defect = name.split("/")[1]
        pixels = rng.integers(60, 190, (SIDE, SIDE, 3), dtype=np.uint8)
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        if defect != manifest.GOOD:
            mask[10:22, 15:30] = 255
            pixels[mask > 0] = (200, 40, 40)
        files = {}
        for kind, array in (("images", pixels), ("masks", mask)):
            path = folder / kind / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
            files[kind] = str(path), hashlib.sha256(path.read_bytes()).hexdigest()
        hidden = ("", "") if defect == manifest.GOOD else files["masks"]
        items.append(
            Item(name, "test", defect, files["images"][0], hidden[0], files["images"][1], hidden[1], SIDE, SIDE)
        )
    return items


def _curves(scores: np.ndarray, labels: np.ndarray) -> tuple[list[dict], list[dict]]:
    order = np.argsort(-scores)
    tp, fp = np.cumsum(labels[order]), np.cumsum(~labels[order])
    roc = [{"fpr": 0.0, "tpr": 0.0}] + [
        {"fpr": float(x), "tpr": float(y)} for x, y in zip(fp / fp[-1], tp / tp[-1], strict=True)
    ]
    pr = [{"recall": float(x), "precision": float(y)} for x, y in zip(tp / tp[-1], tp / (tp + fp), strict=True)]
    return roc, pr


def make(
    normal: int = 8, defective: int = 9, *, dataset: str = DATASET, classes=CLASSES, methods=METHODS, more=()
) -> None:
    """Write the run into the current folder; `more` are names of further test images."""
    _write_json(Path("data/sources/ignored.json"), {})  # no version of a package was ignored
    rng = np.random.default_rng(7)
    names = sorted([*_names(normal, defective), *more])
    labels = manifest.anomalous(names)
    for name in classes:
        for domain in ("clean", "shift"):
            path = manifest.path_of(dataset, name, domain)
            manifest.write(path, _images(path.parent, names, rng))
        roles = [{"name": one, "role": "test"} for one in names]
        roles += [{"name": f"train/good/{number}", "role": "train" if number < 6 else "val"} for number in range(8)]
        roles.append({"name": "test/crack/900", "role": "val"})
        _write_csv(split_path(dataset, name), [{**row, "domain": "both"} for row in roles])
    for method in methods:
        _evaluation(Path("data/evaluation") / dataset, dataset, method, classes, names, labels, rng)
    entry = {"auroc": 0.9, "auprc": 0.8, "f1": 0.75, "accuracy": 0.7}
    ablation = {
        name: {str(ratio): {**entry, "auroc": 0.8 + ratio, "rows": int(1000 * ratio)} for ratio in RATIOS}
        for name in classes
    }
    _write_json(Path("data/evaluation") / dataset / "ablation.json", {"classes": ablation})
    for method in methods:
        for name, domain in [*((one, where) for one in classes for where in ("clean", "shift")), ("unified", "clean")]:
            record = {"stage": "fit", "method": method, "class": name, "domain": domain, "images": 6, "seconds": 1.25}
            _write_json(Path("timings") / dataset / "fit" / f"{method}-{name}-{domain}.json", record)
    for name in classes:
        record = {"stage": "ablate", "class": name, "seconds": {"0.01": 0.5, "0.05": 1.5, "0.1": 2.5}}
        _write_json(Path("timings") / dataset / "ablate" / f"{name}.json", record)


def _evaluation(folder, dataset, method, classes, names, labels, rng) -> None:
    image = {"on": "val", "classes": {}, "set_by": {}, "cross_class": {}}
    pixel, tables = {}, {"roc": [], "pr": [], "scores": []}
    replicates, kept = {}, {}
    for name in classes:
        image["classes"][name], image["set_by"][name], pixel[name] = {}, {}, {}
        for scenario in SCENARIOS:
            lifted = 1.5 if scenario.name.startswith("shift") and scenario.model == "clean" else 0.0
            path = scores_path("test", dataset, method, scenario.model_of(name), scenario.pair("test"), name)
            scores = (10 + 2 * labels + rng.normal(0, 1, len(names)) + lifted).astype(np.float32)
            maps = rng.uniform(2, 6, (len(names), MAP, MAP)).astype(np.float32)
            maps[:, 3, 4] = scores
            if path not in kept:  # scenarios with the same model and images share their scores
                Predictions(tuple(names), scores, maps, SIZE, 1.0).save(path)
            scores = kept.setdefault(path, scores)
            threshold = 11.5 + (lifted if scenario.val == "shift" else 0)
            drawn = intervals.Resamples.draw(int((~labels).sum()), int(labels.sum()), RESAMPLES, 42, name)
            replicates[name, scenario.name] = intervals.replicates(scores, labels, threshold, drawn)
            called = decide(scores, threshold)
            tp, fp = int((called & labels).sum()), int((called & ~labels).sum())
            fn, tn = int((~called & labels).sum()), int((~called & ~labels).sum())
            image["set_by"][name][scenario.name] = 2
            image["classes"][name][scenario.name] = {
                "auroc": 0.9 - lifted / 10, "auprc": 0.91, "f1": 2 * tp / (2 * tp + fp + fn),
                "accuracy": (tp + tn) / len(names), "precision": tp / max(tp + fp, 1), "recall": tp / (tp + fn),
                "specificity": tn / (tn + fp), "tn": tn, "fp": fp, "fn": fn, "tp": tp, "threshold": threshold,
                "best_f1_upper_bound": 0.99,
            }  # fmt: skip
            key = "unified" if scenario.unified else scenario.pair("test")
            key += f"-{scenario.lever}" if scenario.lever else ""
            pixel[name][key] = {
                "auroc": 0.95,
                "auprc": 0.5,
                "best_f1_upper_bound": 0.6,
                "pro": None,
                "pro_limit": 0.3,
                "aupimo": 0.4,
            }
            for table, rows in zip(("roc", "pr"), _curves(scores, labels), strict=True):
                tables[table] += [{"class": name, "scenario": scenario.name, **row} for row in rows]
            tables["scores"] += [
                {"class": name, "scenario": scenario.name, "name": one, "defect": one.split("/")[1],
                 "anomalous": int(label), "score": float(score), "threshold": threshold, "predicted": int(positive)}
                for one, label, score, positive in zip(names, labels, scores, called, strict=True)
            ]  # fmt: skip
        image["cross_class"][name] = {other: 0.1 if other == name else 0.6 for other in classes}
    _write_json(folder / "image" / f"{method}.json", image)
    intervals.save(folder / "bootstrap" / f"{method}.npz", replicates)
    _write_json(folder / "pixel" / f"{method}.json", pixel)
    for table, rows in tables.items():
        _write_csv(folder / "curves" / method / f"{table}.csv", rows)


def texts(svg: str) -> list[tuple[str, float, float]]:
    """Every text of an SVG and where it stands."""
    found = []

    def walk(element, x, y):
        moved = re.match(r"translate\(([-\d.]+),([-\d.]+)\)", element.get("transform", ""))
        if moved:
            x, y = x + float(moved[1]), y + float(moved[2])
        if element.tag.endswith("text") and element.text:
            found.append((element.text, x, y))
        for child in element:
            walk(child, x, y)

    walk(ElementTree.fromstring(svg), 0, 0)
    return found


def measured(value: float, classes: Iterable[str] = ("nut", "(mean)")) -> list[dict[str, str]]:
    return [
        {"method": method, "scenario": scenario, "class": kind, "metric": metric, "value": str(value + less)}
        for method, less in (("patchcore", 0.0), ("padim", -0.125))
        for scenario in ("clean", "unified")
        for kind in classes
        for metric in ("image_auroc", "image_f1", "pro")
    ]
