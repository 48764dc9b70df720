"""What to do against drift, in one sentence a class: what helps before it comes, and what helps after it.

The sentences describe this run's test images. Scenarios are compared by the mean of specificity and recall under drift.
A lever counts as better if it gains at least `GAIN`; among levers that are as good, the cheapest one is named.
"""

from collections.abc import Mapping, Sequence

from adshift.evaluation.scenarios import BASELINE, DRIFT, UNADAPTED, Scenario
from adshift.report.labels import label
from adshift.report.results import Results

GAIN = 0.05


def recommendations(results: Results, titles: Mapping[str, str]) -> list[str]:
    """A sentence for each class; none without drift, or where specificity or recall cannot be told.

    Args:
        results: everything measured.
        titles: {class: its name for people}.
    """
    if UNADAPTED not in results.scenarios:
        return []
    return [f"{titles[name]}: {text}" for name in results.classes if (text := _recommendation(results, name))]


def _recommendation(results: Results, name: str) -> str:
    run = [scenario for scenario in DRIFT if scenario in results.scenarios]
    scores = {(method, one): _score(results, method, one, name) for method in results.methods for one in run}
    known = [method for method in results.methods if None not in (scores[method, one] for one in run)]
    if not known:
        return ""
    method = max(known, key=lambda one: _score(results, one, BASELINE, name) or 0)  # as before the drift
    free = [one for one in run if not one.new_images]
    of_method = {one: scores[method, one] or 0 for one in run}
    before = _cheapest(free, of_method)
    after = _cheapest([before, *(one for one in run if one.new_images)], of_method)
    start = f"{label(method)}, {before.adaptation or 'as it is'} ({_rates(results, method, before, name)} after drift"
    if before is not UNADAPTED:
        start += f"; {_rates(results, method, UNADAPTED, name)} with nothing changed"
    if after is before:
        rest = "no new image does more" if len(run) > len(free) else "nothing else was tried"
    else:
        rest = f"with new images, {after.adaptation}: {_rates(results, method, after, name)}"
    return f"{start}); {rest}."


def _cheapest(scenarios: Sequence[Scenario], scores: Mapping[Scenario, float]) -> Scenario:
    """The first scenario within `GAIN` of the best, from the cheapest on; the first of all if no other gains `GAIN`."""
    best = max(scores[one] for one in scenarios)
    return next(one for one in scenarios if scores[one] > best - GAIN)


def _score(results: Results, method: str, scenario: Scenario, name: str) -> float | None:
    """Mean of specificity and recall."""
    values = [results.value(method, scenario.name, name, metric) for metric in ("specificity", "recall")]
    return None if None in values else sum(value for value in values if value is not None) / 2


def _rates(results: Results, method: str, scenario: Scenario, name: str) -> str:
    passed, caught = (results.value(method, scenario.name, name, metric) for metric in ("specificity", "recall"))
    return f"{passed:.0%} of good parts pass, {caught:.0%} of defects are caught"
