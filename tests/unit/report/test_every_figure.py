"""Every figure of every table and chart that the stages `aggregate` and `timings` write, against an oracle.

A world is a set of evaluation files in which all values differ, whatever the method, class, scenario, metric or
resample: whatever the product takes from another place than the table says changes a figure. The oracle below shares
no code with the product: columns, headings, titles and notes are literal text, means and intervals plain Python.
"""

import csv
import json
import math
import random
import runpy
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import combinations, count, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adshift.project import params

DEVICE = "some card"
ROOT = Path(__file__).parents[3]
MEAN = "(mean)"  # what the column `class` says of a mean of classes

# Scenario -> (which maps its pixel metrics are measured on, its label)
SCENARIOS = {
    "clean": ("clean-on-clean", "Clean"),
    "shift_no_adaptation": ("clean-on-shift", "Shift, no adaptation"),
    "shift_normalised": ("clean-on-shift-normalise", "Shift, normalized"),
    "shift_aligned": ("clean-on-shift-align", "Shift, aligned"),
    "shift_hardened": ("clean-on-shift-harden", "Shift, hardened"),
    "shift_threshold_only": ("clean-on-shift", "Shift, new threshold"),
    "shift_adapted": ("clean-on-shift-adapt", "Shift, adapted"),
    "shift_full_adaptation": ("shift-on-shift", "Shift, refit"),
    "unified": ("unified", "Unified, clean"),
    "unified_absolute": ("unified", "Unified, one threshold"),
    "clean_normalised": ("clean-on-clean-normalise", "Clean, normalized"),
    "clean_aligned": ("clean-on-clean-align", "Clean, aligned"),
    "clean_hardened": ("clean-on-clean-harden", "Clean, hardened"),
    "clean_threshold_only": ("clean-on-clean", "Clean again, new threshold"),
    "clean_adapted": ("clean-on-clean-adapt", "Clean again, adapted"),
    "clean_full_adaptation": ("shift-on-clean", "Clean again, refit"),
}
PAIRS = tuple(dict.fromkeys(pair for pair, _ in SCENARIOS.values()))
LABELS = {
    "patchcore": "PatchCore", "padim": "PaDiM", "stfpm": "STFPM", MEAN: "mean of classes",
    **{name: shown for name, (_, shown) in SCENARIOS.items()},
}  # fmt: skip

PUBLISHED = ("clean", "shift_no_adaptation", "shift_threshold_only", "shift_full_adaptation", "unified")

# Metric -> (level and key of the evaluation files, heading)
METRICS = {
    "image_auroc": ("image", "auroc", "image AUROC"),
    "image_auprc": ("image", "auprc", "image AUPRC"),
    "image_f1": ("image", "f1", "image F1"),
    "accuracy": ("image", "accuracy", "accuracy"),
    "precision": ("image", "precision", "precision"),
    "recall": ("image", "recall", "recall"),
    "specificity": ("image", "specificity", "specificity"),
    "image_best_f1_upper_bound": ("image", "best_f1_upper_bound", "image best F1 (upper bound)"),
    "pixel_auroc": ("pixel", "auroc", "pixel AUROC"),
    "pixel_auprc": ("pixel", "auprc", "pixel AUPRC"),
    "pixel_best_f1_upper_bound": ("pixel", "best_f1_upper_bound", "pixel best F1 (upper bound)"),
    "pro": ("pixel", "pro", "PRO"),
    "aupimo": ("pixel", "aupimo", "AUPIMO"),
}
# Rows of the replicates
DRAWN = (
    "image_auroc",
    "image_auprc",
    "image_f1",
    "accuracy",
    "precision",
    "recall",
    "specificity",
)  # rows of replicates
NEED_A_THRESHOLD = ("image_f1", "accuracy", "precision", "recall", "specificity")
COUNTS = ("tn", "fp", "fn", "tp")
ABLATED = ("image_auroc", "image_auprc", "image_f1", "accuracy")
RESAMPLES = 23

INTERVALS = "In brackets: 95 % intervals over test images, for models and thresholds as they are (bootstrap)."
UPPER_BOUND = (
    "Thresholds were chosen on the test images (split.protocol: official; where nothing adapts to a shift, on their "
    "clean originals): F1 at a threshold chosen on the same images is an upper bound; other "
    "figures that need a threshold are not results."
)


@dataclass
class World:
    """What was measured, as it is written to the files that the stages read."""

    dataset: str
    classes: tuple[str, ...]
    methods: tuple[str, ...]
    backbone: str = "resnet50"
    on: str = "val"
    ratios: tuple[float, ...] = (0.1, 0.01, 0.25)
    domains: tuple[str, ...] = ("both",)
    theirs: bool = False  # whether the study's values stand beside ours
    undefined: bool = False
    values: dict[tuple[str, ...], Any] = field(default_factory=dict)  # (level, method, class, scenario or pair, key)
    drawn: dict[tuple[str, ...], list[list[float]]] = field(default_factory=dict)  # (method, class, scenario): rows
    cross: dict[tuple[str, str, str], float | None] = field(default_factory=dict)
    ablation: dict[tuple[str, float], dict[str, Any]] = field(default_factory=dict)
    seconds: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    published: dict[tuple[str, ...], float] = field(default_factory=dict)
    roles: dict[tuple[str, str], dict[tuple[str, str], int]] = field(default_factory=dict)
    printed: dict[str, dict[str, int]] = field(default_factory=dict)
    paper: list[tuple[str, str, float, float]] = field(default_factory=list)  # method, class, two metrics


STUDY = ("hazelnut", "carpet", "zipper")
WORLDS = {
    "the study": World("mvtec", STUDY, ("patchcore", "padim"), theirs=True),
    "the study, official protocol": World("mvtec", STUDY, ("patchcore", "padim"), on="test"),
    "the study, another backbone": World("mvtec", STUDY, ("padim",), backbone="resnet18"),
    "the study, two classes": World("mvtec", STUDY[:2], ("patchcore", "padim")),
    "the study, one class more": World("mvtec", (*STUDY, "tile"), ("patchcore",)),
    "another data set": World("sample", STUDY, ("patchcore",)),
    "recorded drift": World("magnetic_tile", ("b2", "a1"), ("stfpm", "patchcore", "padim"), domains=("clean", "shift")),
    "undefined metrics": World("visa", ("b2", "a1", "c3"), ("padim", "stfpm"), undefined=True),
}  # fmt: skip


def different() -> Iterator[float]:
    """Numbers between 0 and 1 of nine digits, no two alike to five, and no two equally far apart."""
    generator, seen = random.Random(1), {0.0}
    while True:
        number = round(generator.random(), 9)
        if round(number, 5) not in seen:
            seen.add(round(number, 5))
            yield number


def filled(name: str) -> World:
    world, number, whole = deepcopy(WORLDS[name]), different(), count(3)
    _measure(world, number, whole)
    _count(world, number, whole)
    if len(world.methods) > 1:
        _tie(world)
    if world.undefined:
        _undefine(world)
    # The study printed most of what it has; some of it here, and of a method that is not among ours.
    for method in ("patchcore", "padim", "draem"):
        for scenario in PUBLISHED:
            for one in (*STUDY, MEAN):
                for metric in ("image_auroc", "specificity", "recall", "pro", "image_f1"):
                    value = next(number)
                    if value > 0.3:
                        world.published[scenario, method, one, metric] = round(value, 3)
    parts = [f"{role}_{kind}" for role in ("train", "val", "test") for kind in ("normal", "anomalous")]
    world.printed = {name: {part: 100 + next(whole) for part in parts} for name in STUDY}
    world.paper = [
        (method, one, round(next(number), 3), round(next(number), 3))
        for method in ("padim", "draem", "patchcore")
        for one in (*STUDY[1:], "avg")
    ]
    return world


def _measure(world: World, number: Iterator[float], whole: Iterator[int]) -> None:
    for method in world.methods:
        for name in world.classes:
            for scenario in SCENARIOS:
                for key in ("auroc", "auprc", "f1", "accuracy", "precision", "recall", "specificity",
                            "best_f1_upper_bound"):  # fmt: skip
                    world.values["image", method, name, scenario, key] = next(number)
                world.values["image", method, name, scenario, "threshold"] = 20 + 80 * next(number)
                for key in (*COUNTS, "set_by"):
                    world.values["image", method, name, scenario, key] = next(whole)
                # Replicates lie around the value, so that some methods differ clearly and some by chance.
                centres = [world.values["image", method, name, scenario, METRICS[metric][1]] for metric in DRAWN]
                world.drawn[method, name, scenario] = [
                    [centre + 0.4 * (next(number) - 0.5) for _ in range(RESAMPLES)] for centre in centres
                ]
            for pair in PAIRS:
                for key in ("auroc", "auprc", "best_f1_upper_bound", "pro", "aupimo"):
                    world.values["pixel", method, name, pair, key] = next(number)
        for of in world.classes:
            for to in world.classes:
                world.cross[method, of, to] = next(number)
        for name, domain in [*((one, where) for one in world.classes for where in ("clean", "shift")),
                             ("unified", "clean")]:  # fmt: skip
            world.seconds["fit", method, name, domain] = next(whole), 10 * next(number)


def _count(world: World, number: Iterator[float], whole: Iterator[int]) -> None:
    """The coreset ablation, and images of every part."""
    for name in world.classes:
        for ratio in world.ratios:
            world.ablation[name, ratio] = {key: next(number) for key in ("auroc", "auprc", "f1", "accuracy")}
            world.ablation[name, ratio]["rows"] = 1000 + next(whole)
            world.seconds["ablate", name, ratio] = 10 * next(number)
        for domain in world.domains:
            kinds = [(role, kind) for role in ("train", "val", "test", "unused") for kind in ("good", "cut", "hole")]
            world.roles[name, domain] = dict(zip(kinds, (2 + next(whole) % 17 for _ in kinds), strict=True))


def _tie(world: World) -> None:
    """Equal in every resample; or better in most resamples, and equal in the worst ones."""
    name = world.classes[-1]
    one, other = (world.drawn[method, name, "unified"] for method in world.methods[:2])
    other[2] = list(one[2])
    one[3] = [value + max(0.0, 0.01 * (place - 2)) for place, value in enumerate(other[3])]
    other[4] = [value + max(0.0, 0.01 * (place - 2)) for place, value in enumerate(one[4])]


def _undefine(world: World) -> None:
    method, name = world.methods[0], world.classes[1]
    for key in ("pro", "aupimo"):
        world.values["pixel", method, name, "clean-on-shift", key] = None
    for one in world.classes:
        world.values["pixel", method, one, "unified", "pro"] = None
        world.values["image", world.methods[1], one, "clean", "auroc"] = None
        world.drawn[world.methods[1], one, "clean"][0] = [math.nan] * RESAMPLES
    world.values["image", method, name, "unified", "auroc"] = None
    world.drawn[method, name, "unified"][0] = [math.nan] * RESAMPLES
    world.values["image", method, name, "unified", "f1"] = 0.0  # which is defined
    world.cross[method, name, world.classes[0]] = None
    world.ablation[name, world.ratios[0]]["auroc"] = None


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_csv(path: Path, columns: list[str], rows: list[list[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def write(world: World) -> None:
    """Everything that the two stages read, in the working directory, and some of what they must not."""
    evaluation = Path("data/evaluation") / world.dataset
    stranger = "stranger"  # a class on disk that params.yaml does not name
    for method in world.methods:
        image = {stranger: {scenario: {"auroc": 9.9} for scenario in SCENARIOS}}
        pixel = {stranger: {pair: {"auroc": 9.9} for pair in PAIRS}}
        for (level, of, name, place, key), value in world.values.items():
            if of == method and key != "set_by":
                (image if level == "image" else pixel).setdefault(name, {}).setdefault(place, {})[key] = value
        names = (stranger, *world.classes)
        cross = {of: {to: world.cross.get((method, of, to), 9.9) for to in names} for of in names}
        set_by = {name: {one: world.values["image", method, name, one, "set_by"] for one in SCENARIOS}
                  for name in world.classes}  # fmt: skip
        report = {"on": world.on, "classes": image, "set_by": set_by, "cross_class": cross}
        write_json(evaluation / f"image/{method}.json", report)
        write_json(evaluation / f"pixel/{method}.json", pixel)
        (evaluation / "bootstrap").mkdir(exist_ok=True)
        drawn = {f"{name}/{scenario}": rows for (of, name, scenario), rows in world.drawn.items() if of == method}
        np.savez(evaluation / f"bootstrap/{method}.npz", **drawn)
        for table, columns in {"roc": ["fpr", "tpr"], "pr": ["recall", "precision"], "scores": ["score"]}.items():
            path = evaluation / f"curves/{method}/{table}.csv"
            write_csv(path, ["class", "scenario", *columns], [[world.classes[0], "clean", *columns]])
    write_json(evaluation / "image/unnamed.json", {"on": "elsewhere"})
    ablation: dict[str, dict[str, Any]] = {stranger: {}}
    for (name, ratio), entry in world.ablation.items():
        ablation.setdefault(name, {"0.77": {**entry, "auroc": 9.9}})[str(ratio)] = entry
    write_json(evaluation / "ablation.json", {"classes": ablation})
    for key, found in world.seconds.items():
        if key[0] == "fit":
            method, name, domain = key[1:]
            record = {"stage": "fit", "method": method, "class": name, "domain": domain, "images": found[0]}
            path = Path("timings") / world.dataset / f"fit/{method}-{name}-{domain}.json"
            write_json(path, {**record, "device": DEVICE, "seconds": found[1]})
    for name in world.classes:
        seconds = {str(ratio): world.seconds["ablate", name, ratio] for ratio in world.ratios}
        write_json(Path("timings") / world.dataset / f"ablate/{name}.json", {"class": name, "seconds": seconds})
        rows = [
            # The first name, in order, is one of the shifted domain.
            [f"test/{defect}/{place}-{role}-{'z' if domain == 'clean' else 'a'}", role, domain]
            for domain in world.domains
            for (role, defect), images in world.roles[name, domain].items()
            for place in range(images)
        ]
        write_csv(Path("data/split") / world.dataset / f"{name}.csv", ["name", "role", "domain"], rows)
    write_csv(
        Path("reference/shift_study.csv"), ["source", "scenario", "method", "class", "metric", "value"],
        [["table", *key, value] for key, value in world.published.items()],
    )  # fmt: skip
    parts = list(world.printed["zipper"])
    write_csv(
        Path("reference/shift_study_splits.csv"), ["class", *parts],
        [[name, *(row[part] for part in parts)] for name, row in world.printed.items()],
    )  # fmt: skip
    columns = ["method", "class", "image_auroc", "pixel_auroc"]
    write_csv(Path("reference/paper.csv"), columns, [list(row) for row in world.paper])
    columns = ["file", "source", "dataset", "protocol", "backbone", "resize", "crop", "scenario"]
    write_csv(
        Path("reference/sources.csv"), columns,
        [["shift_study.csv", "The study", "mvtec", "study", "resnet50", 224, "", ""],
         ["paper.csv", "A paper", "mvtec_ad", "", "", "", "", "clean"]],
    )  # fmt: skip
    known = params.read(ROOT / "params.yaml")
    known["features"]["resize"], known["features"]["crop"] = 224, None
    known["dataset"]["name"] = world.dataset
    known["classes"], known["methods"] = list(world.classes), list(world.methods)
    known["features"]["backbone"], known["ablation"]["ratios"] = world.backbone, list(world.ratios)
    Path("params.yaml").write_text(json.dumps(known))


# The oracle. A cell is text, a number, None, or a triple of a value and the ends of its interval.


def average(values: list[Any]) -> Any:
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None


def ends(values: list[float]) -> tuple[Any, Any]:
    """The 2.5 % and 97.5 % quantiles, linear between order statistics."""
    if any(math.isnan(value) for value in values):
        return None, None
    ordered, found = sorted(values), []
    for level in (0.025, 0.975):
        place = level * (len(ordered) - 1)
        low = math.floor(place)
        found.append(ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]))
    return found[0], found[1]


class Oracle:
    def __init__(self, world: World) -> None:
        self.world = world
        self.names = [*world.classes, MEAN]

    def value(self, method: str, scenario: str, name: str, metric: str) -> Any:
        if name == MEAN:
            return average([self.value(method, scenario, one, metric) for one in self.world.classes])
        level, key, _ = METRICS.get(metric, ("image", metric, ""))
        place = scenario if level == "image" else SCENARIOS[scenario][0]
        return self.world.values[level, method, name, place, key]

    def drawn(self, method: str, scenario: str, name: str, metric: str) -> list[float]:
        if name == MEAN:
            sets = [self.drawn(method, scenario, one, metric) for one in self.world.classes]
            return [average([None if math.isnan(one) else one for one in row]) for row in zip(*sets, strict=True)]
        return self.world.drawn[method, name, scenario][DRAWN.index(metric)]

    def estimate(self, method: str, scenario: str, name: str, metric: str) -> tuple[Any, Any, Any]:
        value = self.value(method, scenario, name, metric)
        if value is None or metric not in DRAWN:
            return value, None, None
        return value, *ends(self.drawn(method, scenario, name, metric))

    def gap(self, one: tuple[str, str], other: tuple[str, str], name: str, metric: str) -> tuple[Any, Any, Any]:
        ours, theirs = self.value(*one, name, metric), self.value(*other, name, metric)
        if ours is None or theirs is None:
            return None, None, None
        if metric not in DRAWN:
            return ours - theirs, None, None
        sets = zip(self.drawn(*one, name, metric), self.drawn(*other, name, metric), strict=True)
        return ours - theirs, *ends([first - second for first, second in sets])

    def key(self, metric: str) -> str:
        return f"{metric}_on_test" if self.world.on == "test" and metric in NEED_A_THRESHOLD else metric

    def heading(self, metric: str) -> str:
        if self.key(metric) == metric:
            return METRICS[metric][2]
        if metric == "image_f1":
            return "image F1 (upper bound, threshold chosen on test)"
        return f"{METRICS[metric][2]} (threshold chosen on test)"

    def having(self, method: str, scenario: str, metric: str) -> int:
        return sum(self.value(method, scenario, one, metric) is not None for one in self.world.classes)

    def partial(self, scenarios: list[str], metrics: tuple[str, ...]) -> list[str]:
        """Of how many classes a mean is, where it is not of all: the fewest of the table."""
        methods, every = self.world.methods, len(self.world.classes)
        fewest = {one: min(self.having(method, scenario, one) for method in methods for scenario in scenarios)
                  for one in metrics}  # fmt: skip
        said = [f"{METRICS[one][2]} of {few}" for one, few in fewest.items() if few < every]
        text = f"Means are of the classes that have the figure: {', '.join(said)} of {every} classes."
        return [text] if said else []

    def note(self, *texts: str, metrics: tuple[str, ...] = ()) -> str:
        chosen_on_test = self.world.on == "test" and any(metric in NEED_A_THRESHOLD for metric in metrics)
        return " ".join([*texts, *([UPPER_BOUND] if chosen_on_test else [])])


@dataclass
class Expected:
    """A table. A column is its key in CSV, its heading in Markdown, and how its cells look there."""

    title: str
    columns: list[tuple[str, str, str]]
    rows: list[list[Any]]
    note: str = ""

    def csv(self) -> list[list[Any]]:
        header = []
        for key, _, kind in self.columns:
            header += [key, f"{key}_low", f"{key}_high"] if "interval" in kind and self.rows else [key]
        rows = []
        for row in self.rows:
            cells: list[Any] = []
            for cell in row:
                cells += cell if isinstance(cell, tuple) else [cell]
            rows.append(cells)
        return [header, *rows]

    def markdown(self) -> str:
        rows = [[shown(cell, kind) for cell, (*_, kind) in zip(row, self.columns, strict=True)] for row in self.rows]
        first = self.rows[0] if self.rows else ["text"] * len(self.columns)
        rule = ["---" if isinstance(cell, str) else "---:" for cell in first]
        table = [[heading for _, heading, _ in self.columns], rule, *rows]
        text = f"# {self.title}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in table)
        return text + (f"\n{self.note}\n" if self.note else "")


def shown(cell: Any, kind: str) -> str:
    if cell is None:
        return "\N{EN DASH}"
    if isinstance(cell, str):
        return LABELS.get(cell, METRIC_LABELS.get(cell, cell)) if kind == "label" or cell == MEAN else cell
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, tuple):
        plain = kind.replace("interval", "").strip()
        value, low, high = (shown(part, plain) for part in cell)
        return value if cell[1] is None else f"{value} [{low}, {high}]"
    patterns = {"signed": "%+.3f", "whole": "%.0f", "seconds": "%.1f", "ratio": "%g"}
    return patterns.get(kind, "%.3f") % cell


METRIC_LABELS = {
    **{metric: heading for metric, (_, _, heading) in METRICS.items()},
    "image_f1_on_test": "image F1 (upper bound, threshold chosen on test)",
    "specificity_on_test": "specificity (threshold chosen on test)",
}
WHO = [("method", "method", "label"), ("scenario", "scenario", "label"), ("class", "class", "")]


def measured(oracle: Oracle, title: str, scenarios: list[str], names: list[str], metrics: tuple[str, ...]) -> Expected:
    """Tables 2 to 6 and the cost of adaptation."""
    theirs = oracle.world.published if oracle.world.theirs else {}
    beside = {metric: metric in ("image_auroc", "specificity", "recall", "pro", "image_f1") and bool(theirs)
              for metric in metrics}  # fmt: skip
    columns, rows = list(WHO), []
    for metric in metrics:
        columns.append((oracle.key(metric), oracle.heading(metric), "interval"))
        if beside[metric]:
            columns += [(f"{metric}_published", "published", ""), (f"{metric}_difference", "difference", "signed")]
    for method in oracle.world.methods:
        for name in names:
            for scenario in scenarios:
                row: list[Any] = [method, scenario, name]
                for metric in metrics:
                    estimate = oracle.estimate(method, scenario, name, metric)
                    row.append(estimate)
                    if beside[metric]:
                        there = theirs.get((scenario, method, name, metric))
                        row += [there, None if None in (there, estimate[0]) else estimate[0] - there]
                rows.append(row)
    note = " ".join([oracle.note(INTERVALS, metrics=metrics), *oracle.partial(scenarios, metrics)])
    return Expected(title, columns, rows, note)


def split_table(world: World) -> Expected:
    columns, rows = [("class", "class", ""), ("domain", "domain", "")], []
    for role in ("train", "val", "test"):
        for kind in ("normal", "anomalous"):
            columns.append((f"{role}_{kind}", f"{role} {kind}", ""))
            if world.theirs:
                columns += [
                    (f"{role}_{kind}_published", "published", ""),
                    (f"{role}_{kind}_difference", "difference", ""),
                ]
    for name in world.classes:
        for domain in world.domains:
            row: list[Any] = [name, domain]
            images = world.roles[name, domain]
            for role in ("train", "val", "test"):
                found = {"normal": images[role, "good"], "anomalous": images[role, "cut"] + images[role, "hole"]}
                for kind in ("normal", "anomalous"):
                    row.append(found[kind])
                    if world.theirs:
                        there = world.printed[name][f"{role}_{kind}"]
                        row += [there, found[kind] - there]
            rows.append(row)
    note = "No image validates: thresholds were chosen on the test images." if world.on == "test" else ""
    if world.theirs:
        note = "The study prints 36 for zipper's val anomalous; its row then sums to one image too many."
    return Expected("Table 1: images in each part", columns, rows, note)


def differences(oracle: Oracle, title: str, names: list[str], metrics: tuple[str, ...]) -> Expected:
    rows = []
    for one, other in combinations(oracle.world.methods, 2):
        for scenario in SCENARIOS:
            for name in names:
                for metric in metrics:
                    gap = oracle.gap((one, scenario), (other, scenario), name, metric)
                    better = None
                    if gap[1] is not None:
                        better = "tie" if gap[1] <= 0 <= gap[2] else one if gap[1] > 0 else other
                    rows.append([one, other, scenario, name, oracle.key(metric), gap, better])
    columns = [("method", "method", "label"), ("than", "than", "label"), *WHO[1:], ("metric", "metric", "label"),
               ("difference", "difference", "signed interval"), ("better", "better", "label")]  # fmt: skip
    text = "Same test images, resampled alike for both methods; a tie where the interval holds 0."
    return Expected(title, columns, rows, oracle.note(text, INTERVALS, metrics=("image_f1",)))


def published(oracle: Oracle) -> Expected:
    """Figures of the study and of a paper that says neither its backbone nor its resolution."""
    world = oracle.world
    printed = [
        ("A paper", "clean", method, MEAN if one == "avg" else one, metric, value)
        for method, one, *values in world.paper
        for metric, value in zip(("image_auroc", "pixel_auroc"), values, strict=True)
    ]
    printed += [("The study", *key, value) for key, value in world.published.items()]
    means = {"A paper": {"carpet", "zipper"}, "The study": set(STUDY)}
    rows: list[list[Any]] = []
    left: dict[str, int] = {}
    for source, scenario, method, one, metric, value in printed:
        reason = ""
        if method not in world.methods:
            reason = "method not in this run"
        elif one == MEAN and means[source] != set(world.classes):
            reason = "a mean over other classes"
        elif one != MEAN and one not in world.classes:
            reason = "class not in this run"
        elif source == "The study" and world.on == "test":
            reason = "other protocol (study)"
        elif source == "The study" and world.backbone != "resnet50":
            reason = "other backbone (resnet50)"
        if reason:
            left[reason] = left.get(reason, 0) + 1
            continue
        ours = oracle.estimate(method, scenario, one, metric)
        gap = ours[0] - value
        unsaid = "resolution backbone" if source == "A paper" else ""
        rows.append([method, scenario, one, metric, value, ours, gap, "yes" if abs(gap) > 0.02 else "", unsaid, source])
    columns = [*WHO, ("metric", "metric", "label"), ("published", "published", ""), ("ours", "ours", "interval"),
               ("difference", "difference", "signed"), ("above_0.02", "above 0.02", ""),
               ("not_printed", "not printed", ""), ("source", "source", "")]  # fmt: skip
    protocol = "official" if world.on == "test" else "study"
    counted = "; ".join(f"{number} {reason}" for reason, number in sorted(left.items(), key=lambda one: -one[1]))
    note = f"This run: {world.backbone}, 224 pixels, protocol {protocol}. In brackets 95 % intervals over test images; "
    note += f"the sources print none. Left out: {counted}."
    return Expected("Published figures beside this run's", columns, rows, note)


def tables(world: World) -> dict[str, Expected]:
    oracle = Oracle(world)
    names, value = oracle.names, oracle.value
    shifted = ["shift_no_adaptation", "shift_normalised", "shift_aligned", "shift_hardened", "shift_threshold_only",
               "shift_adapted", "shift_full_adaptation"]  # fmt: skip
    found = {
        "table1_splits": split_table(world),
        "table2_clean": measured(oracle, "Table 2: clean domain", ["clean"], names,
                                 ("image_auroc", "image_auprc", "image_f1", "pixel_auroc", "pro", "aupimo")),
        "table3_specificity": measured(oracle, "Table 3: specificity when the domain shifts and nothing adapts",
                                       ["clean", "shift_no_adaptation"], names, ("specificity", "recall")),
        "table4_shift_ranking": measured(oracle, "Table 4: ranking and localization under shift", shifted, [MEAN],
                                         ("image_auroc", "pixel_auroc", "pro", "aupimo")),
        "table5_shift_decisions": measured(oracle, "Table 5: decisions under shift", ["clean", *shifted], [MEAN],
                                           ("image_f1", "specificity", "accuracy")),
        "table6_unified": measured(oracle, "Table 6: one model for all classes",
                                   ["clean", "unified", "unified_absolute"], [MEAN],
                                   ("image_auroc", "pixel_auroc", "pro", "aupimo", "image_f1", "specificity")),
        "cost_of_levers": measured(oracle, "What a lever costs where nothing drifts: clean test images",
                                   ["clean", "clean_normalised", "clean_aligned", "clean_hardened"], names,
                                   ("image_auroc", "image_f1", "specificity", "recall", "pixel_auroc", "pro")),
        "cost_of_adaptation": measured(oracle, "What adapting costs once the drift has gone: clean test images",
                                       ["clean", "clean_threshold_only", "clean_adapted",
                                        "clean_full_adaptation"], names,
                                       ("image_auroc", "image_f1", "specificity", "recall", "pixel_auroc", "pro")),
    }  # fmt: skip
    rows: list[list[Any]] = []
    for name in names:
        for ratio in sorted(world.ratios):
            entries = [world.ablation[one, ratio] for one in ([name] if name != MEAN else world.classes)]
            keys = ["rows", *(METRICS[metric][1] for metric in ABLATED)]
            figures = [entries[0][key] if len(entries) == 1 and name != MEAN else average([e[key] for e in entries])
                       for key in keys]  # fmt: skip
            rows.append([name, ratio, *figures])
    columns = [("class", "class", ""), ("ratio", "ratio", "ratio"), ("rows", "rows", "whole")]
    columns += [(oracle.key(metric), oracle.heading(metric), "") for metric in ABLATED]
    title = "Table 7: PatchCore's coreset ratio, fitted and tested on the shifted domain"
    note = oracle.note("Fit times stand in timings.md, the only table that differs between runs.", metrics=ABLATED)
    found["table7_coreset"] = Expected(title, columns, rows, note)

    summarized = ("image_auroc", "image_f1", "specificity", "pixel_auroc", "pro")
    rows = []
    for method in world.methods:
        for name in names:
            for metric in summarized:
                own, pooled = (value(method, scenario, name, metric) for scenario in ("clean", "unified"))
                gap = oracle.gap((method, "clean"), (method, "unified"), name, metric)
                rows.append([method, name, oracle.key(metric), own, pooled, gap])
    columns = [("method", "method", "label"), ("class", "class", ""), ("metric", "metric", "label")]
    columns += [("per_class", "per class", ""), ("unified", "Unified, clean", ""), ("gap", "gap", "signed interval")]
    note = oracle.note(INTERVALS, metrics=summarized)
    found["unified_gap"] = Expected("Per-class models against one unified model", columns, rows, note)

    rows = [[method, of, to, world.cross[method, of, to]]
            for method in world.methods for of in world.classes for to in world.classes]  # fmt: skip
    columns = [("method", "method", "label"), ("threshold_of", "threshold of", ""),
               ("applied_to", "applied to", ""), ("fpr", "false-positive rate", "")]  # fmt: skip
    title = "One class's threshold on another class's normal images (unified models)"
    found["cross_class"] = Expected(title, columns, rows, oracle.note(metrics=NEED_A_THRESHOLD))

    title = "Which method is better, and by how much"
    found["differences"] = differences(oracle, title, [MEAN], ("image_auroc", "image_f1", "specificity"))
    found["differences_all"] = differences(oracle, "All differences between methods", names, DRAWN)
    rows = [
        [method, scenario, name, oracle.key(metric), oracle.estimate(method, scenario, name, metric)]
        for method in world.methods
        for scenario in SCENARIOS
        for name in names
        for metric in [*METRICS, *(() if name == MEAN else ("threshold", *COUNTS))]
    ]
    rows += [
        [method, scenario, MEAN, f"{oracle.key(metric)}_classes", (having, None, None)]
        for method in world.methods
        for scenario in SCENARIOS
        for metric in METRICS
        if (having := oracle.having(method, scenario, metric)) < len(world.classes)
    ]
    columns = [*WHO, ("metric", "metric", "label"), ("value", "value", "interval")]
    found["results"] = Expected("All results", columns, rows)
    if world.dataset == "mvtec":
        found["published"] = published(oracle)
    return found


def timings(world: World) -> Expected:
    rows: list[list[Any]] = []
    for method in world.methods:
        for name in world.classes:
            for domain in ("clean", "shift"):
                images, seconds = world.seconds["fit", method, name, domain]
                rows.append(["fit", method, name, domain, images, None, DEVICE, seconds])
        images, seconds = world.seconds["fit", method, "unified", "clean"]
        rows.append(["fit", method, "unified", "clean", images, None, DEVICE, seconds])
    for name in world.classes:
        for ratio in world.ratios:
            row = ["ablate", "patchcore", name, "shift", None, ratio, None, world.seconds["ablate", name, ratio]]
            rows.append(row)
    columns = [("stage", "stage", ""), ("method", "method", "label"), ("class", "class", ""), ("domain", "domain", ""),
               ("images", "images", ""), ("ratio", "ratio", "ratio"), ("device", "device", ""),
               ("seconds", "seconds", "seconds")]  # fmt: skip
    note = "Wall time: the only table that differs between runs."
    return Expected("Time to fit, in seconds", columns, rows, note)


def new_images(world: World, method: str, name: str, scenario: str) -> int:
    """Normal images of the shifted domain that a scenario needs."""
    if scenario not in ("shift_threshold_only", "shift_adapted", "shift_full_adaptation"):
        return 0
    images: int = world.values["image", method, name, scenario, "set_by"]
    trained = world.roles[name, world.domains[-1]]["train", "good"] if scenario == "shift_full_adaptation" else 0
    return images + trained


def charts(world: World) -> dict[str, list[dict[str, Any]]]:
    """Rows of the charts that are made of tables' figures."""
    oracle = Oracle(world)
    scenarios = [
        {"method": method, "class": name, "scenario": scenario, "metric": oracle.key(metric),
         "value": oracle.value(method, scenario, name, metric)}
        for method in world.methods for scenario in SCENARIOS for name in oracle.names
        for metric in ("image_auroc", "image_f1", "recall", "specificity", "pixel_auroc", "pro")
    ]  # fmt: skip
    gap = {oracle.key(metric) for metric in ("image_auroc", "image_f1", "specificity")}
    costs = []
    for method, scenario in product(world.methods, [one for one in SCENARIOS if one.startswith("shift_")]):
        images = {name: new_images(world, method, name, scenario) for name in world.classes}
        images[MEAN] = sum(images.values()) / len(images)
        costs += [
            {"method": method, "class": name, "scenario": scenario, "images": images[name],
             "metric": oracle.key(metric), "value": oracle.value(method, scenario, name, metric)}
            for name in oracle.names for metric in ("image_auroc", "specificity", "recall")
        ]  # fmt: skip
    confusion = []
    for method in world.methods:
        for name in world.classes:
            for scenario in SCENARIOS:
                tn, fp, fn, tp = (world.values["image", method, name, scenario, key] for key in COUNTS)
                for actual, predicted, images, kind in [
                    ("normal", "normal", tn, tn + fp), ("normal", "defective", fp, tn + fp),
                    ("defective", "normal", fn, fn + tp), ("defective", "defective", tp, fn + tp),
                ]:  # fmt: skip
                    row = {"method": method, "class": name, "scenario": scenario, "actual": actual}
                    confusion.append({**row, "predicted": predicted, "count": images, "share": round(images / kind, 4)})
    [header, *rows] = tables(world)["table7_coreset"].csv()
    return {
        "scenarios": scenarios,
        "costs": costs,
        "unified_gap": [row for row in scenarios if row["scenario"] in ("clean", "unified") and row["metric"] in gap],
        "confusion": confusion,
        "coreset": [{"class": row[0], "ratio": row[1], "rows": row[2], "metric": metric, "value": value}
                    for row in rows for metric, value in zip(header[3:], row[3:], strict=True)],
        "cross_class": [{"method": method, "threshold_of": of, "applied_to": to, "fpr": value}
                        for (method, of, to), value in world.cross.items()],
    }  # fmt: skip


def six_digits(cell: Any) -> Any:
    return float(f"{cell:.6g}") if isinstance(cell, (int, float)) else cell or ""


def parsed(rows: list[list[str]]) -> list[list[Any]]:
    """CSV cells, what is a number as one."""

    def number(cell: str) -> Any:
        try:
            return float(cell)
        except ValueError:
            return cell

    return [[number(cell) for cell in row] for row in rows]


def read_csv(path: str) -> list[list[str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def run(stage: str) -> None:
    """The stage, in this process, without the watch that a process of its own needs."""
    runpy.run_path(str(ROOT / "stages" / f"{stage}.py"))["main"]()


@pytest.mark.parametrize("name", WORLDS)
def test_every_figure(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    world = filled(name)
    write(world)
    run("aggregate")
    run("timings")
    check_files(world)
    check_csv(world)
    check_markdown(world)
    check_timings(world)
    check_summary(world)
    check_charts(world)


def check_files(world: World) -> None:
    expected = tables(world)
    files = {path.name for path in Path("metrics/tables").iterdir()}
    short = {name for name, table in expected.items() if len(table.rows) <= 200}
    assert files == {f"{name}.csv" for name in expected} | {f"{name}.md" for name in short}
    assert "results" not in short and "table2_clean" in short
    assert ("differences_all" in short) == (len(world.methods) == 1)
    assert {path.name for path in Path("metrics/timings").iterdir()} == {"timings.csv", "timings.md"}


def check_csv(world: World) -> None:
    for name, table in tables(world).items():
        header, *rows = read_csv(f"metrics/tables/{name}.csv")
        expected_header, *expected = table.csv()
        assert header == expected_header, name
        found = parsed(rows)
        assert len(found) == len(expected), name
        for ours, theirs in zip(found, expected, strict=True):
            assert ours == [six_digits(cell) for cell in theirs], (name, theirs)


def check_markdown(world: World) -> None:
    for name, table in tables(world).items():
        path = Path(f"metrics/tables/{name}.md")
        if path.exists():
            assert path.read_text(encoding="utf-8") == table.markdown(), name


def check_timings(world: World) -> None:
    expected = timings(world)
    found = parsed(read_csv("metrics/timings/timings.csv"))
    assert found == [expected.csv()[0], *([six_digits(cell) for cell in row] for row in expected.csv()[1:])]
    assert Path("metrics/timings/timings.md").read_text(encoding="utf-8") == expected.markdown()


def check_summary(world: World) -> None:
    oracle = Oracle(world)
    expected: dict[str, Any] = {}
    for method in world.methods:
        for scenario in SCENARIOS:
            row = expected.setdefault(method, {}).setdefault(scenario, {})
            for metric in ("image_auroc", "image_f1", "specificity", "pixel_auroc", "pro"):
                value = oracle.value(method, scenario, MEAN, metric)
                row[oracle.key(metric)] = None if value is None else round(value, 4)
    assert json.loads(Path("metrics/summary.json").read_text()) == expected


def check_charts(world: World) -> None:
    for name, rows in charts(world).items():
        header, *found = read_csv(f"plots/curves/{name}.csv")
        assert header == list(rows[0]), name
        expected = [[six_digits(cell) for cell in row.values()] for row in rows]
        assert sorted(map(str, parsed(found))) == sorted(map(str, expected)), name


@pytest.mark.parametrize("name", WORLDS)
def test_all_figures_differ(name: str) -> None:
    """Or a swap would change nothing."""
    world = filled(name)
    figures = [value for value in world.values.values() if isinstance(value, float) and value]
    figures += [value for value in world.cross.values() if value is not None]
    figures += [value for entry in world.ablation.values() for value in entry.values() if isinstance(value, float)]
    assert len({round(value, 5) for value in figures}) == len(figures) > 200


def test_the_worlds_hold_what_they_are_to_show() -> None:
    """Ties by equality and at the interval's end, both winners, undefined figures, values of the study."""
    rows = {tuple(row[2:5]): row[5:] for row in tables(filled("the study"))["differences_all"].rows}
    assert {row[-1] for row in rows.values()} == {"tie", "patchcore", "padim"}
    assert rows["unified", "zipper", "image_f1"][0][1:] == (0, 0)
    assert rows["unified", "zipper", "accuracy"][0][1] == 0 < rows["unified", "zipper", "accuracy"][0][2]
    assert rows["unified", "zipper", "precision"][0][2] == 0 > rows["unified", "zipper", "precision"][0][1]
    assert None in {row[-1] for row in tables(filled("undefined metrics"))["differences"].rows}
    for name in ("table1_splits", "table2_clean"):
        assert any(key.endswith("_published") for key, *_ in tables(filled("the study"))[name].columns)
