"""Tables that need no defect and no label: false alarms on good images, and images without a label."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from adshift.evaluation.metrics.counts import decide
from adshift.evaluation.scenarios import BASELINE
from adshift.report.results import Results
from adshift.report.table import HIGH, LOW, Table


def tables(results: Results) -> list[Table]:
    """The tables of normal images, and of unlabelled images if there are any."""
    measured = [false_alarms(results), good_images(results)] if any(results.normal.values()) else []
    some_unlabelled = any(cell["images"] for *_, cell in _each(results, results.unlabelled))
    return measured + ([unlabelled(results)] if some_unlabelled else [])


def false_alarms(results: Results) -> Table:
    """Expected and observed false-alarm rates, and the distribution of the scores of good test images."""
    rows = []
    for method, name, scenario, cell in _each(results, results.normal):
        spread = cell["scores"] or {}
        rows.append({
            "method": method, "scenario": scenario, "class": name,
            "good_images": cell["images"], "false_alarms": cell["alarms"],
            **_estimate("expected_rate", cell["expected_fpr"]), **_estimate("observed_rate", cell["observed_fpr"]),
            "median_score": spread.get("median"), "spread": spread.get("spread"),
            "95th_percentile": spread.get("high"), "threshold": results.value(method, scenario, name, "threshold"),
        })  # fmt: skip
    note = (
        "False alarms on good test images; no defect is needed. Expected: of good images to come, from the images that "
        "set the threshold. Observed: on the test images. In brackets: 95 % intervals, exact (binomial, beta)."
    )
    return Table("false_alarms", "False alarms on good images", pd.DataFrame(rows, dtype=object), note)


def good_images(results: Results) -> Table:
    """The good test images with the highest scores, of the clean scenario."""
    rows = [
        (method, name, image, score, _verdict(results, method, scenario, name, score))
        for method, name, scenario, cell in _each(results, results.normal)
        if scenario == BASELINE.name
        for image, score in cell["most_anomalous"]
    ]
    note = "Look at them: what stands out among good images is often a defect that nobody marked."
    title = "The most anomalous good images"
    frame = pd.DataFrame(rows, columns=["method", "class", "image", "score", "verdict"], dtype=object)
    return Table("good_images", title, frame, note)


def unlabelled(results: Results) -> Table:
    """Every image without a label, the highest score first."""
    rows = [
        (method, scenario, name, image, score, _verdict(results, method, scenario, name, score))
        for method, name, scenario, cell in _each(results, results.unlabelled)
        for image, score in cell["scores"]
    ]
    columns = ["method", "scenario", "class", "image", "score", "verdict"]
    note = "They are scored and listed, and counted by no metric."
    return Table("unlabelled", "Images without a label", pd.DataFrame(rows, columns=columns, dtype=object), note)


def _estimate(column: str, rate: Mapping[str, float] | None) -> dict[str, float | None]:
    """Columns of a rate: its value and the ends of its interval."""
    rate = rate or {}
    return {column: rate.get("value"), column + LOW: rate.get("low"), column + HIGH: rate.get("high")}


def _verdict(results: Results, method: str, scenario: str, name: str, score: float) -> str:
    limit = results.value(method, scenario, name, "threshold")
    return "alarm" if limit is not None and decide(np.array(score), limit) else "passes"


def _each(results: Results, kept: Mapping[str, Any]) -> Iterable[tuple[str, str, str, dict[str, Any]]]:
    """(method, class, scenario, record) of every record in `kept`."""
    for method in results.methods:
        for name in results.classes:
            for scenario in results.scenarios:
                if cell := kept.get(method, {}).get(name, {}).get(scenario.name):
                    yield method, name, scenario.name, cell
