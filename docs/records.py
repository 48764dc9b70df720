"""The tables of docs/metrics.md, from the records of scenarios and metrics: `python docs/records.py` writes them."""

import re
from pathlib import Path

from adshift.evaluation.metrics.metric import Metric
from adshift.evaluation.metrics.registry import METRICS
from adshift.evaluation.scenarios import SCENARIOS, Scenario

PAGE = Path(__file__).with_name("metrics.md")
DOMAIN = {"clean": "clean", "shift": "shifted"}
LEVERS = {
    "normalise": "normalized",
    "align": "aligned when scored",
    "harden": "and drifted copies",
    "adapt": "adapted with a few shifted normal images",
}
NEEDS = {"threshold": "a threshold", "normal": "normal images", "defects": "defective images", "masks": "masks"}


def of_scenario(one: Scenario) -> tuple[str, ...]:
    """A row of the table of scenarios."""
    whose = "all classes pooled, " if one.unified else ""
    served = (", one for all classes" if one.absolute else ", per class") if one.unified else ""
    lever = f", {LEVERS[one.lever]}" if one.lever else ""
    return (f"`{one.name}`", one.label, whose + DOMAIN[one.model] + lever, f"{DOMAIN[one.val]} validation{served}",
            f"{DOMAIN[one.test]} test")  # fmt: skip


def of_metric(one: Metric) -> tuple[str, ...]:
    """A row of a table of metrics."""
    needs = ", ".join(NEEDS[need] for need in one.needs) or "nothing"
    return f"`{one.name}`", one.label, one.description, needs, "95 %" if one.bootstrapped else ""


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, ("---",) * len(header), *rows))


def filled(text: str) -> str:
    """The page with its tables as the records say."""
    metrics = ("metric", "label", "meaning", "needs", "interval")
    tables = {
        "scenarios": table(("scenario", "label", "model fitted on", "threshold from", "tested on"),
                           [of_scenario(one) for one in SCENARIOS]),
        **{level: table(metrics, [of_metric(one) for one in METRICS if one.level == level])
           for level in ("image", "pixel")},
    }  # fmt: skip
    for name, drawn in tables.items():
        text, count = re.subn(
            rf"(<!-- records: {name} -->\n).*?(\n<!-- end -->)", lambda match, new=drawn: match[1] + new + match[2],  # type: ignore[misc]
            text, flags=re.DOTALL,
        )  # fmt: skip
        if count != 1:
            raise ValueError(f"{PAGE}: {count} places for the table of {name}")
    return text


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
