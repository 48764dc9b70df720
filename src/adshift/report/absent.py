"""What results lack and what they say without it: partial means, good images alone, images without a label."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from adshift.report import MACRO, label

if TYPE_CHECKING:
    from adshift.report.tables import Results, Table

CLASSES = "_classes"  # ends the name of a metric where a row says how many classes its mean is of


def partial_means(results: "Results", metrics: Iterable[str]) -> str:
    """A sentence about metrics whose mean is not of all classes, such as PRO where a class has no masks."""
    total, found = len(results.classes), []
    for metric in metrics:
        fewest = min((results.having(scenario.name, metric) for scenario in results.scenarios), default=total)
        if fewest < total:
            found.append(f"{label(metric)} of {fewest}")
    if not found:
        return ""
    return f"Not every class has the images or masks: {', '.join(found)} of {total} classes; means are over those."


def counts(results: "Results") -> list[tuple[Any, ...]]:
    """Rows for the table of all results: how many classes a mean is of, where it is not of all."""
    from adshift.report.tables import METRICS, Estimate

    return [
        (method, scenario.name, MACRO, results.named(metric) + CLASSES, Estimate(having, None, None))
        for method in results.methods
        for scenario in results.scenarios
        for metric in METRICS
        if (having := results.having(scenario.name, metric)) < len(results.classes)
    ]


def tables(results: "Results") -> list["Table"]:
    """What normal images alone say, and what was called anomalous of the unlabelled ones."""
    tables = [false_alarms(results), good_images(results)] if results.normal else []
    return tables + ([unlabelled(results)] if _has_unlabelled(results) else [])


def false_alarms(results: "Results") -> "Table":
    """Expected and observed false alarms, and how the scores of good test images spread."""
    from adshift.report.tables import Estimate, Table

    rows = []
    for method, name, scenario, found in _each(results, results.normal):
        rates = [
            Estimate(*(found[key][end] for end in ("value", "low", "high"))) if found[key] else Estimate(None, None, None)
            for key in ("expected_fpr", "observed_fpr")
        ]
        spread = found["scores"] or dict.fromkeys(("median", "spread", "low", "high"))
        threshold = results.values[method, scenario, name]["threshold"]
        scores = [spread[key] for key in ("median", "spread", "high")]
        rows.append((method, scenario, name, found["images"], found["alarms"], *rates, *scores, threshold))
    columns = ("method", "scenario", "class", "good_images", "false_alarms", "expected_rate", "observed_rate",
               "median_score", "spread", "95th_percentile", "threshold")  # fmt: skip
    note = (
        "False alarms on good test images; no defect is needed. Expected: of good images to come, from the images that "
        "set the threshold. Observed: on the test images. In brackets: 95 % intervals, exact (binomial, beta)."
    )
    return Table("false_alarms", "False alarms on good images", columns, tuple(rows), note)


def good_images(results: "Results") -> "Table":
    """The good test images with the highest scores, of the clean scenario."""
    from adshift.report.tables import Table

    rows = [
        (method, name, image, score, "alarm" if score >= results.values[method, scenario, name]["threshold"] else "passes")
        for method, name, scenario, found in _each(results, results.normal)
        if scenario == "clean"
        for image, score in found["most_anomalous"]
    ]
    note = "Look at them: what stands out among good images is often a defect that nobody marked."
    title = "The most anomalous good images"
    return Table("good_images", title, ("method", "class", "image", "score", "verdict"), tuple(rows), note)


def unlabelled(results: "Results") -> "Table":
    """How many images without a label were called anomalous; no other figure counts them."""
    from adshift.report.tables import Table

    rows = [
        (method, scenario, name, found["images"], found["alarms"])
        for method, name, scenario, found in _each(results, results.unlabelled)
    ]
    title, columns = "Images without a label", ("method", "scenario", "class", "images", "alarms")
    return Table("unlabelled", title, columns, tuple(rows), "They are scored and listed, and counted by no metric.")


def _has_unlabelled(results: "Results") -> bool:
    return any(found["images"] for *_, found in _each(results, results.unlabelled))


def _each(results: "Results", kept: dict[str, Any]) -> Iterable[tuple[str, str, str, dict[str, Any]]]:
    """(method, class, scenario, what is kept of it)."""
    for method in results.methods:
        for name in results.classes:
            for scenario in results.scenarios:
                if found := kept.get(method, {}).get(name, {}).get(scenario.name):
                    yield method, name, scenario.name, found
