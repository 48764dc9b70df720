"""Compare runs, also of different data sets, with each other and with published figures: a table and a radar chart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from adshift.errors import AdshiftError
from adshift.evaluation.metrics.registry import shown_in
from adshift.project.paths import RESULTS
from adshift.report import plots
from adshift.report.labels import MACRO, ON_TEST, label
from adshift.report.published import read_csv, with_means
from adshift.report.table import HIGH, LOW, Estimate, Table

METRICS = tuple(metric.name for metric in shown_in("runs"))
RESULT_PATHS = (Path("results.csv"), RESULTS)  # relative to a folder of results, or to a project
PUBLISHED = "published_mvtec_ad.csv"
CHOSEN_ON_TEST = " (thresholds chosen on test)"
COLOURS = ("#3b8fd9", "#e8862e", "#12a37f", "#9b6bd3", "#c4487f", "#7a8699")
NOTE = (
    "Means of classes; in brackets 95 % intervals over test images, where the run has them. Published rows are other "
    "people's figures on MVTec AD's 15 classes, with their backbones and protocols: they say where a field stands."
)


@dataclass(frozen=True)
class Run:
    """What a run measured in one scenario: {method: {metric: mean over classes}}; a metric may be missing.

    The name ends with `CHOSEN_ON_TEST` if thresholds were chosen on the test images.
    """

    name: str
    methods: dict[str, dict[str, Estimate]]


def read(folder: Path, scenario: str) -> Run:
    """A run's table of all results, as `aggregate` writes it.

    Raises:
        AdshiftError: there is none, or it has no such scenario.
    """
    path = path_of(folder)
    methods: dict[str, dict[str, Estimate]] = {}
    name = folder.resolve().name
    try:
        for row in with_means(read_csv(path)):
            if (row["scenario"], row["class"]) == (scenario, MACRO):
                metric = row["metric"].removesuffix(ON_TEST)
                if metric != row["metric"] and not name.endswith(CHOSEN_ON_TEST):
                    name += CHOSEN_ON_TEST
                ends = (_number(row.get(end, "")) for end in ("value_low", "value_high"))
                methods.setdefault(row["method"], {})[metric] = Estimate(_number(row["value"]), *ends)
    except (KeyError, ValueError) as error:
        raise AdshiftError(f"{path}: no table of results ({error})", "make it again: `dvc repro aggregate`") from None
    if not methods:
        raise AdshiftError(f"{path}: nothing about the scenario {scenario}", "choose another with --scenario")
    return Run(name, methods)


def path_of(folder: Path) -> Path:
    """The table of all results of a project, or in a folder of results.

    Raises:
        AdshiftError: there is none.
    """
    for relative in RESULT_PATHS:
        if (folder / relative).is_file():
            return folder / relative
    raise AdshiftError(
        f"{folder}: no {' or '.join(map(str, RESULT_PATHS))}", "name folders that hold results of `dvc repro`"
    )


def _number(text: str) -> float | None:
    return float(text) if text else None


def table(runs: Sequence[Run], reference: Path) -> Table:
    """One row per run and method, then one per published result."""
    missing = Estimate(None, None, None)
    rows = [
        (run.name, method, *(end for metric in METRICS for end in measured.get(metric, missing)))
        for run in runs
        for method, measured in run.methods.items()
    ]
    for row in read_csv(reference / PUBLISHED):
        printed = ((_number(row.get(metric, "")), None, None) for metric in METRICS)
        rows.append(("published, MVTec AD", row["method"], *(end for ends in printed for end in ends)))
    columns = ["data", "method", *(metric + end for metric in METRICS for end in ("", LOW, HIGH))]
    frame = pd.DataFrame(rows, columns=columns, dtype=object)
    return Table("comparison", "Runs beside each other, and published figures", frame, NOTE)


def radar(runs: Sequence[Run]) -> dict[str, Any]:
    """A Vega-Lite specification: one chart per method, one spoke per metric that all runs have, one line per run.

    Raises:
        AdshiftError: the runs have fewer than three metrics in common.
    """
    everywhere = [estimates for run in runs for estimates in run.methods.values()]
    metrics = [name for name in METRICS if all(estimates.get(name, (None,))[0] is not None for estimates in everywhere)]
    if len(metrics) < 3:
        raise AdshiftError(
            f"the runs have {len(metrics)} metrics in common, a radar chart needs 3", "compare other runs"
        )
    names = [run.name for run in runs]
    charts = []
    for method in dict.fromkeys(method for run in runs for method in run.methods):
        lines = [
            {**point, "run": run.name, "value": estimates[metrics[spoke % len(metrics)]].value}
            for run in runs
            if (estimates := run.methods.get(method))
            for spoke, point in enumerate(_ring([estimates[metric].value or 0.0 for metric in metrics]))
        ]
        charts.append({"title": label(method), "width": 260, "height": 260,
                       "layer": [*_web(metrics), *_lines(lines, names)]})  # fmt: skip
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "hconcat": charts,
        "config": {"view": {"stroke": None}},
    }


def _ring(radii: Sequence[float]) -> list[dict[str, float]]:
    """A closed line: points at these distances on spokes, the first one upwards, the others clockwise."""
    count = len(radii)
    angles = [2 * math.pi * spoke / count for spoke in range(count + 1)]
    return [
        {"x": round(radii[spoke % count] * math.sin(angle), 6), "y": round(radii[spoke % count] * math.cos(angle), 6),
         "order": spoke}
        for spoke, angle in enumerate(angles)
    ]  # fmt: skip


def _position(field: str) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "axis": None, "scale": {"domain": [-1.5, 1.5]}}


def _web(metrics: Sequence[str]) -> list[dict[str, Any]]:
    """The grid of a radar chart: rings at every quarter, the spokes and their names."""
    count = len(metrics)
    rings = [{**point, "ring": level} for level in (0.25, 0.5, 0.75, 1.0) for point in _ring([level] * count)]
    spokes = [
        {**end, "ring": metric}
        for metric, point in zip(metrics, _ring([1.0] * count), strict=False)
        for end in ({"x": 0, "y": 0, "order": 0}, point)
    ]
    names = [{**point, "text": label(metric)} for metric, point in zip(metrics, _ring([1.3] * count), strict=False)]
    position = {"x": _position("x"), "y": _position("y")}
    grid = {"mark": {"type": "line", "color": "#8886", "strokeWidth": 1},
            "encoding": {**position, "order": {"field": "order"}, "detail": {"field": "ring"}}}  # fmt: skip
    return [
        {"data": {"values": rings}, **grid},
        {"data": {"values": spokes}, **grid},
        {"data": {"values": names}, "mark": {"type": "text", "fontSize": 10},
         "encoding": {**position, "text": {"field": "text"}}},
    ]  # fmt: skip


def _lines(rows: list[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    colour = {"field": "run", "type": "nominal", "title": "run",
              "scale": {"domain": list(names), "range": list(COLOURS[: len(names)])}}  # fmt: skip
    encoding = {"x": _position("x"), "y": _position("y"), "order": {"field": "order"}, "color": colour}
    return [{"data": {"values": rows}, "mark": {"type": "line", "point": True, "strokeWidth": 2}, "encoding": encoding}]


def write(folder: Path, runs: Sequence[Run], reference: Path) -> Table:
    """Write comparison.csv, comparison.md and radar.png; returns the table."""
    comparison, chart = table(runs, reference), plots.png(radar(runs))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.csv").write_text(comparison.csv(), encoding="utf-8")
    (folder / "comparison.md").write_text(comparison.markdown(), encoding="utf-8")
    (folder / "radar.png").write_bytes(chart)
    return comparison
