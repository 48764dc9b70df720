"""Rows of the DVC plots, and the same charts drawn without a browser for the page.

A chart is one CSV in plots/ and one Vega-Lite template in .dvc/plots with DVC's anchors. `dvc plots show` and
`dvc plots diff` fill the anchors with the rows of one or several revisions; `svg` and `png` fill them here, so the page
shows the same charts.
"""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from adshift.data.manifest import GOOD
from adshift.data.split_file import names_of
from adshift.data.split_file import read as read_split
from adshift.evaluation.metrics.registry import shown_in
from adshift.evaluation.scenarios import BASELINE, DRIFT, POOLED, Scenario
from adshift.project.paths import evaluation_path, split_path
from adshift.report import vega
from adshift.report.labels import MACRO, label
from adshift.report.published import read_csv
from adshift.report.results import ABLATED, Results
from adshift.report.table import CLASSES, plain
from adshift.report.tables import COMPARED

TEMPLATES = Path(".dvc/plots")
RECOVERED = "image_auroc", "specificity", "recall"
SHOWN = tuple(metric.name for metric in shown_in("chart"))
PADDING = {"left": 16, "top": 5, "right": 16, "bottom": 5}  # pixels: labels are wider in some browsers' fonts
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Chart:
    """One plot as dvc.yaml declares it.

    Attributes:
        name: of plots/NAME.csv.
        template: of .dvc/plots/TEMPLATE.json.
        x, y: columns.
        panels: columns; the page draws one panel for each combination of their values.
        keys: further columns of keys, which the page replaces with their labels.
    """

    name: str
    template: str
    title: str
    x: str
    y: str
    x_label: str
    y_label: str
    panels: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


CHARTS = {
    chart.name: chart
    for chart in (
        Chart("scenarios", "scenarios", "What drift costs and what buys it back", "scenario", "value", "scenario", "",
              ("metric",), ("method", "scenario")),
        Chart("costs", "costs", "What the levers recover, by the new normal images that they need", "images", "value",
              "normal images of the shifted domain", "", ("method", "metric"), ("method", "scenario")),
        Chart("roc", "curves", "ROC", "fpr", "tpr", "false-positive rate", "true-positive rate"),
        Chart("pr", "curves", "Precision and recall", "recall", "precision", "recall", "precision"),
        Chart("scores", "scores", "Scores and thresholds", "score", "scenario", "raw score", ""),
        Chart("confusion", "confusion", "Confusion matrices", "predicted", "actual", "predicted", "actual"),
        Chart("coreset", "coreset", "Coreset ratio", "ratio", "value", "share of patches kept", "",
              ("class",), ("metric",)),
        Chart("cross_class", "matrix", "One class's threshold on another's normal images", "applied_to",
              "threshold_of", "normal images of", "threshold of", ("method",)),
        Chart("unified_gap", "gap", "One model a class against one for all", "value", "class", "", "",
              ("method", "metric")),
    )
}  # fmt: skip


def rows(dataset: str, results: Results) -> dict[str, Rows]:
    """{chart: rows} of all classes and methods. Classes have their names for people.

    Raises:
        AdshiftError: a curve table is missing.
    """
    curves: dict[str, Rows] = {"roc": [], "pr": [], "scores": []}
    for method in results.methods:
        folder = evaluation_path(dataset) / "curves" / method
        for name in curves:
            curves[name] += _curve(folder / f"{name}.csv", method, results.classes)
    tables = {
        **curves,
        "scenarios": _scenarios(results),
        "costs": _costs(dataset, results),
        "confusion": _confusion(results),
        "coreset": _coreset(results),
        "cross_class": _records(results.cross_class),
        "unified_gap": [
            row for row in _scenarios(results)
            if not results.cross_class.empty
            and row["scenario"] in (BASELINE.name, POOLED.name) and row["metric"] in map(results.named, COMPARED)
        ],
    }  # fmt: skip
    return {name: [_titled(row, results.titles) for row in table] for name, table in tables.items()}


def _titled(row: Mapping[str, Any], titles: Mapping[str, str]) -> dict[str, Any]:
    """A row with the names of its classes for people."""
    return {column: titles.get(cell, cell) if column in CLASSES else cell for column, cell in row.items()}


def _curve(path: Path, method: str, classes: Sequence[str]) -> Rows:
    """Rows of one method's curve table, numbered within each curve so that a line keeps its order."""
    result: Rows = []
    point: dict[tuple[str, str], int] = {}
    for row in read_csv(path):
        if row["class"] in classes:
            key = row["class"], row["scenario"]
            point[key] = point.get(key, -1) + 1
            result.append({"method": method, **row, "point": point[key]})
    return result


def _records(frame: pd.DataFrame) -> Rows:
    """Rows of a frame; None for undefined values."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _scenarios(results: Results) -> Rows:
    shown = results.figures[results.figures["metric"].isin(SHOWN)].astype(object)
    shown["metric"] = shown["metric"].map(results.named)
    return _records(shown[["method", "class", "scenario", "metric", "value"]])


def _costs(dataset: str, results: Results) -> Rows:
    """Figures of each scenario under drift, with the number of normal images of the shifted domain that it needs."""
    rows: Rows = []
    for method, scenario in product(results.methods, DRIFT):
        if scenario in results.scenarios:
            images: dict[str, float] = {
                name: _new_images(dataset, results, method, scenario, name) for name in results.classes
            }
            images[MACRO] = sum(images.values()) / len(images)
            rows += [
                {"method": method, "class": name, "scenario": scenario.name, "images": images[name],
                 "metric": results.named(metric), "value": results.value(method, scenario.name, name, metric)}
                for name, metric in product(results.names, RECOVERED)
            ]  # fmt: skip
    return rows


def _new_images(dataset: str, results: Results, method: str, scenario: Scenario, name: str) -> int:
    """Those that set the threshold, and those that a refit trains on."""
    if not scenario.new_images:
        return 0
    trained: tuple[str, ...] = ()
    if scenario.model == scenario.test:
        trained = names_of(read_split(split_path(dataset, name), scenario.model), "train")
    normal = [image for image in trained if image.split("/")[1] == GOOD]
    return int(results.set_by[method][name][scenario.name]) + len(normal)


def _confusion(results: Results) -> Rows:
    result: Rows = []
    for method, name, scenario in product(results.methods, results.classes, results.scenarios):
        counts = results.counts(method, scenario.name, name)
        of_actual = {"normal": counts.tn + counts.fp, "defective": counts.fn + counts.tp}
        for key, count in counts._asdict().items():
            actual = "normal" if key in ("tn", "fp") else "defective"
            result.append({
                "method": method, "class": name, "scenario": scenario.name, "actual": actual,
                "predicted": "normal" if key in ("tn", "fn") else "defective", "count": count,
                "share": round(count / of_actual[actual], 4) if of_actual[actual] else None,
            })  # fmt: skip
    return result


def _coreset(results: Results) -> Rows:
    frame = results.ablation
    if len(results.classes) == 1:
        frame = frame[frame["class"] != MACRO]  # it would be the class's own panel again
    long = frame.melt(["class", "ratio", "rows"], ABLATED, var_name="metric", ignore_index=False)
    long["metric"] = long["metric"].map(results.named)
    return _records(long.sort_index(kind="stable"))


def write(folder: Path, tables: Mapping[str, Rows]) -> None:
    """Write each chart's rows as NAME.csv. One without rows has a header alone, since dvc.yaml declares it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            columns = list(table[0]) if table else [CHARTS[name].x, CHARTS[name].y]
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows({key: plain(value) for key, value in row.items()} for row in table)


def fill(chart: Chart, table: Iterable[Mapping[str, Any]], folder: Path = TEMPLATES) -> dict[str, Any]:
    """The chart's template with its anchors filled, as `dvc plots show` would: a Vega-Lite specification."""
    anchors = {
        "DATA": [{"rev": "workspace", **row} for row in table],
        "TITLE": chart.title,
        "X": chart.x,
        "Y": chart.y,
        "X_LABEL": chart.x_label,
        "Y_LABEL": chart.y_label,
    }
    template = json.loads((folder / f"{chart.template}.json").read_text(encoding="utf-8"))
    return _replaced(template, {f"<DVC_METRIC_{name}>": value for name, value in anchors.items()})


def panels(chart: Chart, table: Rows) -> list[tuple[str, dict[str, Any]]]:
    """(heading, Vega-Lite specification) of each panel of a chart that has a value, with labels in place of keys."""
    drawn: dict[tuple[Any, ...], Rows] = {}
    for row in table:
        labelled = {column: label(cell) if column in chart.keys else cell for column, cell in row.items()}
        drawn.setdefault(tuple(row[column] for column in chart.panels), []).append(labelled)
    specs = []
    for values, part in drawn.items():
        if all(row.get("value", 0) is None for row in part):
            continue
        cells = zip(chart.panels, values, strict=True)
        heading = ", ".join(cell if column in CLASSES and cell != MACRO else label(cell) for column, cell in cells)
        whole = fill(chart, part)
        inner = whole.pop("spec")
        inner.get("encoding", {}).pop("strokeDash", None)  # tells revisions apart, of which there is one here
        outer = {key: value for key, value in whole.items() if key not in ("title", "facet", "columns", "resolve")}
        specs.append((heading, {**outer, **inner, "padding": PADDING}))
    return specs


def _replaced(node: Any, anchors: Mapping[str, Any]) -> Any:
    if isinstance(node, dict):
        return {key: _replaced(value, anchors) for key, value in node.items()}
    if isinstance(node, list):
        return [_replaced(value, anchors) for value in node]
    return anchors.get(node, node) if isinstance(node, str) else node


def svg(spec: Mapping[str, Any], prefix: str = "") -> str:
    """A specification as an SVG element whose text and lines have the page's colours.

    Args:
        spec: a Vega-Lite specification.
        prefix: of every id, so that ids of several charts on one page differ.
    """
    config = {"background": spec.get("background", "transparent"), "aria": False, "font": "sans-serif"}
    drawn = vega.svg({**spec, "config": {**spec.get("config", {}), **config}})
    for number, name in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', drawn))):
        drawn = drawn.replace(f'id="{name}"', f'id="{prefix}-{number}"').replace(
            f"url(#{name})", f"url(#{prefix}-{number})"
        )
    return drawn


def png(spec: Mapping[str, Any], scale: float = 1.5) -> bytes:
    """A specification as a PNG on white."""
    return vega.png({**spec, "background": "white"}, scale)


def draw(folder: Path, tables: Mapping[str, Rows], names: Iterable[str]) -> None:
    """Write these charts as NAME.png, except those without rows."""
    for name in filter(tables.get, names):
        (folder / f"{name}.png").write_bytes(png(fill(CHARTS[name], tables[name])))
