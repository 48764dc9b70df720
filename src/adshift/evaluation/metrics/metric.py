"""The record of a metric. It stands beside the function that computes it; tables, charts, page and docs read it."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Need = Literal["threshold", "normal", "defects", "masks"]
Place = Literal["page", "summary", "chart", "differences", "ablation", "runs"]


@dataclass(frozen=True)
class Metric:
    """A figure of a method, class and scenario.

    Attributes:
        name: in tables, on the page and in studies.
        label: in tables and on the page.
        level: `image` or `pixel`.
        measure: computes the value, or None if the data cannot give it, from `Counts` if the metric needs a threshold,
            else from `Ranked` (level image) or `pixel.Pixels` (level pixel).
        needs: a threshold, normal or defective images (for pixel metrics: pixels or images), masks. The value is None
            if one is missing.
        higher_is_better: whether the method with the higher value is the better one.
        bounds: least and greatest value.
        resampled: computes the values of B resamples, (B,) float64, from `ResampledRanks`. None if the metric needs a
            threshold: its `measure` takes counts of resamples too.
        places: where it is shown beside the table of all results: figures of the page, metrics/summary.json, the chart
            of scenarios (and the model card), the table of differences, the coreset ablation, the comparison of runs.
        short: label without the level; empty for `label`.
        on_test: note under the metric if the threshold was chosen on the test images.
        description: a sentence for the page and docs/metrics.md.
    """

    name: str
    label: str
    level: Literal["image", "pixel"]
    measure: Callable[[Any], Any]
    needs: tuple[Need, ...] = ()
    higher_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)
    resampled: Callable[[Any], np.ndarray] | None = None
    places: tuple[Place, ...] = ("page",)
    short: str = ""
    on_test: str = "threshold chosen on test"
    description: str = ""

    @property
    def key(self) -> str:
        """Its name in the files of evaluations, each of which holds one level."""
        return self.name.removeprefix(f"{self.level}_")

    @property
    def thresholded(self) -> bool:
        """Whether it needs a threshold."""
        return "threshold" in self.needs

    @property
    def bootstrapped(self) -> bool:
        """Whether it has an interval."""
        return self.thresholded or self.resampled is not None

    def undefined(self, lacking: Collection[Need]) -> bool:
        """Whether the metric is undefined for data that lack `lacking`."""
        return bool(set(self.needs) & set(lacking))

    @property
    def short_label(self) -> str:
        """Label without the level."""
        return self.short or self.label


def lacking_of(normal: int, defective: int) -> tuple[Need, ...]:
    """The needs that data with these numbers of normal and defective images do not meet."""
    return (*(() if normal else ("normal",)), *(() if defective else ("defects",)))


@dataclass(frozen=True)
class Measured:
    """The values of all metrics of a level, {key: value}; each is an attribute too."""

    values: Mapping[str, float | None]

    def __getattr__(self, key: str) -> Any:
        try:
            return self.__dict__["values"][key]
        except KeyError:
            raise AttributeError(key) from None


def check(metrics: Iterable[Metric], values: Mapping[str, Any], lacking: Collection[Need] | None = None) -> None:
    """Check that each metric has a value within its bounds, or None if the data cannot give it.

    Args:
        metrics: of one level.
        values: {key: value}.
        lacking: needs that the data do not meet; if not given, any metric with needs may be None.

    Raises:
        ValueError: a value is missing or out of bounds.
    """
    metrics = tuple(metrics)
    if values.keys() != {metric.key for metric in metrics}:
        raise ValueError(f"metrics {', '.join(sorted(values))}: others than those of this version")
    for metric in metrics:
        value, (low, high) = values[metric.key], metric.bounds
        undefined = bool(set(metric.needs) - {"threshold"}) if lacking is None else metric.undefined(lacking)
        if value is None:
            if not undefined:
                raise ValueError(f"{metric.key} is None")
        elif not isinstance(value, float | int) or not math.isfinite(value) or not low <= value <= high:
            raise ValueError(f"{metric.key} is {value}: expected {low:g} to {high:g}")
        elif undefined and lacking is not None:
            raise ValueError(f"{metric.key} is {value}, and the images cannot tell it")
