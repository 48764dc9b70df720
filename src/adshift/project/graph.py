"""The lists of params.yaml that DVC's matrices use. `project.graph_lists` derives them; they are never edited.

DVC has no condition. A matrix over an empty list has no stage, and `${graph.domains[-1]}` in a path is the shifted
domain or, without one, the clean domain again.
"""

from typing import Annotated, Literal

from pydantic import Field

from adshift.detectors.registry import UNIFIED
from adshift.evaluation.registry import LEVERS
from adshift.project.paths import DOMAINS
from adshift.runtime.settings import Section, Several

CLEAN, SHIFT = DOMAINS


# Every stage reads params.yaml, and must not depend on the code of the scenarios. `graph_lists` checks their names.
ScenarioName = Annotated[str, Field(min_length=1, max_length=100)]


class Graph(Section):
    """The stages that run beside those of the clean domain."""

    domains: Several(Literal[DOMAINS])  # type: ignore[valid-type]
    shift: Several(Literal[SHIFT], least=0)  # type: ignore[valid-type]
    unified: Several(Literal[UNIFIED], least=0)  # type: ignore[valid-type]
    ablation: Several(Literal[DOMAINS], least=0)  # type: ignore[valid-type]
    scenarios: Several(ScenarioName)  # type: ignore[valid-type]
    levers: Several(Literal[tuple(LEVERS)], least=0)  # type: ignore[valid-type]
    harden: Several(Literal["harden"], least=0)  # type: ignore[valid-type]
    normalise: Several(Literal[DOMAINS], least=0)  # type: ignore[valid-type]
    align: Several(Literal["align"], least=0)  # type: ignore[valid-type]
    adapt: Several(Literal["adapt"], least=0)  # type: ignore[valid-type]
    paste: Several(Literal["pasted"], least=0)  # type: ignore[valid-type]
    calibrated: Several(Literal["val", "pasted"])  # type: ignore[valid-type]
    normalised: Several(Literal["levers/normalise", "features/clean"])  # type: ignore[valid-type]
