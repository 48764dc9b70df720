"""The tables that the study prints, each taken from the tidy table of all results."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pandas as pd

from adshift.data.manifest import GOOD, UNLABELLED
from adshift.data.split_file import read_all as read_splits
from adshift.evaluation.metrics import registry
from adshift.evaluation.metrics.counts import Counts
from adshift.evaluation.scenarios import BASELINE, DRIFT, POOLED, UNADAPTED, Scenario, of_role
from adshift.project.paths import split_path
from adshift.report.labels import MACRO
from adshift.report.published import Key, read_csv, read_published
from adshift.report.results import ABLATED, KEYS, ROWS, THRESHOLDED, Results
from adshift.report.table import DIFFERENCE, HIGH, LOW, PUBLISHED, Estimate, Table

COMPARED = tuple(metric.name for metric in registry.shown_in("differences"))
SUMMARY = tuple(metric.name for metric in registry.shown_in("summary"))
TIE = "tie"
CLASSES = "_classes"  # suffix of a metric's name: number of classes in its mean, where not all classes have it
INTERVALS = "In brackets: 95 % intervals over test images, for models and thresholds as they are (bootstrap)."


def summary(results: Results) -> dict[str, dict[str, dict[str, float | None]]]:
    """{method: {scenario: {metric: macro average to 4 decimals}}}, compared by `dvc metrics diff`."""

    def of(method: str, scenario: Scenario, metric: str) -> float | None:
        value = results.value(method, scenario.name, MACRO, metric)
        return None if value is None else round(value, 4)

    return {
        method: {
            scenario.name: {results.named(metric): of(method, scenario, metric) for metric in SUMMARY}
            for scenario in results.scenarios
        }
        for method in results.methods
    }


def splits(dataset: str, classes: Sequence[str], backbone: str, folder: Path, on: str = "val") -> Table:
    """Table 1: images in each part."""
    parts = [f"{role}_{kind}" for role in ("train", "val", "test") for kind in ("normal", "anomalous")]
    theirs = {}
    if read_published(dataset, classes, backbone, folder, on):
        theirs = {row["class"]: row for row in read_csv(folder / "shift_study_splits.csv")}
    rows = []
    for name in classes:
        # A name is part/defect/stem, so the split alone tells normal images from defective ones.
        for domain, roles in read_splits(split_path(dataset, name)).items():
            kinds = {GOOD: "normal", UNLABELLED: "unlabelled"}
            counts = Counter(f"{role}_{kinds.get(image.split('/')[1], 'anomalous')}" for image, role in roles.items())
            row: dict[str, Any] = {"class": name, "domain": domain}
            for part in parts:
                row[part] = counts[part]
                if theirs:
                    row[part + PUBLISHED] = int(theirs[name][part])
                    row[part + DIFFERENCE] = counts[part] - int(theirs[name][part])
            rows.append(row)
    note = "No image validates: thresholds were chosen on the test images." if on == "test" else ""
    if theirs:
        note = "The study prints 36 for zipper's val anomalous; its row then sums to one image too many."
    return Table("table1_splits", "Table 1: images in each part", pd.DataFrame(rows), note)


def study_tables(results: Results, published: dict[Key, float]) -> list[Table]:
    """Tables 2 to 6 of the study and one more, for the scenarios that were run."""

    def table(
        name: str, title: str, scenarios: Sequence[Scenario], classes: Sequence[str], *metrics: str
    ) -> Table | None:
        run = [scenario for scenario in scenarios if scenario in results.scenarios]
        if not run or run == [BASELINE] != list(scenarios):  # nothing to show, or to compare with
            return None
        rows = list(product(results.methods, classes, (scenario.name for scenario in run)))
        return Table(name, title, _measured(results, published, rows, metrics), _note(results, metrics, run))

    every, means = results.names, [MACRO]
    tables = [
        table("table2_clean", "Table 2: clean domain", [BASELINE], every,
              "image_auroc", "image_auprc", "image_f1", "pixel_auroc", "pro", "aupimo"),
        table("table3_specificity", "Table 3: specificity when the domain shifts and nothing adapts",
              [BASELINE, UNADAPTED], every, "specificity", "recall"),
        table("table4_shift_ranking", "Table 4: ranking and localization under shift", DRIFT, means,
              "image_auroc", "pixel_auroc", "pro", "aupimo"),
        table("table5_shift_decisions", "Table 5: decisions under shift", [BASELINE, *DRIFT], means,
              "image_f1", "specificity", "accuracy"),
        table("table6_unified", "Table 6: one model for all classes", [BASELINE, *of_role("unified")], means,
              "image_auroc", "pixel_auroc", "pro", "aupimo", "image_f1", "specificity"),
        table("cost_of_levers", "What a lever costs where nothing drifts: clean test images",
              [BASELINE, *of_role("before")], every,
              "image_auroc", "image_f1", "specificity", "recall", "pixel_auroc", "pro"),
        table("cost_of_adaptation", "What adapting costs once the drift has gone: clean test images",
              [BASELINE, *of_role("after")], every,
              "image_auroc", "image_f1", "specificity", "recall", "pixel_auroc", "pro"),
    ]  # fmt: skip
    return [one for one in tables if one]


def _measured(
    results: Results, published: dict[Key, float], rows: Sequence[tuple[str, str, str]], metrics: Sequence[str]
) -> pd.DataFrame:
    """One row per (method, class, scenario); published values stand beside the metrics that have them."""
    printed = {metric for *_, metric in published}
    columns: dict[str, pd.Series] = {}
    order = pd.MultiIndex.from_tuples(rows, names=["method", "class", "scenario"])
    chosen = results.figures[results.figures["metric"].isin(metrics)].astype({key: str for key in (*KEYS, "metric")})
    wide = chosen.pivot(index=order.names, columns="metric", values=["value", "low", "high"]).reindex(order)
    for metric in metrics:
        name, values = results.named(metric), wide["value", metric]
        columns |= {name: values, name + LOW: wide["low", metric], name + HIGH: wide["high", metric]}
        if metric in printed:
            theirs = [published.get((scenario, method, one, metric)) for method, one, scenario in rows]
            columns[name + PUBLISHED] = pd.Series(theirs, order, float)
            columns[name + DIFFERENCE] = values - columns[name + PUBLISHED]
    return pd.DataFrame(columns, order).reset_index()[[*KEYS, *columns]]


def _note(results: Results, metrics: Iterable[str], scenarios: Iterable[Scenario] = ()) -> str:
    metrics = list(metrics)
    return " ".join(filter(None, [INTERVALS, results.note(metrics), results.partial_means(scenarios, metrics)]))


def unified_gap(results: Results) -> Table:
    """The loss from one model for all classes: metric of the per-class models minus that of the unified model."""
    rows = []
    for method, name, metric in product(results.methods, results.names, SUMMARY):
        own, pooled = (results.value(method, scenario.name, name, metric) for scenario in (BASELINE, POOLED))
        gap = results.difference((method, BASELINE.name), (method, POOLED.name), name, metric)
        rows.append((method, name, results.named(metric), own, pooled, *gap))
    columns = ["method", "class", "metric", "per_class", "unified", "gap", "gap" + LOW, "gap" + HIGH]
    frame = pd.DataFrame(rows, columns=columns, dtype=object)
    return Table("unified_gap", "Per-class models against one unified model", frame, _note(results, SUMMARY))


def differences(results: Results) -> list[Table]:
    """Differences of every two methods: a table of means over classes to read, and one of all classes and metrics.

    A difference whose interval contains 0 is a tie.
    """
    columns = ["method", "than", *KEYS[1:], "metric", "difference", "difference" + LOW, "difference" + HIGH, "better"]

    def frame(names: Sequence[str], metrics: Iterable[str]) -> pd.DataFrame:
        rows = []
        for (one, other), scenario, name, metric in product(
            combinations(results.methods, 2), results.scenarios, names, list(metrics)
        ):
            gap = results.difference((one, scenario.name), (other, scenario.name), name, metric)
            keys = (one, other, scenario.name, name, results.named(metric))
            rows.append((*keys, *gap, _better(one, other, gap, metric)))
        return pd.DataFrame(rows, columns=columns, dtype=object)

    note = f"Same test images, resampled alike for both methods; a tie where the interval holds 0. {INTERVALS}"
    note = f"{note} {results.note(COMPARED)}".strip()
    return [
        Table("differences", "Which method is better, and by how much", frame([MACRO], COMPARED), note),
        Table("differences_all", "All differences between methods", frame(results.names, ROWS), note),
    ]


def _better(one: str, other: str, gap: Estimate, metric: str) -> str | None:
    if gap.low is None or gap.high is None:
        return None
    if not registry.BY_NAME[metric].higher_is_better:
        one, other = other, one
    return one if gap.low > 0 else other if gap.high < 0 else TIE


def coreset(results: Results) -> Table:
    """Section 4.5: PatchCore on the shifted domain at several coreset ratios."""
    title = "Table 7: PatchCore's coreset ratio, fitted and tested on the shifted domain"
    note = "Fit times stand in timings.md, the only table that differs between runs."
    frame = results.ablation.rename(columns=results.named)
    return Table("table7_coreset", title, frame, f"{note} {results.note(ABLATED)}".strip())


def cross_class(results: Results) -> Table:
    """False-positive rate of each class's threshold on each class's normal images, under the unified model."""
    title = "One class's threshold on another class's normal images (unified models)"
    return Table("cross_class", title, results.cross_class, results.note(THRESHOLDED))


def long(results: Results) -> Table:
    """Every metric of every method, scenario and class, one per row."""
    frame = results.figures.rename(columns={"low": "value" + LOW, "high": "value" + HIGH}).astype(object)
    whole = frame["metric"].isin(Counts._fields)
    frame.loc[whole, "value"] = frame.loc[whole, "value"].map(int).astype(object)
    frame["metric"] = frame["metric"].map(results.named)
    partial = [
        (method, scenario.name, MACRO, results.named(metric) + CLASSES, having, None, None)
        for method, scenario, metric in product(results.methods, results.scenarios, registry.BY_NAME)
        if (having := results.having(method, scenario.name, metric)) < len(results.classes)
    ]
    if partial:
        frame = pd.concat([frame, pd.DataFrame(partial, columns=list(frame), dtype=object)], ignore_index=True)
    return Table("results", "All results", frame)


def all_tables(dataset: str, results: Results, backbone: str, folder: Path) -> list[Table]:
    """All tables that the stage `aggregate` writes and the page shows."""
    published = read_published(dataset, results.classes, backbone, folder, results.on)
    return [
        splits(dataset, results.classes, backbone, folder, results.on),
        *study_tables(results, published),
        *([] if results.ablation.empty else [coreset(results)]),
        *([] if results.cross_class.empty else [unified_gap(results), cross_class(results)]),
        differences(results)[0],
    ]
