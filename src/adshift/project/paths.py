"""Where outputs lie, relative to the project. dvc.yaml spells the same paths."""

from pathlib import Path

DOMAINS = ("clean", "shift")  # folders of images and of what is made from them

NETWORK = Path("data/checked_network.json")  # what the stage check_network saw, on which embed depends
SETTINGS = Path("data/settings")  # sections of params.yaml that are dependencies as files, written by the stage check
SOURCES = Path("data/sources")  # which code and packages each stage runs, written by the stage sources
SUMMARY = Path("metrics/summary.json")
RESULTS = Path("metrics/tables/results.csv")


def settings_path(section: str, part: str = "") -> Path:
    """Where a section of params.yaml lies, or a half (fit, score) of a method's."""
    return SETTINGS / section / f"{part}.json" if part else SETTINGS / f"{section}.json"


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


def ablation_scores_path(dataset: str, name: str) -> Path:
    """Where the scores of the coreset ablation's detectors lie."""
    return Path("data/scores/ablation") / dataset / name


def thresholds_path(dataset: str, method: str) -> Path:
    """Where the thresholds of a method lie."""
    return Path("data/thresholds") / dataset / f"{method}.json"


def models_path(dataset: str, method: str) -> Path:
    """Where the model directories of a method lie: CLASS/DOMAIN within it."""
    return Path("models") / dataset / method


def evaluation_path(dataset: str) -> Path:
    """Where the evaluations of a data set lie."""
    return Path("data/evaluation") / dataset


def timings_path(dataset: str, stage: str, item: str) -> Path:
    """Where it says how long an item of a stage took."""
    return Path("timings") / dataset / stage / f"{item}.json"


def split_path(dataset: str, name: str) -> Path:
    """Where the split of a class lies."""
    return Path("data/split") / dataset / f"{name}.csv"


def contamination_path(dataset: str) -> Path:
    """Where it says what of the training sets is defective."""
    return Path("data/contamination") / f"{dataset}.json"
