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
from pathlib import Path
from typing import Any

from adshift.report import vega
from adshift.report.tables import COUNTS, METRICS, Results, evaluation_path, plain, read_csv

TEMPLATES = Path(".dvc/plots")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Chart:
    """One plot as dvc.yaml declares it.

    Attributes:
        name: of plots/NAME.csv.
        template: of .dvc/plots/TEMPLATE.json.
        x, y: columns.
    """

    name: str
    template: str
    title: str
    x: str
    y: str
    x_label: str
    y_label: str


CHARTS = {
    chart.name: chart
    for chart in (
        Chart("scenarios", "scenarios", "What drift costs and what buys it back", "scenario", "value", "scenario", ""),
        Chart("roc", "curves", "ROC", "fpr", "tpr", "false-positive rate", "true-positive rate"),
        Chart("pr", "curves", "Precision and recall", "recall", "precision", "recall", "precision"),
        Chart("scores", "scores", "Scores and thresholds", "score", "scenario", "raw score", ""),
        Chart("confusion", "confusion", "Confusion matrices", "predicted", "actual", "predicted", "actual"),
        Chart("coreset", "coreset", "Coreset ratio", "ratio", "value", "share of patches kept", ""),
        Chart("cross_class", "matrix", "One class's threshold on another's normal images", "applied_to",
              "threshold_of", "normal images of", "threshold of"),
        Chart("unified_gap", "gap", "One model a class against one for all", "value", "class", "", ""),
    )
}  # fmt: skip


def rows(dataset: str, results: Results) -> dict[str, Rows]:
    """{chart: its rows} of all classes and methods.

    Raises:
        AdshiftError: a curve table is missing.
    """
    curves: dict[str, Rows] = {"roc": [], "pr": [], "scores": []}
    for method in results.methods:
        place = evaluation_path(dataset) / "curves" / method
        for name in curves:
            curves[name] += _curve(place / f"{name}.csv", method, results.classes)
    cross = [
        {"method": method, "threshold_of": of, "applied_to": to, "fpr": results.cross_class[method][of][to]}
        for method in results.methods
        for of in results.classes
        for to in results.classes
        if results.cross_class
    ]
    return {
        **curves,
        "scenarios": _scenarios(results),
        "confusion": _confusion(results),
        "coreset": _coreset(results),
        "cross_class": cross,
        "unified_gap": [
            row for row in _scenarios(results)
            if results.cross_class and row["scenario"] in ("clean", "unified")
            and row["metric"] in map(results.named, ("image_auroc", "image_f1", "specificity"))
        ],
    }  # fmt: skip


def _curve(path: Path, method: str, classes: Sequence[str]) -> Rows:
    """Rows of one method's curve table, each numbered within its curve so that a line keeps its order."""
    result: Rows = []
    point: dict[tuple[str, str], int] = {}
    for row in read_csv(path):
        if row["class"] in classes:
            key = row["class"], row["scenario"]
            point[key] = point.get(key, -1) + 1
            result.append({"method": method, **row, "point": point[key]})
    return result


def _scenarios(results: Results) -> Rows:
    shown = ("image_auroc", "image_f1", "specificity", "recall", "pixel_auroc", "pro")
    return [
        {
            "method": method,
            "class": name,
            "scenario": scenario,
            "metric": results.named(metric),
            "value": values[metric],
        }
        for (method, scenario, name), values in results.values.items()
        for metric in METRICS
        if metric in shown
    ]


def _confusion(results: Results) -> Rows:
    result: Rows = []
    for method in results.methods:
        for name in results.classes:
            for scenario in results.scenarios:
                values = results.values[method, scenario.name, name]
                for count in COUNTS:
                    actual = "normal" if count in ("tn", "fp") else "defective"
                    predicted = "normal" if count in ("tn", "fn") else "defective"
                    total = values["tn"] + values["fp"] if actual == "normal" else values["fn"] + values["tp"]
                    result.append({
                        "method": method, "class": name, "scenario": scenario.name, "actual": actual,
                        "predicted": predicted, "count": values[count],
                        "share": round(values[count] / total, 4) if total else None,
                    })  # fmt: skip
    return result


def _coreset(results: Results) -> Rows:
    return [
        {"class": name, "ratio": ratio, "rows": entry["rows"], "metric": results.named(metric), "value": entry[metric]}
        for name, ratios in results.ablation.items()
        for ratio, entry in ratios.items()
        for metric in entry
        if metric != "rows"
    ]


def write(folder: Path, tables: Mapping[str, Rows]) -> None:
    """Write each chart's rows as NAME.csv, as tables are; without a row the header alone, since dvc.yaml names it."""
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


def _replaced(place: Any, anchors: Mapping[str, Any]) -> Any:
    if isinstance(place, dict):
        return {key: _replaced(value, anchors) for key, value in place.items()}
    if isinstance(place, list):
        return [_replaced(value, anchors) for value in place]
    return anchors.get(place, place) if isinstance(place, str) else place


def svg(spec: Mapping[str, Any], prefix: str = "") -> str:
    """A specification as an SVG element that takes its colours of text and lines from the page.

    Args:
        spec: a Vega-Lite specification.
        prefix: of every id within, since Vega numbers ids as it likes and a page holds many charts.
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
    """Write these charts as NAME.png; none without a row."""
    for name in filter(tables.get, names):
        (folder / f"{name}.png").write_bytes(png(fill(CHARTS[name], tables[name])))
