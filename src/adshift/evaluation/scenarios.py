"""The study's scenarios: which model, which validation images set its threshold, which test images it meets."""

from collections.abc import Iterable
from dataclasses import dataclass

from adshift.detectors.registry import UNIFIED
from adshift.evaluation.pairs import pair


@dataclass(frozen=True)
class Scenario:
    """One row of the study's tables.

    Attributes:
        name: as the study calls it.
        model, val, test: domains of the training images, of the validation images, of the test images.
        unified: whether one model serves all classes.
        absolute: whether one threshold serves all classes, from their pooled validation scores; else each has its own.
    """

    name: str
    model: str
    val: str
    test: str
    unified: bool = False
    absolute: bool = False

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


SCENARIOS = (
    Scenario("clean", "clean", "clean", "clean"),
    Scenario("shift_no_adaptation", "clean", "clean", "shift"),
    Scenario("shift_threshold_only", "clean", "shift", "shift"),
    Scenario("shift_full_adaptation", "shift", "shift", "shift"),
    Scenario("unified", "clean", "clean", "clean", unified=True),
    Scenario("unified_absolute", "clean", "clean", "clean", unified=True, absolute=True),
    Scenario("clean_threshold_only", "clean", "shift", "clean"),  # what adapting costs once the drift has gone
    Scenario("clean_full_adaptation", "shift", "shift", "clean"),
)


def used(domains: Iterable[str], unified: bool) -> tuple[Scenario, ...]:
    """Those that need no other domain than these, and no unified model where there is none."""
    there = set(domains)
    return tuple(one for one in SCENARIOS if {one.model, one.val, one.test} <= there and unified >= one.unified)
