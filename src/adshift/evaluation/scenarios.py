"""The study's scenarios: which model is tested, which validation images set its threshold, which images test it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from adshift.detectors.registry import UNIFIED
from adshift.evaluation.pairs import pair

Role = Literal["baseline", "drift", "unified", "after"]


@dataclass(frozen=True)
class Scenario:
    """A scenario, one row of the study's tables. `SCENARIOS` lists all.

    Attributes:
        name: in the study and in files.
        label: in tables, charts and on the page.
        model, val, test: domains of the training, validation and test images.
        role: selects its tables and its section of the page: the baseline; loss under drift and gain from adaptation;
            one model for all classes; loss from an adaptation after the drift has ended.
        description: for the page.
        unified: whether one model serves all classes.
        absolute: whether pooled validation scores set one threshold for all classes; else each class has its own.
        adaptation: under drift, what was adapted; empty for nothing.
        caption: over its anomaly maps in pictures of examples; None if another scenario with the same maps shows them.
    """

    name: str
    label: str
    model: str
    val: str
    test: str
    role: Role
    description: str
    unified: bool = False
    absolute: bool = False
    adaptation: str = ""
    caption: str | None = None

    def pair(self, part: str) -> str:
        """Name of the scores that it needs of a part (`val` or `test`), such as `clean-on-shift`."""
        return pair(self.model, self.val if part == "val" else self.test)

    @property
    def pixels(self) -> str:
        """Key of its pixel metrics. They need no threshold, so scenarios with the same maps share them."""
        return UNIFIED if self.unified else self.pair("test")

    def model_of(self, name: str) -> str:
        """Name of the model that scores the class `name`."""
        return UNIFIED if self.unified else name


# In the order of tables and charts; scenarios under drift from the cheapest adaptation to the most expensive.
SCENARIOS = (
    Scenario("clean", "Clean", "clean", "clean", "clean", "baseline",
             "model, threshold and images of the clean domain", caption=""),
    Scenario("shift_no_adaptation", "Shift, no adaptation", "clean", "clean", "shift", "drift",
             "the same model and threshold on shifted images", caption="not adapted"),
    Scenario("shift_threshold_only", "Shift, new threshold", "clean", "shift", "shift", "drift",
             "the same model, its threshold calibrated on shifted validation images", adaptation="a new threshold"),
    Scenario("shift_full_adaptation", "Shift, refit", "shift", "shift", "shift", "drift",
             "model and threshold of the shifted domain", adaptation="a refit", caption="refit"),
    Scenario("unified", "Unified, clean", "clean", "clean", "clean", "unified",
             "one model for all classes, on clean images, with a threshold a class", unified=True),
    Scenario("unified_absolute", "Unified, one threshold", "clean", "clean", "clean", "unified",
             "the same model with one threshold for all classes", unified=True, absolute=True),
    Scenario("clean_threshold_only", "Clean again, new threshold", "clean", "shift", "clean", "after",
             "the threshold of shifted validation images on clean images"),
    Scenario("clean_full_adaptation", "Clean again, refit", "shift", "shift", "clean", "after",
             "model and threshold of the shifted domain on clean images"),
)  # fmt: skip
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def of_role(*roles: Role) -> tuple[Scenario, ...]:
    """The scenarios of these roles."""
    return tuple(scenario for scenario in SCENARIOS if scenario.role in roles)


[BASELINE] = of_role("baseline")
DRIFT = of_role("drift")
UNADAPTED = next(scenario for scenario in DRIFT if not scenario.adaptation)
# One model for all classes, one threshold per class.
POOLED = next(scenario for scenario in of_role("unified") if not scenario.absolute)


def used(domains: Iterable[str], unified: bool) -> tuple[Scenario, ...]:
    """The scenarios that need only these domains, and no unified model unless `unified`."""
    there = set(domains)
    return tuple(one for one in SCENARIOS if {one.model, one.val, one.test} <= there and unified >= one.unified)
