"""The study's scenarios: which model is tested, which validation images set its threshold, which images test it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from adshift.detectors.registry import UNIFIED
from adshift.evaluation.pairs import pair
from adshift.evaluation.registry import LEVERS
from adshift.project.paths import scored_by

Role = Literal["baseline", "drift", "unified", "before", "after"]


@dataclass(frozen=True)
class Scenario:
    """A scenario, one row of the study's tables. `SCENARIOS` lists all.

    Attributes:
        name: in the study and in files.
        label: in tables, charts and on the page.
        model, val, test: domains of the training, validation and test images.
        role: selects its tables and its section of the page: the baseline; loss under drift and gain from adaptation;
            one model for all classes; loss from a lever where nothing drifts; loss from an adaptation after the drift
            has ended.
        description: for the page.
        unified: whether one model serves all classes.
        absolute: whether pooled validation scores set one threshold for all classes; else each class has its own.
        adaptation: under drift, what was adapted; empty for nothing.
        new_images: whether it needs images of the shifted domain before it is used.
        by_rate: whether normal images alone set its threshold, at `calibrate.target_fpr`, whatever `calibrate.rule`.
        lever: of `evaluation.levers`; `model` is then the domain of most of its training images.
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
    new_images: bool = False
    by_rate: bool = False
    lever: str = ""
    caption: str | None = None

    def pair(self, part: str) -> str:
        """Name of the scores that it needs of a part (`val` or `test`), such as `clean-on-shift`."""
        return pair(self.model, self.val if part == "val" else self.test)

    @property
    def pixels(self) -> str:
        """Key of its pixel metrics. They need no threshold, so scenarios with the same maps share them."""
        return UNIFIED if self.unified else scored_by(self.pair("test"), self.lever)

    @property
    def variant(self) -> str:
        """Folder of its model among those of a class: the lever, or the domain that it was fitted on."""
        return self.lever or self.model

    def model_of(self, name: str) -> str:
        """In paths of scores, name of the model that scores the class `name`."""
        return UNIFIED if self.unified else scored_by(name, self.lever)


# In the order of tables and charts; scenarios under drift from the cheapest adaptation to the most expensive.
SCENARIOS = (
    Scenario("clean", "Clean", "clean", "clean", "clean", "baseline",
             "model, threshold and images of the clean domain", caption=""),
    Scenario("shift_no_adaptation", "Shift, no adaptation", "clean", "clean", "shift", "drift",
             "the same model and threshold on shifted images", caption="not adapted"),
    Scenario("shift_normalised", "Shift, normalized", "clean", "clean", "shift", "drift",
             "intensities of every image are brought to those of the training images", lever="normalise",
             adaptation="normalized images"),
    Scenario("shift_aligned", "Shift, aligned", "clean", "clean", "shift", "drift",
             "statistics of every image's feature maps are brought to those of the training images", lever="align",
             adaptation="aligned features"),
    Scenario("shift_hardened", "Shift, hardened", "clean", "clean", "shift", "drift",
             "model and threshold of clean images and drifted copies of the normal ones", lever="harden",
             adaptation="a hardened fit"),
    Scenario("shift_threshold_only", "Shift, new threshold", "clean", "shift", "shift", "drift",
             "the clean model, its threshold calibrated on shifted validation images", adaptation="a new threshold",
             new_images=True),
    Scenario("shift_adapted", "Shift, adapted", "clean", "shift", "shift", "drift",
             "the clean model, adapted with a few normal shifted images, which set its threshold too", lever="adapt",
             adaptation="a few normal images", new_images=True, by_rate=True),
    Scenario("shift_full_adaptation", "Shift, refit", "shift", "shift", "shift", "drift",
             "model and threshold of the shifted domain", adaptation="a refit", new_images=True,
             caption="refit"),
    Scenario("unified", "Unified, clean", "clean", "clean", "clean", "unified",
             "one model for all classes, on clean images, with a threshold a class", unified=True),
    Scenario("unified_absolute", "Unified, one threshold", "clean", "clean", "clean", "unified",
             "the same model with one threshold for all classes", unified=True, absolute=True),
    Scenario("clean_normalised", "Clean, normalized", "clean", "clean", "clean", "before",
             "what normalized images cost on clean images", lever="normalise"),
    Scenario("clean_aligned", "Clean, aligned", "clean", "clean", "clean", "before",
             "what aligned features cost on clean images", lever="align"),
    Scenario("clean_hardened", "Clean, hardened", "clean", "clean", "clean", "before",
             "what a hardened fit costs on clean images", lever="harden"),
    Scenario("clean_threshold_only", "Clean again, new threshold", "clean", "shift", "clean", "after",
             "the threshold of shifted validation images on clean images"),
    Scenario("clean_adapted", "Clean again, adapted", "clean", "shift", "clean", "after",
             "the model adapted with shifted images on clean images", lever="adapt", by_rate=True),
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
THRESHOLD_ONLY = BY_NAME["shift_threshold_only"]
ABSOLUTE = next(scenario for scenario in of_role("unified") if scenario.absolute)
POOLED = next(scenario for scenario in of_role("unified") if not scenario.absolute)


def of_lever(lever: str, names: Iterable[str]) -> tuple[Scenario, ...]:
    """The scenarios of these names that need a lever."""
    return tuple(scenario for scenario in named(names) if scenario.lever == lever)


def named(names: Iterable[str]) -> tuple[Scenario, ...]:
    """The scenarios of these names, in the order of `SCENARIOS`."""
    wanted = set(names)
    return tuple(scenario for scenario in SCENARIOS if scenario.name in wanted)


def possible(names: Iterable[str], domains: Iterable[str], unified: bool) -> tuple[Scenario, ...]:
    """The scenarios of these names that need only these domains, and no unified model unless `unified`."""
    there = set(domains)
    return tuple(one for one in named(names) if {one.model, one.val, one.test} <= there and unified >= one.unified)


def levers_of(names: Iterable[str]) -> list[str]:
    """The levers that scenarios of these names need."""
    needed = {scenario.lever for scenario in named(names)}
    return [lever for lever in LEVERS if lever in needed]


def own(variant: str, scenarios: Sequence[Scenario] = SCENARIOS) -> Scenario:
    """The scenario whose threshold a model is packaged with: of clean images if it was fitted on them."""
    of_variant = [one for one in scenarios if one.variant == variant and not one.unified]
    return next((one for one in of_variant if one.test == one.val), of_variant[0])
