"""Everything that was measured, as one tidy table: one row per method, scenario, class and metric.

Aggregation iterates over the classes and methods of params.yaml, never over files on disk. An undefined metric (no
normal or no defective image) is NaN; a macro average is the mean over the classes where the metric is defined.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from adshift.data.manifest import class_names
from adshift.errors import AdshiftError
from adshift.evaluation import intervals
from adshift.evaluation.metrics import registry
from adshift.evaluation.metrics.counts import Counts
from adshift.evaluation.metrics.image import BOOTSTRAPPED
from adshift.evaluation.scenarios import BASELINE, SCENARIOS, Scenario
from adshift.project.paths import evaluation_path
from adshift.report.labels import MACRO, ON_TEST, label
from adshift.report.table import Estimate
from adshift.runtime.files import read_json

METRICS = tuple(metric.name for metric in registry.METRICS)
THRESHOLDED = tuple(metric.name for metric in registry.METRICS if metric.thresholded)
ROWS = {metric.name: row for row, metric in enumerate(BOOTSTRAPPED)}  # {metric: its row in an array of replicates}
ABLATED = tuple(metric.name for metric in registry.shown_in("ablation"))
KEYS = ["method", "scenario", "class"]
AGAIN = "run `dvc repro evaluate`"

UPPER_BOUND = (
    "Thresholds were chosen on the test images (split.protocol: official; where nothing adapts to a shift, on their "
    "clean originals): F1 at a threshold chosen on the same images is an upper bound; other "
    "figures that need a threshold are not results."
)

Replicates = dict[tuple[str, str, str], np.ndarray]


@dataclass(frozen=True)
class Results:
    """Everything that was measured.

    Attributes:
        figures: method, scenario, class or `MACRO`, metric, value, low, high; low and high are the ends of the 95 %
            interval over test images. A class also has rows for its threshold and counts.
        cross_class: method, threshold_of, applied_to, fpr (false-positive rate).
        ablation: class or `MACRO`, ratio, rows (of the memory bank), and one column per metric.
        on: images that thresholds were chosen on, `val` or `test`.
        replicates: {(method, scenario, class or `MACRO`): (metrics, B)}, rows as in `intervals.METRICS`; a resample of
            a class's test images is the same for every method.
        scenarios: those that were run, in the order of tables.
        set_by: {method: {class: {scenario: number of normal images that set the threshold}}}.
        normal: {method: {class: {scenario: record of `evaluation.normals`}}}.
        unlabelled: {method: {class: {scenario: {images, alarms, scores}}}}.
        unknown_masks: {(method, scenario, class): test images whose masks are unknown, left out of pixel metrics}.
        titles: {class: its name for people}.
    """

    classes: tuple[str, ...]
    methods: tuple[str, ...]
    figures: pd.DataFrame
    cross_class: pd.DataFrame
    ablation: pd.DataFrame
    on: str
    replicates: Replicates
    scenarios: tuple[Scenario, ...] = SCENARIOS
    set_by: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    normal: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    unlabelled: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    unknown_masks: dict[tuple[str, str, str], int] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, and `MACRO` for their mean."""
        return (*self.classes, MACRO)

    def named(self, metric: str) -> str:
        """The name of a metric in files; it ends with `ON_TEST` if the threshold was chosen on test images."""
        return metric + ON_TEST if self.on == "test" and metric in THRESHOLDED else metric

    def note(self, metrics: Iterable[str]) -> str:
        """The note under a table of these metrics."""
        return UPPER_BOUND if any(self.named(metric) != metric for metric in metrics) else ""

    def partial_means(self, scenarios: Iterable[Scenario], metrics: Iterable[str]) -> str:
        """A note on metrics whose mean leaves classes out, such as PRO if a class has no masks."""
        metrics, pairs = list(metrics), list(product(self.methods, (scenario.name for scenario in scenarios)))
        fewest = {metric: min(self.having(*pair, metric) for pair in pairs) for metric in metrics} if pairs else {}
        several = len(self.classes) > 1
        partial = [f"{label(metric)} of {few}" for metric, few in fewest.items() if several and few < len(self.classes)]
        lacking = f"Means are of the classes that have the figure: {', '.join(partial)} of {len(self.classes)} classes."
        unknown = sum(self.unknown_masks.get((self.methods[0], BASELINE.name, name), 0) for name in self.classes)
        pixels = unknown and any(registry.BY_NAME[metric].level == "pixel" for metric in fewest)
        masks = f"Pixel metrics leave out {unknown} defective test images whose masks are unknown." if pixels else ""
        return f"{lacking if partial else ''} {masks}".strip()

    def having(self, method: str, scenario: str, metric: str) -> int:
        """Number of classes in which the metric is defined."""
        return sum(self.value(method, scenario, name, metric) is not None for name in self.classes)

    @cached_property
    def _estimates(self) -> dict[tuple[str, ...], Estimate]:
        rows = self.figures[[*KEYS, "metric", "value", "low", "high"]].itertuples(index=False, name=None)
        return {row[:4]: Estimate(*(None if np.isnan(value) else value for value in row[4:])) for row in rows}

    def estimate(self, method: str, scenario: str, name: str, metric: str) -> Estimate:
        """A metric of a class, or of their mean, with its interval; pixel metrics and bounds have none."""
        return self._estimates[method, scenario, name, metric]

    def value(self, method: str, scenario: str, name: str, metric: str) -> float | None:
        """A metric of a class, or of their mean."""
        return self.estimate(method, scenario, name, metric).value

    def counts(self, method: str, scenario: str, name: str) -> Counts:
        """Test images of a class by truth and prediction."""
        return Counts(*(int(self.value(method, scenario, name, count) or 0) for count in Counts._fields))

    def thresholds(self) -> dict[tuple[str, str, str], float]:
        """{(method, class, scenario): threshold}."""
        rows = self.figures[self.figures["metric"] == "threshold"].itertuples(index=False)
        return {(row.method, row[2], row.scenario): row.value for row in rows}

    def difference(self, one: tuple[str, str], other: tuple[str, str], name: str, metric: str) -> Estimate:
        """Difference of two (method, scenario) pairs on the same test images, with the same resamples for both."""
        values = [self.value(*pair, name, metric) for pair in (one, other)]
        if None in values:
            return Estimate(None, None, None)
        difference = values[0] - values[1]  # type: ignore[operator]
        if metric not in ROWS:
            return Estimate(difference, None, None)
        moved = self.replicates[*one, name][ROWS[metric]] - self.replicates[*other, name][ROWS[metric]]
        return Estimate(difference, *(None if np.isnan(end) else float(end) for end in intervals.interval(moved)))


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
    figures, replicates, crossed, chosen_on = [], {}, [], set()
    kept: dict[str, dict[str, Any]] = {"set_by": {}, "normal": {}, "unlabelled": {}}
    unknown: dict[tuple[str, str, str], int] = {}
    for method in methods:
        image, pixel = (read_json(root / level / f"{method}.json") for level in ("image", "pixel"))
        drawn = intervals.load(root / "bootstrap" / f"{method}.npz")
        try:
            chosen_on.add(image["on"])
            for key, by_method in kept.items():
                by_method[method] = image.get(key, {})
            for scenario, name in product(scenarios, classes):
                measured = _measured(image["classes"][name][scenario.name], pixel[name][scenario.pixels])
                figures += [(method, scenario.name, name, metric, value) for metric, value in measured.items()]
                replicates[method, scenario.name, name] = drawn[name, scenario.name]
                unknown[method, scenario.name, name] = pixel[name][scenario.pixels].get("unknown_masks", 0)
            if any(scenario.unified for scenario in scenarios):
                crossed += [(method, of, to, image["cross_class"][of][to]) for of, to in product(classes, classes)]
        except KeyError as error:
            raise AdshiftError(f"{root}, {method}: no entry {error}", AGAIN) from None
    if len(chosen_on) > 1:
        raise AdshiftError(f"{root}: thresholds of one method were chosen on val, of another on test", AGAIN)
    for method, scenario in product(methods, scenarios):
        sets = [replicates[method, scenario.name, name] for name in classes]
        replicates[method, scenario.name, MACRO] = intervals.mean(sets)
    return Results(
        tuple(classes), tuple(methods), _with_intervals(_with_means(figures, classes, methods), replicates),
        pd.DataFrame(crossed, columns=["method", "threshold_of", "applied_to", "fpr"]).astype({"fpr": float}),
        _ablation(dataset, classes, ratios), chosen_on.pop(), replicates, tuple(scenarios),
        kept["set_by"], kept["normal"], kept["unlabelled"], unknown, class_names(dataset, classes),
    )  # fmt: skip


def mean(values: pd.Series) -> float:
    """Mean of the defined values, NaN if there is none. Added in order, so that every machine gives the same."""
    defined = values.dropna()
    return sum(defined) / len(defined) if len(defined) else np.nan


def _measured(image: Mapping[str, Any], pixel: Mapping[str, Any]) -> dict[str, Any]:
    """{metric: value}, with threshold and counts, from the two files of evaluations."""
    values = {one.name: (image if one.level == "image" else pixel)[one.key] for one in registry.METRICS}
    return values | {key: image[key] for key in ("threshold", *Counts._fields)}


def _with_means(rows: list[tuple[Any, ...]], classes: Sequence[str], methods: Sequence[str]) -> pd.DataFrame:
    """The tidy table with the means of classes, in the order of the parameters and of the records."""
    figures = pd.DataFrame(rows, columns=[*KEYS, "metric", "value"]).astype({"value": float})
    grouped = figures[figures["metric"].isin(METRICS)].groupby(["method", "scenario", "metric"], as_index=False)
    means = grouped["value"].agg(mean).assign(**{"class": MACRO})
    order = {
        "method": methods, "scenario": [scenario.name for scenario in SCENARIOS], "class": [*classes, MACRO],
        "metric": [*METRICS, "threshold", *Counts._fields],
    }  # fmt: skip
    ordered = pd.concat([figures, means])
    for column, names in order.items():
        ordered[column] = pd.Categorical(ordered[column], categories=names)
    return ordered.sort_values([*KEYS, "metric"], ignore_index=True)


def _with_intervals(figures: pd.DataFrame, replicates: Replicates) -> pd.DataFrame:
    """The tidy table with the ends of intervals; NaN if the metric is undefined or has no replicates."""
    low, high = intervals.interval(np.stack(list(replicates.values())))
    index = pd.MultiIndex.from_tuples(replicates, names=KEYS)
    ends = [
        pd.DataFrame(values, index, list(ROWS)).rename_axis(columns="metric").stack().rename(name)
        for name, values in (("low", low), ("high", high))
    ]
    joined = figures.join(pd.concat(ends, axis=1), on=[*KEYS, "metric"])
    joined.loc[joined["value"].isna(), ["low", "high"]] = np.nan
    return joined


def _ablation(dataset: str, classes: Sequence[str], ratios: Sequence[float]) -> pd.DataFrame:
    path = evaluation_path(dataset) / "ablation.json"
    keys = {"rows": "rows"} | {name: registry.BY_NAME[name].key for name in ABLATED}
    rows: list[dict[str, Any]] = []
    if not ratios:
        return pd.DataFrame(columns=["class", "ratio", *keys])
    try:
        by_class = read_json(path)["classes"]
        for name in classes:
            measured = {float(ratio): entry for ratio, entry in by_class[name].items()}
            for ratio in sorted(ratios):
                values = {key: measured[ratio][source] for key, source in keys.items()}
                rows.append({"class": name, "ratio": ratio, **values})
    except KeyError as error:
        raise AdshiftError(f"{path}: no entry {error}", AGAIN) from None
    measured_rows = pd.DataFrame(rows)
    means = measured_rows.astype({key: float for key in keys}).groupby("ratio", as_index=False)[list(keys)].agg(mean)
    return pd.concat([measured_rows.astype(object), means.assign(**{"class": MACRO}).astype(object)], ignore_index=True)
