"""The study's scenarios: which model, which validation images set its threshold, which test images it meets."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from adshift.detectors.registry import UNIFIED
from adshift.evaluation.pairs import pair

Role = Literal["baseline", "drift", "unified", "after"]


@dataclass(frozen=True)
class Scenario:
    """One row of the study's tables. A new scenario is one more of these in `SCENARIOS`.

    Attributes:
        name: as the study calls it.
        label: what a reader sees.
        model, val, test: domains of the training images, of the validation images, of the test images.
        role: which tables it is in and what the page says of it: the baseline; what drift costs, and what an adaptation
            buys back; one model for all classes; what the adaptation costs once the drift has gone.
        description: what it is, for the page.
        unified: whether one model serves all classes.
        absolute: whether one threshold serves all classes, from their pooled validation scores; else each has its own.
        adaptation: of a scenario under drift, what was changed; empty for nothing.
        caption: over its anomaly maps in pictures of examples; None where it has none there, since its maps are another
            scenario's.
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
        """Which scores it needs of a part (`val` or `test`), such as `clean-on-shift`."""
        return pair(self.model, self.val if part == "val" else self.test)

    @property
    def pixels(self) -> str:
        """Under which key its pixel metrics are found: they need no threshold, so scenarios share them."""
        return UNIFIED if self.unified else self.pair("test")

    def model_of(self, name: str) -> str:
        """Which model scores the class `name`."""
        return UNIFIED if self.unified else name


# In the order of tables and charts; of the scenarios under drift, the cheapest adaptation first.
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
POOLED = next(scenario for scenario in of_role("unified") if not scenario.absolute)  # one model, a threshold a class


def used(domains: Iterable[str], unified: bool) -> tuple[Scenario, ...]:
    """Those that need no other domain than these, and no unified model where there is none."""
    there = set(domains)
    return tuple(one for one in SCENARIOS if {one.model, one.val, one.test} <= there and unified >= one.unified)
