"""Results of all evaluations, their macro averages, and the tables that the study prints.

Everything iterates over the classes and methods of params.yaml, never over what lies on disk. An undefined metric (no
normal or no defective image) is None; a macro average is the mean of the classes where the metric is defined.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adshift.data.manifest import GOOD, UNLABELLED
from adshift.data.split_file import read_all as read_splits
from adshift.errors import AdshiftError
from adshift.evaluation import intervals
from adshift.evaluation.scenarios import SCENARIOS, Scenario
from adshift.project.paths import split_path
from adshift.report import MACRO, ON_TEST, label
from adshift.runtime import checksums
from adshift.runtime.files import read_json

PRINTED_MACRO = "macro"  # what published tables have for `MACRO`, and ours had
IMAGE_METRICS = {
    "image_auroc": "auroc",
    "image_auprc": "auprc",
    "image_f1": "f1",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "specificity": "specificity",
    "image_best_f1_upper_bound": "best_f1_upper_bound",
}
PIXEL_METRICS = {
    "pixel_auroc": "auroc",
    "pixel_auprc": "auprc",
    "pixel_best_f1_upper_bound": "best_f1_upper_bound",
    "pro": "pro",
    "aupimo": "aupimo",
}
METRICS = (*IMAGE_METRICS, *PIXEL_METRICS)
THRESHOLDED = ("image_f1", "accuracy", "precision", "recall", "specificity")
BOOTSTRAPPED = {
    name: intervals.METRICS.index(IMAGE_METRICS[name]) for name in ("image_auroc", "image_auprc", *THRESHOLDED)
}
COMPARED = ("image_auroc", "image_f1", "specificity")  # in the tables of differences that a reader sees
TIE = "tie"
COUNTS = ("tn", "fp", "fn", "tp")
SUMMARY = ("image_auroc", "image_f1", "specificity", "pixel_auroc", "pro")
ABLATION_METRICS = {"image_auroc": "auroc", "image_auprc": "auprc", "image_f1": "f1", "accuracy": "accuracy"}
STUDY_CLASSES = {"hazelnut", "carpet", "zipper"}
STYLES = {
    "rows": ".0f",
    "ratio": "g",
    "seconds": ".1f",
    "defective_pixels": ".4f",
}  # of numbers shown to a reader; 3 decimals for the others
PUBLISHED, DIFFERENCE, SPREAD = "_published", "_difference", "_spread"
ENDS = ("_low", "_high")
CLASSES = "_classes"  # ends the name of a metric where a row says how many classes its mean is of, if not of all
SIGNED = (DIFFERENCE, "gap", "difference")

UPPER_BOUND = (
    "Thresholds were chosen on the test images (split.protocol: official; where nothing adapts to a shift, on their "
    "clean originals): F1 at a threshold chosen on the same images is an upper bound, what else needs one is no result."
)

INTERVALS = "In brackets: 95 % intervals over test images, for models and thresholds as they are (bootstrap)."

LONG = 200  # rows; a longer table has no Markdown


class Estimate(NamedTuple):
    """A value and the ends of its 95 % interval over test images, None where there is none."""

    value: float | None
    low: float | None
    high: float | None


Cell = str | int | float | Estimate | None


def evaluation_path(dataset: str) -> Path:
    """Where the evaluations of a data set lie."""
    return Path("data/evaluation") / dataset


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the defined values; None if there is none."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Attributes:
        values: {(method, scenario, class or `MACRO`): {metric: value}}, with threshold and counts for a class.
        cross_class: {method: {threshold_of: {applied_to: false-positive rate}}}.
        ablation: {class or `MACRO`: {ratio: {metric: value, "rows": memory bank rows}}}.
        on: on which images thresholds were chosen, `val` or `test`.
        replicates: {(method, scenario, class or `MACRO`): (metrics, B)}, rows as in `bootstrap.METRICS`; a resample of
            a class's test images is the same for every method.
        scenarios: those that were run, in the order of tables.
        normal: {method: {class: {scenario: what `evaluation.normals` says}}}.
        unlabelled: {method: {class: {scenario: {images, alarms}}}}.
        unknown_masks: {(method, scenario, class): test images whose masks are unknown, left out of pixel metrics}.
    """

    classes: tuple[str, ...]
    methods: tuple[str, ...]
    values: dict[tuple[str, str, str], dict[str, Any]]
    cross_class: dict[str, dict[str, dict[str, float | None]]]
    ablation: dict[str, dict[float, dict[str, Any]]]
    on: str
    replicates: dict[tuple[str, str, str], np.ndarray]
    scenarios: tuple[Scenario, ...] = SCENARIOS
    normal: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    unlabelled: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    unknown_masks: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _ends: dict[tuple[str, str, str], np.ndarray] = field(default_factory=dict)

    def named(self, metric: str) -> str:
        """How a metric is called where it is written down: one whose threshold saw the test images says so."""
        return metric + ON_TEST if self.on == "test" and metric in THRESHOLDED else metric

    def note(self, metrics: Iterable[str]) -> str:
        """What is to be said under these metrics."""
        return UPPER_BOUND if any(self.named(metric) != metric for metric in metrics) else ""

    def partial_means(self, scenarios: Sequence[str], metrics: Sequence[str]) -> str:
        """Of which metrics the mean is not of all classes, such as PRO where a class has no masks."""
        pairs = list(product(self.methods, scenarios))
        fewest = {metric: min(self.having(*pair, metric) for pair in pairs) for metric in metrics}
        partial = [f"{label(metric)} of {few}" for metric, few in fewest.items() if few < len(self.classes)]
        lacking = f"Means are of the classes that have the figure: {', '.join(partial)} of {len(self.classes)} classes."
        unknown = sum(self.unknown_masks.get((self.methods[0], "clean", name), 0) for name in self.classes)
        pixels = unknown and any(metric in PIXEL_METRICS for metric in metrics)
        masks = f"Pixel metrics leave out {unknown} defective test images whose masks are unknown." if pixels else ""
        return f"{lacking if partial else ''} {masks}".strip()

    def having(self, method: str, scenario: str, metric: str) -> int:
        """How many classes have the figure."""
        return sum(self.value(method, scenario, name, metric) is not None for name in self.classes)

    def value(self, method: str, scenario: str, name: str, metric: str) -> float | None:
        return self.values[method, scenario, name][metric]

    def estimate(self, method: str, scenario: str, name: str, metric: str) -> Estimate:
        """A metric with its interval; pixel metrics and bounds have none."""
        value, key = self.value(method, scenario, name, metric), (method, scenario, name)
        if metric not in BOOTSTRAPPED or value is None:
            return Estimate(value, None, None)
        if key not in self._ends:
            self._ends[key] = intervals.interval(self.replicates[key])
        return Estimate(value, *_ends(self._ends[key][:, BOOTSTRAPPED[metric]]))

    def difference(self, one: tuple[str, str], other: tuple[str, str], name: str, metric: str) -> Estimate:
        """What a (method, scenario) is ahead of another on the same test images, resampled alike for both."""
        values = [self.value(*pair, name, metric) for pair in (one, other)]
        if None in values:
            return Estimate(None, None, None)
        row = BOOTSTRAPPED[metric]
        moved = self.replicates[*one, name][row] - self.replicates[*other, name][row]
        return Estimate(values[0] - values[1], *_ends(intervals.interval(moved)))  # type: ignore[operator]


def _ends(found: np.ndarray) -> list[float | None]:
    return [None if np.isnan(end) else float(end) for end in found]


def collect(
    dataset: str,
    classes: Sequence[str],
    methods: Sequence[str],
    ratios: Sequence[float],
    scenarios: Sequence[Scenario] = SCENARIOS,
) -> Results:
    """Read the evaluations of these classes, methods, coreset ratios and scenarios, and average them.

    Raises:
        AdshiftError: one of them is missing.
    """
    root = evaluation_path(dataset)
    values: dict[tuple[str, str, str], dict[str, Any]] = {}
    replicates: dict[tuple[str, str, str], np.ndarray] = {}
    cross_class, ablation, normal, unlabelled = {}, {}, {}, {}
    unknown: dict[tuple[str, str, str], int] = {}
    chosen_on: set[str] = set()
    place = f"{root}"
    try:
        for method in methods:
            place = f"{root}, {method}"
            image, pixel = (read_json(root / level / f"{method}.json") for level in ("image", "pixel"))
            chosen_on.add(image["on"])
            normal[method], unlabelled[method] = image.get("normal", {}), image.get("unlabelled", {})
            drawn = intervals.load(root / "bootstrap" / f"{method}.npz")
            for scenario in scenarios:
                for name in classes:
                    by_image, by_pixel = image["classes"][name][scenario.name], pixel[name][scenario.pixels]
                    values[method, scenario.name, name] = {
                        **{key: by_image[source] for key, source in IMAGE_METRICS.items()},
                        **{key: by_pixel[source] for key, source in PIXEL_METRICS.items()},
                        **{key: by_image[key] for key in ("threshold", *COUNTS)},
                    }
                    replicates[method, scenario.name, name] = drawn[name, scenario.name]
                    unknown[method, scenario.name, name] = by_pixel.get("unknown_masks", 0)
                values[method, scenario.name, MACRO] = {
                    key: mean(values[method, scenario.name, name][key] for name in classes) for key in METRICS
                }
                sets = [replicates[method, scenario.name, name] for name in classes]
                replicates[method, scenario.name, MACRO] = intervals.mean(sets)
            if any(scenario.unified for scenario in scenarios):
                cross_class[method] = {of: {to: image["cross_class"][of][to] for to in classes} for of in classes}
        place = f"{root}/ablation.json"
        measured = read_json(place)["classes"] if ratios else {}
        for name in classes if ratios else ():
            ratio_of = {float(ratio): entry for ratio, entry in measured[name].items()}
            ablation[name] = {
                ratio: {"rows": ratio_of[ratio]["rows"]}
                | {key: ratio_of[ratio][source] for key, source in ABLATION_METRICS.items()}
                for ratio in sorted(ratios)
            }
    except KeyError as error:
        raise AdshiftError(f"{place}: no entry {error}", "run `dvc repro evaluate`") from None
    if len(chosen_on) > 1:
        what = f"{root}: thresholds of one method were chosen on val, of another on test"
        raise AdshiftError(what, "run `dvc repro evaluate`")
    if ratios:
        ablation[MACRO] = {
            ratio: {key: mean(ablation[name][ratio][key] for name in classes) for key in ("rows", *ABLATION_METRICS)}
            for ratio in sorted(ratios)
        }
    return Results(tuple(classes), tuple(methods), values, cross_class, ablation, chosen_on.pop(), replicates,
                   tuple(scenarios), normal, unlabelled, unknown)  # fmt: skip


def thresholds(results: Results) -> dict[tuple[str, str, str], float]:
    """{(method, class, scenario): threshold}."""
    return {
        (method, name, scenario): values["threshold"]
        for (method, scenario, name), values in results.values.items()
        if name != MACRO
    }


def summary(results: Results) -> dict[str, dict[str, dict[str, float | None]]]:
    """{method: {scenario: {metric: macro average to 4 decimals}}}: what `dvc metrics diff` compares."""
    return {
        method: {
            scenario.name: {
                results.named(metric): None if value is None else round(value, 4)
                for metric in SUMMARY
                for value in [results.value(method, scenario.name, MACRO, metric)]
            }
            for scenario in results.scenarios
        }
        for method in results.methods
    }


@dataclass(frozen=True)
class Table:
    """One table, as CSV (keys, 6 digits), Markdown (labels, 3 decimals) or cells for the page."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def csv(self) -> str:
        """An estimate takes three columns: the value, `_low`, `_high`."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        wide = [any(isinstance(row[place], Estimate) for row in self.rows) for place in range(len(self.columns))]
        table.writerow(
            name + end
            for name, three in zip(self.columns, wide, strict=True)
            for end in (("", *ENDS) if three else ("",))
        )
        for row in self.rows:
            cells = [cell if three else (cell,) for cell, three in zip(row, wide, strict=True)]
            table.writerow(plain(part) for cell in cells for part in cell)  # type: ignore[union-attr]
        return text.getvalue()

    def cells(self) -> list[list[str]]:
        """Header and rows for a reader."""
        header = [_heading(column) for column in self.columns]
        return [header, *([_shown(cell, column) for cell, column in zip(row, self.columns, strict=True)]
                          for row in self.rows)]  # fmt: skip

    def markdown(self) -> str:
        header, *rows = ([cell.replace("|", "\\|") for cell in row] for row in self.cells())
        rule = ["---" if isinstance(cell, str) else "---:" for cell in (self.rows[0] if self.rows else self.columns)]
        lines = ["| " + " | ".join(row) + " |" for row in (header, rule, *rows)]
        return "\n".join([f"# {self.title}", "", *lines, *(["", self.note] if self.note else [])]) + "\n"


def plain(cell: Any) -> Any:
    """A cell as a CSV file holds it: numbers to 6 digits, nothing for an undefined one."""
    return "" if cell is None else float(f"{cell:.6g}") if isinstance(cell, float) else cell


def _heading(column: str) -> str:
    ends = {PUBLISHED: "published", DIFFERENCE: "difference", SPREAD: "standard deviation"}
    return next((word for end, word in ends.items() if column.endswith(end)), label(column))


def _shown(cell: Cell, column: str) -> str:
    if cell is None:
        return "\N{EN DASH}"
    if isinstance(cell, Estimate):
        ends = "" if cell.low is None else f" [{_shown(cell.low, column)}, {_shown(cell.high, column)}]"
        return _shown(cell.value, column) + ends
    if isinstance(cell, float):
        return format(cell, "+.3f" if column.endswith(SIGNED) else STYLES.get(column, ".3f"))
    named = column in ("method", "than", "better", "scenario", "metric") or (column, cell) == ("class", MACRO)
    return label(cell) if named else str(cell)


Key = tuple[str, str, str, str]  # scenario, method, class, metric


def read_published(
    dataset: str, classes: Sequence[str], backbone: str, folder: Path, on: str = "val"
) -> dict[Key, float]:
    """The study's figures {(scenario, method, class, metric): value}, none unless data, backbone and split are its own.

    The official protocol (`on` is `test`) tests on other images than the study.
    """
    if dataset != "mvtec" or set(classes) != STUDY_CLASSES or backbone != "resnet50" or on != "val":
        return {}
    rows = with_means(read_csv(folder / "shift_study.csv"))
    return {(row["scenario"], row["method"], row["class"], row["metric"]): float(row["value"]) for row in rows}


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file.

    Raises:
        AdshiftError: it is missing or damaged.
    """
    try:
        columns, rows = checksums.read_table(path)
    except (OSError, ValueError, csv.Error) as error:
        raise AdshiftError(f"{path}: not readable ({error})", checksums.REMEDY) from None
    return [dict(zip(columns, row, strict=True)) for row in rows]


def with_means(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Rows with a class each, in which `MACRO` is the mean, also where it is still `PRINTED_MACRO`."""
    ours = any(row["class"] == MACRO for row in rows)
    return [{**row, "class": MACRO} if not ours and row["class"] == PRINTED_MACRO else {**row} for row in rows]


def _beside(value: float | None, published: float | None) -> list[Cell]:
    """Ours, theirs, difference."""
    return [value, published, None if value is None or published is None else value - published]


def _measured(
    results: Results, published: dict[Key, float], rows: Iterable[tuple[str, str, str]], metrics: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]:
    """Columns and rows of metrics, each that was published with the published value beside it."""
    body, printed = [], {metric for *_, metric in published}
    for method, scenario, name in rows:
        line: list[Cell] = [method, scenario, name]
        for metric in metrics:
            value = results.value(method, scenario, name, metric)
            beside = _beside(value, published.get((scenario, method, name, metric)))[1:] if metric in printed else []
            line += [results.estimate(method, scenario, name, metric), *beside]
        body.append(tuple(line))
    ends = ("", PUBLISHED, DIFFERENCE)
    wide = [results.named(metric) + end for metric in metrics for end in (ends if metric in printed else ends[:1])]
    return ("method", "scenario", "class", *wide), tuple(body)


def splits(dataset: str, classes: Sequence[str], backbone: str, folder: Path, on: str = "val") -> Table:
    """Table 1: images in each part."""
    parts = [(role, kind) for role in ("train", "val", "test") for kind in ("normal", "anomalous")]
    theirs = {}
    if read_published(dataset, classes, backbone, folder, on):
        theirs = {row["class"]: row for row in read_csv(folder / "shift_study_splits.csv")}
    rows = []
    for name in classes:
        # A name is part/defect/stem, so the split alone tells normal images from defective ones.
        for domain, roles in read_splits(split_path(dataset, name)).items():
            kinds = {GOOD: "normal", UNLABELLED: "unlabelled"}
            counts = Counter((role, kinds.get(image.split("/")[1], "anomalous")) for image, role in roles.items())
            row: list[Cell] = [name, domain]
            for part in parts:
                there = int(theirs[name]["_".join(part)]) if theirs else None
                row += [counts[part], *([there, None if there is None else counts[part] - there] if theirs else [])]
            rows.append(tuple(row))
    wide = ["_".join(part) + end for part in parts for end in (("", PUBLISHED, DIFFERENCE) if theirs else ("",))]
    note = "No image validates: thresholds were chosen on the test images." if on == "test" else ""
    if theirs:
        note = "The study prints 36 for zipper's val anomalous; its row then sums to one image too many."
    return Table("table1_splits", "Table 1: images in each part", ("class", "domain", *wide), tuple(rows), note)


def study_tables(results: Results, published: dict[Key, float]) -> list[Table]:
    """Tables 2 to 6 of the study, and one that it does not have."""
    there = {scenario.name for scenario in results.scenarios}
    shifted = [scenario.name for scenario in results.scenarios if scenario.name.startswith("shift")]
    names = (*results.classes, MACRO)

    def table(name: str, title: str, scenarios: Sequence[str], classes: Sequence[str], metrics: Sequence[str]) -> Table:
        run = [scenario for scenario in scenarios if scenario in there]
        rows = [(method, scenario, one) for method in results.methods for one in classes for scenario in run]
        partial = results.partial_means(run, metrics) if run else ""
        note = " ".join(filter(None, [INTERVALS, results.note(metrics), partial]))
        return Table(name, title, *_measured(results, published, rows, metrics), note)

    tables = [
        table("table2_clean", "Table 2: clean domain", ["clean"], names,
              ["image_auroc", "image_auprc", "image_f1", "pixel_auroc", "pro", "aupimo"]),
        table("table3_specificity", "Table 3: specificity when the domain shifts and nothing adapts",
              ["clean", "shift_no_adaptation"], names, ["specificity", "recall"]),
        table("table4_shift_ranking", "Table 4: ranking and localization under shift", shifted, [MACRO],
              ["image_auroc", "pixel_auroc", "pro", "aupimo"]),
        table("table5_shift_decisions", "Table 5: decisions under shift", ["clean", *shifted], [MACRO],
              ["image_f1", "specificity", "accuracy"]),
        table("table6_unified", "Table 6: one model for all classes", ["clean", "unified", "unified_absolute"],
              [MACRO], ["image_auroc", "pixel_auroc", "pro", "aupimo", "image_f1", "specificity"]),
        table("cost_of_adaptation", "What adapting costs once the drift has gone: clean test images",
              ["clean", "clean_threshold_only", "clean_full_adaptation"], names,
              ["image_auroc", "image_f1", "specificity", "recall", "pixel_auroc", "pro"]),
    ]  # fmt: skip
    needs = {"table2_clean": "clean", "table6_unified": "unified"}
    return [one for one in tables if needs.get(one.name, "shift_no_adaptation") in there]


def unified_gap(results: Results) -> Table:
    """What one model for all classes costs: per-class minus unified."""
    rows = []
    for method in results.methods:
        for name in (*results.classes, MACRO):
            for metric in SUMMARY:
                own, pooled = (results.value(method, scenario, name, metric) for scenario in ("clean", "unified"))
                gap = Estimate(None if own is None or pooled is None else own - pooled, None, None)
                if metric in BOOTSTRAPPED:
                    gap = results.difference((method, "clean"), (method, "unified"), name, metric)
                rows.append((method, name, results.named(metric), own, pooled, gap))
    columns = ("method", "class", "metric", "per_class", "unified", "gap")
    title = "Per-class models against one unified model"
    return Table("unified_gap", title, columns, tuple(rows), f"{INTERVALS} {results.note(SUMMARY)}".strip())


def differences(results: Results) -> list[Table]:
    """Each method against each: for a reader the means of classes, and every class and metric for a program.

    A difference whose interval holds 0 is a tie.
    """

    def rows(names: Sequence[str], metrics: Sequence[str]) -> tuple[tuple[Cell, ...], ...]:
        found: list[tuple[Cell, ...]] = []
        for one, other in combinations(results.methods, 2):
            for scenario in results.scenarios:
                for name in names:
                    for metric in metrics:
                        gap = results.difference((one, scenario.name), (other, scenario.name), name, metric)
                        key = (scenario.name, name, results.named(metric))
                        found.append((one, other, *key, gap, _better(one, other, gap)))
        return tuple(found)

    columns = ("method", "than", "scenario", "class", "metric", "difference", "better")
    note = f"Same test images, resampled alike for both methods; a tie where the interval holds 0. {INTERVALS}"
    note = f"{note} {results.note(COMPARED)}".strip()
    return [
        Table("differences", "Which method is better, and by how much", columns, rows([MACRO], COMPARED), note),
        Table("differences_all", "All differences between methods", columns,
              rows([*results.classes, MACRO], list(BOOTSTRAPPED)), note),
    ]  # fmt: skip


def _better(one: str, other: str, gap: Estimate) -> str | None:
    if gap.low is None or gap.high is None:
        return None
    return one if gap.low > 0 else other if gap.high < 0 else TIE


def coreset(results: Results) -> Table:
    """Section 4.5: PatchCore on the shifted domain at several coreset ratios."""
    rows = [
        (name, ratio, entry["rows"], *(entry[metric] for metric in ABLATION_METRICS))
        for name in (*results.classes, MACRO)
        for ratio, entry in results.ablation[name].items()
    ]
    title = "Table 7: PatchCore's coreset ratio, fitted and tested on the shifted domain"
    note = "Fit times stand in timings.md, the only table that differs between runs."
    columns = ("class", "ratio", "rows", *(results.named(metric) for metric in ABLATION_METRICS))
    return Table("table7_coreset", title, columns, tuple(rows), f"{note} {results.note(ABLATION_METRICS)}".strip())


def cross_class(results: Results) -> Table:
    """False-positive rate of each class's threshold on each class's normal images, under the unified model."""
    rows = [
        (method, of, to, results.cross_class[method][of][to])
        for method in results.methods
        for of in results.classes
        for to in results.classes
    ]
    title = "One class's threshold on another class's normal images (unified models)"
    columns = ("method", "threshold_of", "applied_to", "fpr")
    return Table("cross_class", title, columns, tuple(rows), results.note(THRESHOLDED))


def long(results: Results) -> Table:
    """Every metric of every method, scenario and class, one a row."""
    rows = [
        (method, scenario.name, name, results.named(metric), results.estimate(method, scenario.name, name, metric))
        for method in results.methods
        for scenario in results.scenarios
        for name in (*results.classes, MACRO)
        for metric in results.values[method, scenario.name, name]
    ]
    rows += [
        (method, scenario.name, MACRO, results.named(metric) + CLASSES, Estimate(having, None, None))
        for method in results.methods
        for scenario in results.scenarios
        for metric in METRICS
        if (having := results.having(method, scenario.name, metric)) < len(results.classes)
    ]
    return Table("results", "All results", ("method", "scenario", "class", "metric", "value"), tuple(rows))


def all_tables(dataset: str, results: Results, backbone: str, folder: Path) -> list[Table]:
    """Every table that a reader sees, as the aggregate stage writes them and the page shows them."""
    published = read_published(dataset, results.classes, backbone, folder, results.on)
    unified = [unified_gap(results), cross_class(results)] if results.cross_class else []
    return [
        splits(dataset, results.classes, backbone, folder, results.on),
        *study_tables(results, published),
        *([coreset(results)] if results.ablation else []),
        *unified,
        differences(results)[0],
    ]


def timings(dataset: str, classes: Sequence[str], methods: Sequence[str], graph: Any) -> Table:
    """Seconds of every fit, and of the coreset ablation's; `graph` of params.yaml says which there are."""
    root = Path("timings") / dataset
    fits = [(name, domain) for name in classes for domain in graph.domains]
    fits += [(name, "clean") for name in graph.unified]
    paths = [root / "fit" / f"{method}-{name}-{domain}.json" for method in methods for name, domain in fits]
    columns = ("stage", "method", "class", "domain", "images", "ratio", "seconds")
    rows = []
    for path in paths:
        record = read_json(path)
        rows.append(tuple(record.get(column) for column in columns))
    for name, domain in product(classes, graph.ablation):
        for ratio, seconds in read_json(root / "ablate" / f"{name}.json")["seconds"].items():
            rows.append(("ablate", "patchcore", name, domain, None, float(ratio), seconds))
    note = "Wall time: the only table that differs between runs."
    return Table("timings", "Time to fit, in seconds", columns, tuple(rows), note)


def write(folder: Path, tables: Iterable[Table]) -> None:
    """Write each table as NAME.csv and, unless nobody would read it, NAME.md."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        (folder / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8")
        if len(table.rows) <= LONG:
            (folder / f"{table.name}.md").write_text(table.markdown(), encoding="utf-8")
