"""The declaration of a study, and its experiments.

The parameters of an experiment come from params.yaml, a preset, the study's settings, those of a point, and one choice
from the grid; later ones replace earlier ones. Its name is a hash of all its parameters and of the committed code, so
it is found again as long as neither changes, whatever the order of the points in the study.
"""

import copy
import hashlib
import itertools
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from adshift.errors import AdshiftError
from adshift.evaluation.metrics import registry
from adshift.evaluation.metrics.counts import Counts
from adshift.project import graph_lists, params, presets
from adshift.report.labels import ON_TEST
from adshift.runtime.settings import Section

FOLDER = Path("studies")
CODE = ("dvc.yaml", "pipeline/dvc.yaml", "src/adshift", "stages")  # what an experiment runs
ALL_METRICS = {
    *registry.BY_NAME, *(metric.name + ON_TEST for metric in registry.METRICS if metric.thresholded), "threshold",
    *Counts._fields,
}  # fmt: skip
CONTAMINATION = ("defective_images", "defective_pixels")  # shares of the training set, columns on request
RESULT = ("method", "scenario", "class")  # columns of what was measured, after those of the settings
RESERVED = {"experiment", "dataset", *CONTAMINATION, *RESULT, "metric", "value", "published", "difference"}

Label = str | int | float
Metrics = Field(min_length=1)


class Part(Section):
    """A part of a study that names metrics or columns."""

    @field_validator("metrics", check_fields=False)
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        unknown = [name for name in names if name not in ALL_METRICS]
        if unknown:
            raise ValueError(f"unknown: {', '.join(unknown)}; known are {', '.join(sorted(ALL_METRICS))}")
        return names


class Point(Section):
    """One listed experiment: a preset and settings of its own, and the labels it has in the table."""

    preset: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    labels: dict[str, Label] = Field(default_factory=dict)


class Table(Part):
    """The Markdown table.

    Attributes:
        metrics: its columns.
        where: {column: values}: the rows that are shown.
        over: a column, of whose rows mean and standard deviation are shown.
    """

    metrics: list[str] = Metrics
    where: dict[str, list[Label]] = Field(default_factory=dict)
    over: str | None = None


class Plot(Part):
    """The plot: one panel per metric and value of `panel`.

    Attributes:
        kind: lines and points over `x`, or a heat map of `x` and `y`.
        series: column that colours lines and points.
    """

    kind: Literal["line", "points", "heat"]
    x: str
    y: str | None = None
    series: str | None = None
    panel: str | None = None
    metrics: list[str] = Metrics
    where: dict[str, list[Label]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> "Plot":
        if (self.kind == "heat") != (self.y is not None) or (self.kind == "heat" and self.series):
            raise ValueError("a heat map has x and y and no series, other plots have no y")
        return self


class Published(Section):
    """The file of published figures, and the rule that assigns them to rows.

    Attributes:
        file: a CSV file.
        match: {its column: our column}.
        value: its column of figures, or {our metric: its column}.
        when: {our column: values} of the rows that it speaks about.
        rename: {our column: {our word: its word}}.
    """

    file: str
    match: dict[str, str]
    value: str | dict[str, str]
    when: dict[str, list[Label]] = Field(default_factory=dict)
    rename: dict[str, dict[str, str]] = Field(default_factory=dict)


class Study(Section):
    """studies/NAME.yaml.

    Attributes:
        preset: the start of all experiments; without one they start from params.yaml.
        set: {parameter: value} for all of them.
        grid: {parameter: values}, crossed with each other and with the points.
        points: experiments that are listed instead of crossed.
        columns: {column of the table: parameter}; the grid's parameters are columns too, called by their last word.
        contamination: adds the columns of `CONTAMINATION`.
        note: stands under the table.
    """

    title: str
    preset: str | None = None
    set: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    points: list[Point] = Field(default_factory=list)
    columns: dict[str, str] = Field(default_factory=dict)
    contamination: bool = False
    table: Table
    plot: Plot
    published: Published | None = None
    note: str = ""

    @field_validator("grid")
    @classmethod
    def _values(cls, grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for key, values in grid.items():
            if not values or any(value in values[:index] for index, value in enumerate(values)):
                raise ValueError(f"{key}: at least one value, none of them twice")
        return grid

    @model_validator(mode="after")
    def _consistent(self) -> "Study":
        if not self.grid and not self.points:
            raise ValueError("neither grid nor points: there is nothing to run")
        for name in filter(None, [self.preset, *(point.preset for point in self.points)]):
            if name not in presets.PRESETS:
                raise ValueError(f"preset {name}: known are {', '.join(presets.PRESETS)}")
        if len({tuple(point.labels) for point in self.points}) > 1:
            raise ValueError("points: not all have the same labels")
        if clash := RESERVED & {*self.settings_columns()}:
            raise ValueError(f"columns: {', '.join(sorted(clash))}: reserved")
        known = {*self.id_columns(), "experiment"}
        for section, names in self._named():
            if unknown := [name for name in names if name not in known]:
                raise ValueError(f"{section}: no column {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        return self

    def settings_columns(self) -> dict[str, str]:
        """{column: parameter, or "" for a label}."""
        labels = dict.fromkeys(self.points[0].labels, "") if self.points else {}
        return {**labels, **self.columns, **{key.split(".")[-1]: key for key in self.grid}}

    def id_columns(self) -> tuple[str, ...]:
        """Columns that say what a figure belongs to."""
        return ("dataset", *self.settings_columns(), *RESULT, *(CONTAMINATION if self.contamination else ()))

    def _named(self) -> Iterator[tuple[str, list[str]]]:
        plot, table, published = self.plot, self.table, self.published
        yield "table", [*table.where, *filter(None, [table.over])]
        yield "plot", [*plot.where, *filter(None, [plot.x, plot.y, plot.series, plot.panel])]
        if published:
            ours = [name for name in published.match.values() if name != "metric"]
            yield "published", [*ours, *published.when, *(name for name in published.rename if name != "metric")]


@dataclass(frozen=True)
class Experiment:
    """One run of the pipeline.

    Attributes:
        name: of the DVC experiment.
        changes: {parameter: value} where it differs from params.yaml as it lies there.
        columns: {column: value} of what the table says about its settings, data set included.
    """

    name: str
    changes: dict[str, Any]
    columns: dict[str, Label]

    def __str__(self) -> str:
        return ", ".join(f"{key} {value}" for key, value in self.columns.items())


def names() -> list[str]:
    """Studies that are declared."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(name: str) -> Study:
    """The study NAME.

    Raises:
        AdshiftError: it is missing or not valid; every key at fault is named.
    """
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise AdshiftError(f"{path}: not there", f"one of {', '.join(names())}; or write it: docs/studies.md")
    try:
        return Study.model_validate(params.read(path))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'study'}: {str(one['msg']).removeprefix('Value error, ')}"
            for one in error.errors()
        )
        raise AdshiftError(f"{path}: {problems}", "docs/studies.md says what a study can declare") from None


def changed(name: str, study: Study, changes: Sequence[str]) -> Study:
    """The study with further settings, `KEY=VALUE` with VALUE as YAML has it.

    Raises:
        AdshiftError: a change is no such pair, or of what the study varies itself.
    """
    from ruamel.yaml import YAML, YAMLError

    settings = dict(study.set)
    for text in changes:
        key, equals, value = text.partition("=")
        try:
            settings[key] = YAML(typ="safe").load(value)
        except YAMLError:
            equals = ""
        if not equals:
            raise AdshiftError(f"-S {text}: no KEY=VALUE", "such as -S split.max_train=100")
        if key in study.grid or any(key in point.set for point in study.points):
            raise AdshiftError(f"-S {text}: studies/{name}.yaml varies {key} itself", "change it there")
    return study.model_copy(update={"set": settings})


def expand(name: str, study: Study, roots: Mapping[str, str], code: str) -> list[Experiment]:
    """The experiments of a study.

    Args:
        name: of the study.
        study: as declared.
        roots: {data set: folder of its raw data}; raw/NAME for those not named.
        code: what identifies the code that runs them.

    Raises:
        AdshiftError: a parameter is unknown or its value is not allowed, or data are not where they should be.
    """
    path, base = FOLDER / f"{name}.yaml", params.read()
    experiments = []
    for point in study.points or [Point()]:
        preset, settings = point.preset or study.preset, {**study.set, **point.set}
        # A preset's classes are looked up on disk, unless the study names others.
        start = _preset(preset, roots, settings.get("classes") or ()) if preset else {}
        for choice in itertools.product(*study.grid.values()):
            values = copy.deepcopy(base)
            _set_all(values, copy.deepcopy(start), path)
            _set_all(values, {**settings, **dict(zip(study.grid, choice, strict=True))}, path)
            _anchor(values)
            params.validate(values, path)
            values["graph"] = graph_lists.lists(values)
            cells = {column: _cell(_get(values, key, path)) for column, key in study.settings_columns().items() if key}
            columns = {"dataset": values["dataset"]["name"], **point.labels, **cells}
            changes = dict(_differences(values, base))
            experiments.append(Experiment(_name(name, values, code), changes, columns))
    return experiments


def code_identity() -> str:
    """An identity of the committed code that experiments run.

    Raises:
        AdshiftError: the working tree has other code.
    """

    def git(*command: str) -> str:
        done = subprocess.run(["git", *command], check=False, capture_output=True, text=True)
        if done.returncode:
            message = f"git {command[0]}: {done.stderr.strip()}"
            raise AdshiftError(message, "studies need a git repository with a commit")
        return done.stdout

    changed = [line[3:] for line in git("status", "--porcelain", "--", *CODE).splitlines()]
    if changed:
        raise AdshiftError(f"not committed: {', '.join(changed)}", "commit: an experiment runs what is committed")
    return git("rev-parse", *(f"HEAD:{path}" for path in CODE))


def _preset(name: str, roots: Mapping[str, str], classes: Sequence[str]) -> dict[str, Any]:
    dataset = presets.PRESETS[name]["dataset.name"]
    return presets.resolved(name, roots.get(dataset, None if dataset == "sample" else f"raw/{dataset}"), classes)


def _name(study: str, values: Mapping[str, Any], code: str) -> str:
    text = json.dumps([values, code], sort_keys=True)
    return f"{study.replace('_', '-')}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _anchor(values: dict[str, Any]) -> None:
    """Make paths absolute: an experiment runs in a folder of its own, which holds what is committed alone."""
    for section, key in (("dataset", "root"), ("features", "weights")):
        given = values[section][key]
        if isinstance(given, str) and given != presets.SAMPLE_ROOT:
            values[section][key] = str(Path(given).absolute())


def _set_all(values: dict[str, Any], changes: Mapping[str, Any], path: Path) -> None:
    for key, value in changes.items():
        parent = _get(values, key, path, up=1)
        parent[key.split(".")[-1]] = copy.deepcopy(value)


def _get(values: dict[str, Any], key: str, path: Path, up: int = 0) -> Any:
    """The leaf `key`, or the section that holds it."""
    node: Any = values
    holders = []
    for part in key.split("."):
        holders.append(node)
        if not isinstance(node, dict) or part not in node:
            raise AdshiftError(f"{path}: params.yaml has no parameter {key}", "its leaves are named with dots")
        node = node[part]
    if isinstance(node, dict) and key != "features.options":  # whose value is a mapping
        raise AdshiftError(f"{path}: {key} is a section of params.yaml, not a parameter", "name its leaves with dots")
    return holders[-1] if up else node


def _cell(value: Any) -> Label:
    """A parameter's value as a cell."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value) if isinstance(value, bool) else value


def _differences(values: Any, base: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _differences(value, base[key], f"{prefix}{key}.")
        elif value != base[key] or type(value) is not type(base[key]):
            yield prefix + key, value
