"""The first section of the page: how good the models are on clean test images, and which defects they miss."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from adshift.evaluation.metrics.counts import Counts
from adshift.evaluation.scenarios import BASELINE
from adshift.report.labels import MACRO, label
from adshift.report.results import Results
from adshift.report.table import Estimate

IN_USE = BASELINE.name  # clean images, with the threshold that is packaged with the model
KINDS = 5  # kinds of defects that a sentence names


def quality(results: Results, scores: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """(question, sentences).

    Args:
        results: everything measured.
        scores: rows of the score plot: method, class, scenario, defect, anomalous, predicted.
    """
    return [
        ("How good is it?", [_good(results, method) for method in results.methods]),
        ("What does it miss?", [_missed(results, method, scores) for method in results.methods]),
        ("How many false alarms?", [_alarms(results, method) for method in results.methods]),
    ]


def _totals(results: Results, method: str) -> Counts:
    """Counts of test images over all classes."""
    return Counts(*map(sum, zip(*(results.counts(method, IN_USE, name) for name in results.classes), strict=True)))


def _good(results: Results, method: str) -> str:
    """AUROC if there are defective images, PRO if there are masks."""
    parts = []
    for metric in ("image_auroc", "pro"):
        if (estimate := results.estimate(method, IN_USE, MACRO, metric)).value is not None:
            of = results.having(method, IN_USE, metric)
            means = f", mean of {of} of {len(results.classes)} classes" if of < len(results.classes) else ""
            parts.append(f"{label(metric)} {_number(estimate)}{means}")
    if parts:
        return f"{label(method)}: {'; '.join(parts)}."
    return f"{label(method)}: no defective test image, so no ranking can be told; false alarms can."


def _missed(results: Results, method: str, scores: Sequence[Mapping[str, Any]]) -> str:
    """Missed defects by kind, the most frequent first."""
    counts = _totals(results, method)
    defective = counts.fn + counts.tp
    if not defective:
        return f"{label(method)}: cannot be told without defective images."
    missed = Counter(
        (row["class"], row["defect"])
        for row in scores
        if row["method"] == method and row["scenario"] == IN_USE and (row["anomalous"], row["predicted"]) == ("1", "0")
    )
    several = len(results.classes) > 1
    kinds = [f"{count} {f'{name}, ' if several else ''}{defect}" for (name, defect), count in missed.most_common(KINDS)]
    more = f" and {len(missed) - KINDS} more kinds" if len(missed) > KINDS else ""
    details = f" ({'; '.join(kinds)}{more})" if kinds else ""
    return f"{label(method)}: {counts.fn} of {defective} defective images{details}."


def _alarms(results: Results, method: str) -> str:
    """False alarms on good test images, and the rate expected from the validation images."""
    counts = _totals(results, method)
    good = counts.tn + counts.fp
    if not good:
        return f"{label(method)}: cannot be told without good test images."
    normal = results.normal.get(method, {})
    expected = [rate["value"] for name in results.classes
                if (rate := normal.get(name, {}).get(IN_USE, {}).get("expected_fpr"))]  # fmt: skip
    expectation = f"; expected of images to come: {sum(expected) / len(expected):.1%}" if expected else ""
    return f"{label(method)}: {counts.fp} of {good} good images ({counts.fp / good:.1%}){expectation}."


def _number(estimate: Estimate) -> str:
    ends = "" if estimate.low is None else f" ({estimate.low:.2f} to {estimate.high:.2f})"
    return f"{estimate.value:.3f}{ends}"
