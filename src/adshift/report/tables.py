"""Results of all evaluations, their macro averages, and the tables that the study prints.

Everything iterates over the classes and methods of params.yaml, never over what lies on disk. An undefined metric (no
normal or no defective image) is None; a macro average is the mean of the classes where the metric is defined.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adshift.errors import AdshiftError
from adshift.manifest import GOOD
from adshift.methods import UNIFIED
from adshift.report import ON_TEST, label
from adshift.scenarios import DOMAINS, SCENARIOS, split_path
from adshift.splits import read as read_split
from adshift.stage import read_json

MACRO = "macro"
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
}
METRICS = (*IMAGE_METRICS, *PIXEL_METRICS)
THRESHOLDED = ("image_f1", "accuracy", "precision", "recall", "specificity")
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

UPPER_BOUND = (
    "Thresholds were chosen on the test images (split.protocol: official; where nothing adapts to a shift, on their "
    "clean originals): F1 at a threshold chosen on the same images is an upper bound, what else needs one is no result."
)

LONG = 200  # rows; a longer table has no Markdown

Cell = str | int | float | None


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
        values: {(method, scenario, class or "macro"): {metric: value}}, with threshold and counts for a class.
        cross_class: {method: {threshold_of: {applied_to: false-positive rate}}}.
        ablation: {class or "macro": {ratio: {metric: value, "rows": memory bank rows}}}.
        on: on which images thresholds were chosen, `val` or `test`.
    """

    classes: tuple[str, ...]
    methods: tuple[str, ...]
    values: dict[tuple[str, str, str], dict[str, Any]]
    cross_class: dict[str, dict[str, dict[str, float | None]]]
    ablation: dict[str, dict[float, dict[str, Any]]]
    on: str

    def named(self, metric: str) -> str:
        """How a metric is called where it is written down: one whose threshold saw the test images says so."""
        return metric + ON_TEST if self.on == "test" and metric in THRESHOLDED else metric

    def note(self, metrics: Iterable[str]) -> str:
        """What is to be said under these metrics."""
        return UPPER_BOUND if any(self.named(metric) != metric for metric in metrics) else ""

    def value(self, method: str, scenario: str, name: str, metric: str) -> float | None:
        return self.values[method, scenario, name][metric]

    def row(self, method: str, scenario: str, name: str, metrics: Iterable[str]) -> list[float | None]:
        return [self.value(method, scenario, name, metric) for metric in metrics]


def collect(dataset: str, classes: Sequence[str], methods: Sequence[str], ratios: Sequence[float]) -> Results:
    """Read the evaluations of these classes, methods and coreset ratios, and average them.

    Raises:
        AdshiftError: one of them is missing.
    """
    root = evaluation_path(dataset)
    values: dict[tuple[str, str, str], dict[str, Any]] = {}
    cross_class, ablation = {}, {}
    chosen_on: set[str] = set()
    place = root
    try:
        for method in methods:
            place = root / method
            image, pixel = read_json(place / "image.json"), read_json(place / "pixel.json")
            chosen_on.add(image["on"])
            for scenario in SCENARIOS:
                for name in classes:
                    by_image, by_pixel = image["classes"][name][scenario.name], pixel[name][scenario.pixels]
                    values[method, scenario.name, name] = {
                        **{key: by_image[source] for key, source in IMAGE_METRICS.items()},
                        **{key: by_pixel[source] for key, source in PIXEL_METRICS.items()},
                        **{key: by_image[key] for key in ("threshold", *COUNTS)},
                    }
                values[method, scenario.name, MACRO] = {
                    key: mean(values[method, scenario.name, name][key] for name in classes) for key in METRICS
                }
            cross_class[method] = {of: {to: image["cross_class"][of][to] for to in classes} for of in classes}
        place = root / "ablation.json"
        measured = read_json(place)["classes"]
        for name in classes:
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
    ablation[MACRO] = {
        ratio: {key: mean(ablation[name][ratio][key] for name in classes) for key in ("rows", *ABLATION_METRICS)}
        for ratio in sorted(ratios)
    }
    return Results(tuple(classes), tuple(methods), values, cross_class, ablation, *chosen_on)


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
            for scenario in SCENARIOS
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
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(self.columns)
        table.writerows([plain(cell) for cell in row] for row in self.rows)
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
    if isinstance(cell, float):
        style = "+.3f" if column.endswith(DIFFERENCE) or column == "gap" else STYLES.get(column, ".3f")
        return format(cell, style)
    named = column in ("method", "scenario", "metric") or cell == MACRO
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
    rows = read_csv(folder / "shift_study.csv")
    return {(row["scenario"], row["method"], row["class"], row["metric"]): float(row["value"]) for row in rows}


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file.

    Raises:
        AdshiftError: it is missing.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise AdshiftError(f"{path}: not readable ({error})", "run `dvc repro` again") from None


def _beside(value: float | None, published: float | None) -> list[Cell]:
    """Ours, theirs, difference."""
    return [value, published, None if value is None or published is None else value - published]


def _measured(
    results: Results, published: dict[Key, float], rows: Iterable[tuple[str, str, str]], metrics: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]:
    """Columns and rows of metrics, each with the published value beside it if there are any."""
    body = []
    for method, scenario, name in rows:
        line: list[Cell] = [method, scenario, name]
        for metric in metrics:
            value = results.value(method, scenario, name, metric)
            line += _beside(value, published.get((scenario, method, name, metric))) if published else [value]
        body.append(tuple(line))
    ends = ("", PUBLISHED, DIFFERENCE) if published else ("",)
    wide = [results.named(metric) + end for metric in metrics for end in ends]
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
        roles = read_split(split_path(dataset, name))
        counts = Counter(
            (role, "normal" if image.split("/")[1] == GOOD else "anomalous") for image, role in roles.items()
        )
        row: list[Cell] = [name]
        for part in parts:
            there = int(theirs[name]["_".join(part)]) if theirs else None
            row += [counts[part], *([there, None if there is None else counts[part] - there] if theirs else [])]
        rows.append(tuple(row))
    wide = ["_".join(part) + end for part in parts for end in (("", PUBLISHED, DIFFERENCE) if theirs else ("",))]
    note = "No image validates: thresholds were chosen on the test images." if on == "test" else ""
    if theirs:
        note = "The study prints 36 for zipper's val anomalous; its row then sums to one image too many."
    return Table("table1_splits", "Table 1: images in each part", ("class", *wide), tuple(rows), note)


def study_tables(results: Results, published: dict[Key, float]) -> list[Table]:
    """Tables 2 to 6 of the study."""
    shifted = [scenario.name for scenario in SCENARIOS if scenario.name.startswith("shift")]
    names = (*results.classes, MACRO)

    def table(name: str, title: str, scenarios: Sequence[str], classes: Sequence[str], metrics: Sequence[str]) -> Table:
        rows = [(method, scenario, one) for method in results.methods for one in classes for scenario in scenarios]
        return Table(name, title, *_measured(results, published, rows, metrics), results.note(metrics))

    return [
        table("table2_clean", "Table 2: clean domain", ["clean"], names,
              ["image_auroc", "image_auprc", "image_f1", "pixel_auroc", "pro"]),
        table("table3_specificity", "Table 3: specificity when the domain shifts and nothing adapts",
              ["clean", "shift_no_adaptation"], names, ["specificity", "recall"]),
        table("table4_shift_ranking", "Table 4: ranking and localization under shift", shifted, [MACRO],
              ["image_auroc", "pixel_auroc", "pro"]),
        table("table5_shift_decisions", "Table 5: decisions under shift", ["clean", *shifted], [MACRO],
              ["image_f1", "specificity", "accuracy"]),
        table("table6_unified", "Table 6: one model for all classes", ["clean", "unified"], [MACRO],
              ["image_auroc", "pixel_auroc", "pro", "image_f1", "specificity"]),
    ]  # fmt: skip


def unified_gap(results: Results) -> Table:
    """What one model for all classes costs: per-class minus unified."""
    rows = []
    for method in results.methods:
        for name in (*results.classes, MACRO):
            for metric in SUMMARY:
                own, pooled = (results.value(method, scenario, name, metric) for scenario in ("clean", "unified"))
                gap = None if own is None or pooled is None else own - pooled
                rows.append((method, name, results.named(metric), own, pooled, gap))
    columns = ("method", "class", "metric", "per_class", "unified", "gap")
    title = "Per-class models against one unified model"
    return Table("unified_gap", title, columns, tuple(rows), results.note(SUMMARY))


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
        (method, scenario.name, name, results.named(metric), value)
        for method in results.methods
        for scenario in SCENARIOS
        for name in (*results.classes, MACRO)
        for metric, value in results.values[method, scenario.name, name].items()
    ]
    return Table("results", "All results", ("method", "scenario", "class", "metric", "value"), tuple(rows))


def all_tables(dataset: str, results: Results, backbone: str, folder: Path) -> list[Table]:
    """Tables 1 to 7 and the cross-class rates, as the aggregate stage writes them and the page shows them."""
    published = read_published(dataset, results.classes, backbone, folder, results.on)
    return [
        splits(dataset, results.classes, backbone, folder, results.on),
        *study_tables(results, published),
        coreset(results),
        unified_gap(results),
        cross_class(results),
    ]


def timings(dataset: str, classes: Sequence[str], methods: Sequence[str]) -> Table:
    """Seconds of every fit, and of the coreset ablation's."""
    root = Path("timings") / dataset
    fits = [(name, domain) for name in classes for domain in DOMAINS] + [(UNIFIED, "clean")]
    paths = [root / "fit" / f"{method}-{name}-{domain}.json" for method in methods for name, domain in fits]
    columns = ("stage", "method", "class", "domain", "images", "ratio", "seconds")
    rows = []
    for path in paths:
        record = read_json(path)
        rows.append(tuple(record.get(column) for column in columns))
    for name in classes:
        for ratio, seconds in read_json(root / "ablate" / f"{name}.json")["seconds"].items():
            rows.append(("ablate", "patchcore", name, "shift", None, float(ratio), seconds))
    note = "Wall time: the only table that differs between runs."
    return Table("timings", "Time to fit, in seconds", columns, tuple(rows), note)


def write(folder: Path, tables: Iterable[Table]) -> None:
    """Write each table as NAME.csv and, unless nobody would read it, NAME.md."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        (folder / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8")
        if len(table.rows) <= LONG:
            (folder / f"{table.name}.md").write_text(table.markdown(), encoding="utf-8")
