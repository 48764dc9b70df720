"""The lists of params.yaml that DVC's matrices use. They are derived from the other parameters, and never edited.

DVC has no condition. A matrix over an empty list has no stage, and `${graph.domains[-1]}` in a path is the shifted
domain or, without one, the clean domain again.
"""

from collections.abc import Mapping
from typing import Any, Literal

from adshift.detectors.registry import UNIFIED
from adshift.project.paths import DOMAINS
from adshift.runtime.settings import Section, Several

CLEAN, SHIFT = DOMAINS


class Graph(Section):
    """The stages that run beside those of the clean domain."""

    domains: Several(Literal[DOMAINS])  # type: ignore[valid-type]
    shift: Several(Literal[SHIFT], least=0)  # type: ignore[valid-type]
    unified: Several(Literal[UNIFIED], least=0)  # type: ignore[valid-type]
    ablation: Several(Literal[DOMAINS], least=0)  # type: ignore[valid-type]


def lists(values: Mapping[str, Any]) -> dict[str, list[str]]:
    """The values of the section `graph`.

    Args:
        values: of params.yaml, valid except for this section.
    """
    shifted = values["shift"]["kind"] != "none"
    domains = [CLEAN, SHIFT] if shifted else [CLEAN]
    return {
        "domains": domains,
        "shift": domains[1:],
        "unified": [UNIFIED] if values["unified"] and len(values["classes"]) > 1 else [],
        "ablation": domains[-1:] if values["ablation"]["ratios"] else [],
    }
