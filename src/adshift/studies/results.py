"""The results of a study: one tidy CSV, a Markdown table with published figures beside ours, and a plot."""

import csv
import io
import shlex
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adshift.errors import AdshiftError
from adshift.project import paths
from adshift.report import plots
from adshift.report.labels import MACRO, label
from adshift.report.published import read_csv, with_means
from adshift.report.table import DIFFERENCE, PUBLISHED, SPREAD, Table, plain
from adshift.runtime import checksums, provenance
from adshift.runtime.files import output
from adshift.studies.declare import CONTAMINATION, FOLDER, RESULT, Experiment, Label, Plot, Published, Study

RESULTS = FOLDER / "results"
TEMPLATES = FOLDER / "templates"

Rows = list[dict[str, Any]]
Cell = str | int | float | None


def collect(study: Study, experiments: Sequence[Experiment], finished: Mapping[str, str]) -> Rows:
    """The tidy rows of the experiments that are finished: settings, what was measured, its published figure.

    Raises:
        AdshiftError: results of one cannot be read.
    """
    published = _published(study.published)
    return [
        row
        for experiment in experiments
        if experiment.name in finished
        for row in tidy(study, experiment, *_outputs(study, experiment, finished[experiment.name]), published)
    ]


def tidy(
    study: Study,
    experiment: Experiment,
    measured: Sequence[Mapping[str, str]],
    contamination: Mapping[str, Mapping[str, float]],
    published: Sequence[Mapping[str, str]],
) -> Rows:
    """Rows of one experiment.

    Args:
        study: its declaration.
        experiment: what it ran.
        measured: rows of the pipeline's long table.
        contamination: {class: {share, pixels}}, for a study that asks for it.
        published: rows of the published table.
    """
    rows = []
    for line in with_means(measured):
        row: dict[str, Any] = {"experiment": experiment.name, **experiment.columns}
        row |= {column: line[column] for column in RESULT}
        if study.contamination:
            classes = [contamination[line["class"]]] if line["class"] != MACRO else list(contamination.values())
            for column, key in zip(CONTAMINATION, ("share", "pixels"), strict=True):
                row[column] = sum(one[key] for one in classes) / len(classes)
        row |= {"metric": line["metric"], "value": float(line["value"]) if line["value"] else None}
        theirs = look_up(study.published, published, row)
        row["published"] = theirs
        row["difference"] = None if theirs is None or row["value"] is None else row["value"] - theirs
        rows.append(row)
    return rows


def look_up(source: Published | None, published: Sequence[Mapping[str, str]], row: Mapping[str, Any]) -> float | None:
    """The published figure that belongs to a row, if there is one.

    Raises:
        AdshiftError: several different figures belong to the row.
    """
    if source is None or not _kept(row, source.when):
        return None
    column = source.value if isinstance(source.value, str) else source.value.get(row["metric"])
    if column is None:
        return None
    asked = {}
    for theirs, ours in source.match.items():
        renamed = source.rename.get(ours, {})
        asked[theirs] = renamed.get(str(row[ours]), row[ours])
        if str(row[ours]) not in renamed and row[ours] in renamed.values():
            return None  # the publication uses this word for another of our values
    figures = {
        line[column] for line in published if all(_same(line[theirs], value) for theirs, value in asked.items())
    } - {""}
    if len(figures) > 1:
        conditions = ", ".join(f"{theirs} {value}" for theirs, value in asked.items())
        raise AdshiftError(
            f"{source.file}: {' and '.join(sorted(figures))} for {conditions}", "match more of its columns"
        )
    return float(figures.pop()) if figures else None


def markdown(study: Study, rows: Rows, note: str) -> str:
    """The table of a study. Values that all rows share stand under it."""
    shown = [row for row in rows if _kept(row, study.table.where)]
    ids = [column for column in study.id_columns() if column != study.table.over]
    values = {column: {str(_named(row[column])) for row in shown} for column in ids}
    keys = [column for column in ids if len(values[column]) > 1 or column == "method"]
    metrics = [metric for metric in study.table.metrics if any(row["metric"] == metric for row in shown)]
    spread = study.table.over is not None
    beside = {
        metric: any(row["metric"] == metric and row["published"] is not None for row in shown) for metric in metrics
    }

    groups: dict[tuple[Cell, ...], dict[str, Rows]] = {}
    for row in shown:
        groups.setdefault(tuple(row[key] for key in keys), {}).setdefault(row["metric"], []).append(row)
    body = []
    for key, figures in groups.items():
        line = [_named(value) for value in key]
        for metric in metrics:
            line += _cells(figures.get(metric, []), spread, beside[metric])
        body.append(tuple(line))
    columns = [*keys]
    for metric in metrics:
        columns += [metric, *([metric + SPREAD] if spread else [])]
        columns += [metric + PUBLISHED, metric + DIFFERENCE] if beside[metric] else []
    common = [f"{label(column)} {_text(column, *values[column])}" for column in ids if column not in keys]
    notes = [study.note.strip(), f"Throughout: {'; '.join(common)}." if common else "", note]
    frame = pd.DataFrame(body, columns=columns, dtype=object)
    return Table("study", study.title, frame, "\n\n".join(filter(None, notes))).markdown()


def _named(value: Cell) -> Cell:
    """A parameter's value as tables and plots have it."""
    return "not set" if value is None else value


def _text(column: str, value: Cell) -> str:
    """A value in words; a class keeps its name, which may be that of a method or a scenario."""
    return str(value) if column == "class" and value != MACRO else label(_named(value))


def _cells(figures: Rows, spread: bool, beside: bool) -> list[Cell]:
    """Value, standard deviation, published figure and difference of one metric of one row of the table."""
    values = [row["value"] for row in figures if row["value"] is not None]
    value = sum(values) / len(values) if values else None
    if not spread and len(figures) > 1:
        raise AdshiftError(
            f"table: {len(figures)} figures for one cell: {figures[0]}", "add to table.where, or to columns"
        )
    theirs = next((row["published"] for row in figures if row["published"] is not None), None)
    cells: list[Cell] = [value]
    cells += [statistics.stdev(values) if len(values) > 1 else None] if spread else []
    return [*cells, theirs, None if theirs is None or value is None else value - theirs] if beside else cells


def specification(study: Study, rows: Rows, templates: Path = TEMPLATES) -> dict[str, Any]:
    """The plot of a study, a Vega-Lite specification; where there are published figures, hollow points show them."""
    plot = study.plot
    x, y = label(plot.x), "" if plot.y is None else label(plot.y)
    chart = plots.Chart("study", f"{plot.kind}", study.title, "x", "y" if plot.y else "value", x, y)
    filled = plots.fill(chart, list(_points(plot, rows)), templates)
    # A line of panels a metric. Vega-Lite can lay out both at once, but places its cells by the order of the data, and
    # the labels beside them need not have that order.
    facet = {key: filled.pop(key) for key in ("facet", "spec", "resolve")}
    shown = list(dict.fromkeys(point["metric"] for point in filled["data"]["values"]))
    lines = [
        {
            "title": {"text": metric, "orient": "left", "anchor": "middle", "fontSize": 11, "fontWeight": "normal"},
            "transform": [{"filter": {"field": "metric", "equal": metric}}],
            **facet,
        }
        for metric in shown
    ]
    return {**filled, "vconcat": lines, "resolve": {"scale": {"color": "shared"}}}


def _points(plot: Plot, rows: Rows) -> Iterable[dict[str, Any]]:
    for row in rows:
        if row["metric"] not in plot.metrics or not _kept(row, plot.where):
            continue
        for source in ("ours", "published"):
            value = row["value" if source == "ours" else "published"]
            if value is not None:
                yield {
                    "x": _text(plot.x, row[plot.x]),
                    "y": _text(plot.y, row[plot.y]) if plot.y else None,
                    "series": _text(plot.series, row[plot.series]) if plot.series else "",
                    "panel": _text(plot.panel, row[plot.panel]) if plot.panel else "",
                    "metric": label(row["metric"]),
                    "source": source,
                    "value": value,
                }


def write(name: str, study: Study, experiments: Sequence[Experiment], rows: Rows) -> Path:
    """Write NAME.csv, NAME.md and NAME.svg; returns their folder.

    Raises:
        AdshiftError: nothing is finished, or table or plot would be empty.
    """
    finished, every = {row["experiment"] for row in rows}, {experiment.name for experiment in experiments}
    if not rows:
        raise AdshiftError(f"study {name}: none of {len(every)} experiments is finished", f"adshift study run {name}")
    for part, section in ((study.table, "table"), (study.plot, "plot")):
        if not any(row["metric"] in part.metrics and _kept(row, part.where) for row in rows):
            raise AdshiftError(
                f"studies/{name}.yaml: {section}: no row is left to show", f"correct {section}.where or .metrics"
            )
    note = f"{len(finished)} experiments; every figure: [{name}.csv]({name}.csv); plot: [{name}.svg]({name}.svg)."
    note += f"\n\n`{shlex.join(['adshift', *sys.argv[1:]])}`: {provenance.sentence(provenance.provenance())}."
    if len(finished) < len(every):
        note = f"**Incomplete: {len(finished)} of {len(every)} experiments.** {note}"
    with output(RESULTS / name) as folder:
        folder.mkdir()
        (folder / f"{name}.csv").write_text(_csv(rows), encoding="utf-8")
        (folder / f"{name}.md").write_text(markdown(study, rows, note), encoding="utf-8")
        drawn = plots.svg({**specification(study, rows), "background": "white"}, prefix=name)
        (folder / f"{name}.svg").write_text(drawn, encoding="utf-8")
    return RESULTS / name


def _csv(rows: Rows) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows({key: plain(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _outputs(
    study: Study, experiment: Experiment, commit: str
) -> tuple[list[dict[str, str]], dict[str, dict[str, float]]]:
    """The long table of an experiment's commit, from DVC's cache, and the contamination of its training sets."""
    import json

    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    try:
        files = DVCFileSystem(rev=commit)
        measured = list(csv.DictReader(io.StringIO(files.read_text(str(paths.RESULTS), encoding="utf-8"))))
        if not study.contamination:
            return measured, {}
        path = paths.contamination_path(str(experiment.columns["dataset"]))
        return measured, checksums.open_json(json.loads(files.read_text(str(path), encoding="utf-8")))
    except (OSError, DvcException, ValueError) as error:
        message = f"experiment {experiment.name}: its results cannot be read ({error})"
        raise AdshiftError(message, f"`dvc exp remove {experiment.name}` and run the study again") from None


def _published(source: Published | None) -> list[dict[str, str]]:
    if source is None:
        return []
    rows = read_csv(Path(source.file))
    columns = [*source.match, *([source.value] if isinstance(source.value, str) else source.value.values())]
    if missing := [column for column in columns if not rows or column not in rows[0]]:
        raise AdshiftError(f"{source.file}: no column {', '.join(missing)}", "correct `published` in the study")
    return rows


def _kept(row: Mapping[str, Any], conditions: Mapping[str, Sequence[Label]]) -> bool:
    return all(any(_same(row[column], value) for value in values) for column, values in conditions.items())


def _same(one: Any, other: Any) -> bool:
    """Cells of CSV files are text, those of YAML files may be numbers; "01" is no number, where both are text."""
    if isinstance(one, str) and isinstance(other, str):
        return one == other
    try:
        return float(one) == float(other)
    except ValueError:
        return str(one) == str(other)
