"""The lists of the section `graph`, derived from the other parameters."""

from collections.abc import Mapping
from typing import Any

from adshift.detectors.registry import UNIFIED
from adshift.errors import AdshiftError
from adshift.evaluation.scenarios import BASELINE, BY_NAME, levers_of, possible
from adshift.evaluation.settings import PASTED
from adshift.project.graph import CLEAN, SHIFT


def lists(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """The values of the section `graph`.

    Args:
        values: of params.yaml, valid except for this section.

    Raises:
        AdshiftError: an unknown scenario, or no baseline.
    """
    shifted = values["shift"]["kind"] != "none"
    domains = [CLEAN, SHIFT] if shifted else [CLEAN]
    unified = [UNIFIED] if values["unified"] and len(values["classes"]) > 1 else []
    wanted = list(BY_NAME) if values["scenarios"] == "all" else list(values["scenarios"])
    if unknown := [name for name in wanted if name not in BY_NAME]:
        message = f"params.yaml: scenarios: {', '.join(unknown)} unknown"
        raise AdshiftError(message, f"choose from {', '.join(BY_NAME)}, or set scenarios: all")
    if BASELINE.name not in wanted:
        message = f"params.yaml: scenarios: {BASELINE.name} is missing, with which the others are compared"
        raise AdshiftError(message, "add it, or set scenarios: all")
    scenarios = [one.name for one in possible(wanted, domains, bool(unified))]
    levers, pasted = levers_of(scenarios), values["calibrate"]["rule"] == PASTED
    return {
        "domains": domains,
        "shift": domains[1:],
        "unified": unified,
        "ablation": domains[-1:] if values["ablation"]["ratios"] else [],
        "levers": levers,
        "harden": ["harden"] if "harden" in levers else [],
        "normalise": domains if "normalise" in levers else [],
        "align": ["align"] if "align" in levers else [],
        "adapt": ["adapt"] if "adapt" in levers else [],
        "paste": ["pasted"] if pasted else [],
        "calibrated": ["pasted" if pasted else "val"],
        "normalised": ["levers/normalise" if "normalise" in levers else "features/clean"],
        "scenarios": scenarios,
    }
