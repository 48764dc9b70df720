"""The study's scenarios: which model, which validation images set its threshold, which test images it meets."""

from dataclasses import dataclass
from pathlib import Path

from adshift.methods import UNIFIED

DOMAINS = ("clean", "shift")


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


def pair(model: str, images: str) -> str:
    """Name of the scores of a model of one domain on images of another."""
    return f"{model}-on-{images}"


PAIRS = (pair("clean", "clean"), pair("clean", "shift"), pair("shift", "shift"), pair("shift", "clean"))


def scores_path(part: str, dataset: str, method: str, model: str, domains: str, name: str) -> Path:
    """Where the scores of `model` (a class or unified) on the class `name` lie; `part` is val or test."""
    return Path("data/scores") / part / dataset / method / model / domains / f"{name}.npz"


def model_path(dataset: str, method: str, model: str, domain: str) -> Path:
    """Where a fitted model lies."""
    return Path("data/fitted") / dataset / method / model / domain


def ablation_path(dataset: str, name: str) -> Path:
    """Where the detector of the coreset ablation's largest ratio lies."""
    return Path("data/ablation") / dataset / name


def features_path(dataset: str, name: str, domain: str) -> Path:
    """Where the feature maps of a class lie."""
    return Path("data/features") / domain / dataset / name


def split_path(dataset: str, name: str) -> Path:
    """Where the split of a class lies."""
    return Path("data/split") / dataset / f"{name}.csv"


def contamination_path(dataset: str) -> Path:
    """Where it says what of the training sets is defective."""
    return Path("data/contamination") / f"{dataset}.json"
