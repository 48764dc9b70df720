"""The lists of params.yaml that DVC's matrices use. They are derived from the other parameters, and never edited.

DVC has no condition. A matrix over an empty list has no stage, and `${graph.domains[-1]}` in a path is the shifted
domain or, without one, the clean domain again.
"""

from collections.abc import Mapping
from typing import Any, Literal

from adshift.detectors.registry import UNIFIED
from adshift.evaluation.registry import LEVERS
from adshift.evaluation.scenarios import BY_NAME, SCENARIOS, levers_of, possible
from adshift.project.paths import DOMAINS
from adshift.runtime.settings import Section, Several

CLEAN, SHIFT = DOMAINS


class Graph(Section):
    """The stages that run beside those of the clean domain."""

    domains: Several(Literal[DOMAINS])  # type: ignore[valid-type]
    shift: Several(Literal[SHIFT], least=0)  # type: ignore[valid-type]
    unified: Several(Literal[UNIFIED], least=0)  # type: ignore[valid-type]
    ablation: Several(Literal[DOMAINS], least=0)  # type: ignore[valid-type]
    scenarios: Several(Literal[tuple(one.name for one in SCENARIOS)])  # type: ignore[valid-type]
    levers: Several(Literal[tuple(LEVERS)], least=0)  # type: ignore[valid-type]
    harden: Several(Literal["harden"], least=0)  # type: ignore[valid-type]
    normalise: Several(Literal[DOMAINS], least=0)  # type: ignore[valid-type]
    align: Several(Literal["align"], least=0)  # type: ignore[valid-type]
    adapt: Several(Literal["adapt"], least=0)  # type: ignore[valid-type]
    normalised: Literal["levers/normalise", "features/clean"]


def lists(values: Mapping[str, Any]) -> dict[str, list[str] | str]:
    """The values of the section `graph`.

    Args:
        values: of params.yaml, valid except for this section.
    """
    shifted = values["shift"]["kind"] != "none"
    domains = [CLEAN, SHIFT] if shifted else [CLEAN]
    unified = [UNIFIED] if values["unified"] and len(values["classes"]) > 1 else []
    wanted = BY_NAME if values["scenarios"] == "all" else values["scenarios"]
    scenarios = [one.name for one in possible(wanted, domains, bool(unified))]
    levers = levers_of(scenarios)
    return {
        "domains": domains,
        "shift": domains[1:],
        "unified": unified,
        "ablation": domains[-1:] if values["ablation"]["ratios"] else [],
        "levers": levers,
        "harden": [lever for lever in levers if lever == "harden"],
        "normalise": domains if "normalise" in levers else [],
        "align": [lever for lever in levers if lever == "align"],
        "adapt": [lever for lever in levers if lever == "adapt"],
        "normalised": "levers/normalise" if "normalise" in levers else "features/clean",
        "scenarios": scenarios,
    }
