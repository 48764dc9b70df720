"""Tables of what results say without defects or labels: false alarms on good images, and images without a label."""

from collections.abc import Iterable, Mapping
from typing import Any

from adshift.report.tables import Cell, Estimate, Results, Table


def tables(results: Results) -> list[Table]:
    """What normal images alone say, and what was called anomalous of the unlabelled ones."""
    found = [false_alarms(results), good_images(results)] if any(results.normal.values()) else []
    some_unlabelled = any(cell["images"] for *_, cell in _each(results, results.unlabelled))
    return found + ([unlabelled(results)] if some_unlabelled else [])


def false_alarms(results: Results) -> Table:
    """Expected and observed false alarms, and how the scores of good test images spread."""
    rows: list[tuple[Cell, ...]] = []
    for method, name, scenario, found in _each(results, results.normal):
        spread = found["scores"] or {}
        rows.append((
            method, scenario, name, found["images"], found["alarms"],
            _estimate(found["expected_fpr"]), _estimate(found["observed_fpr"]),
            *(spread.get(key) for key in ("median", "spread", "high")),
            results.values[method, scenario, name]["threshold"],
        ))  # fmt: skip
    columns = ("method", "scenario", "class", "good_images", "false_alarms", "expected_rate", "observed_rate",
               "median_score", "spread", "95th_percentile", "threshold")  # fmt: skip
    note = (
        "False alarms on good test images; no defect is needed. Expected: of good images to come, from the images that "
        "set the threshold. Observed: on the test images. In brackets: 95 % intervals, exact (binomial, beta)."
    )
    return Table("false_alarms", "False alarms on good images", columns, tuple(rows), note)


def good_images(results: Results) -> Table:
    """The good test images with the highest scores, of the clean scenario."""
    rows = [
        (method, name, image, score, _verdict(results, method, scenario, name, score))
        for method, name, scenario, found in _each(results, results.normal)
        if scenario == "clean"
        for image, score in found["most_anomalous"]
    ]
    note = "Look at them: what stands out among good images is often a defect that nobody marked."
    title = "The most anomalous good images"
    return Table("good_images", title, ("method", "class", "image", "score", "verdict"), tuple(rows), note)


def unlabelled(results: Results) -> Table:
    """Every image without a label, the highest score first."""
    rows = [
        (method, scenario, name, image, score, _verdict(results, method, scenario, name, score))
        for method, name, scenario, found in _each(results, results.unlabelled)
        for image, score in found["scores"]
    ]
    columns = ("method", "scenario", "class", "image", "score", "verdict")
    note = "They are scored and listed, and counted by no metric."
    return Table("unlabelled", "Images without a label", columns, tuple(rows), note)


def _estimate(rate: Mapping[str, float] | None) -> Estimate:
    return Estimate(rate["value"], rate["low"], rate["high"]) if rate else Estimate(None, None, None)


def _verdict(results: Results, method: str, scenario: str, name: str, score: float) -> str:
    return "alarm" if score >= results.values[method, scenario, name]["threshold"] else "passes"


def _each(results: Results, kept: Mapping[str, Any]) -> Iterable[tuple[str, str, str, dict[str, Any]]]:
    """(method, class, scenario, what is kept of it)."""
    for method in results.methods:
        for name in results.classes:
            for scenario in results.scenarios:
                if found := kept.get(method, {}).get(name, {}).get(scenario.name):
                    yield method, name, scenario.name, found
