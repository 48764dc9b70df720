"""Paths of outputs, relative to the project. dvc.yaml has the same paths."""

from pathlib import Path

DOMAINS = ("clean", "shift")  # folders of images, and of everything made from them

NETWORK = Path("data/checked_network.json")  # record of the stage check_network, a dependency of embed
SETTINGS = Path("data/settings")  # sections of params.yaml that are dependencies as files, written by the stage check
SOURCES = Path("data/sources")  # which code and packages each stage runs, written by the stage sources
SUMMARY = Path("metrics/summary.json")
RESULTS = Path("metrics/tables/results.csv")


def settings_path(section: str, part: str = "") -> Path:
    """Path of a section of params.yaml, or of a half (fit, score) of a method's section."""
    return SETTINGS / section / f"{part}.json" if part else SETTINGS / f"{section}.json"


def scores_path(part: str, dataset: str, method: str, model: str, domains: str, name: str) -> Path:
    """Path of the scores of `model` (a class or unified) on the class `name`; `part` is val or test."""
    return Path("data/scores") / part / dataset / method / model / domains / f"{name}.npz"


def pasted_path(dataset: str, name: str) -> Path:
    """Path of the scores of a class's validation images with pasted defects."""
    return Path("data/scores/pasted") / dataset / name


def model_path(dataset: str, method: str, model: str, domain: str) -> Path:
    """Path of a fitted model."""
    return Path("data/fitted") / dataset / method / model / domain


def ablation_path(dataset: str, name: str) -> Path:
    """Path of the detector with the coreset ablation's largest ratio."""
    return Path("data/ablation") / dataset / name


def features_path(dataset: str, name: str, domain: str) -> Path:
    """Path of the feature maps of a class."""
    return Path("data/features") / domain / dataset / name


def ablation_scores_path(dataset: str, name: str) -> Path:
    """Path of the scores of the coreset ablation's detectors."""
    return Path("data/scores/ablation") / dataset / name


def thresholds_path(dataset: str, method: str) -> Path:
    """Path of the thresholds of a method."""
    return Path("data/thresholds") / dataset / f"{method}.json"


def models_path(dataset: str, method: str) -> Path:
    """Path of the model directories of a method, which holds CLASS/DOMAIN."""
    return Path("models") / dataset / method


def evaluation_path(dataset: str) -> Path:
    """Path of the evaluations of a data set."""
    return Path("data/evaluation") / dataset


def timings_path(dataset: str, stage: str, item: str) -> Path:
    """Path of the time that an item of a stage took."""
    return Path("timings") / dataset / stage / f"{item}.json"


def kept_path(dataset: str, name: str, domain: str) -> Path:
    """Path of the rows of feature maps that are kept for the next run. It is no output, so DVC does not remove it."""
    return Path("data/kept") / domain / dataset / name


def lever_path(lever: str, dataset: str, name: str) -> Path:
    """Path of what a lever needs of a class, for every method."""
    return Path("data/levers") / lever / dataset / name


def feature_maps_path(lever: str, dataset: str, name: str, domain: str) -> Path:
    """Path of the feature maps of a class as the models of a lever, empty for none, score its images."""
    return lever_path(lever, dataset, name) / domain if lever == "normalise" else features_path(dataset, name, domain)


def scored_by(name: str, lever: str) -> str:
    """In paths of scores, the models of a class with a lever. Names of classes have no `-`."""
    return f"{name}-{lever}" if lever else name


def lever_scores_path(part: str, dataset: str, method: str, name: str, lever: str) -> Path:
    """Path of all scores of a class with a lever."""
    return Path("data/scores") / part / dataset / method / scored_by(name, lever)


def split_path(dataset: str, name: str) -> Path:
    """Path of the split of a class."""
    return Path("data/split") / dataset / f"{name}.csv"


def contamination_path(dataset: str) -> Path:
    """Path of the contamination of the training sets."""
    return Path("data/contamination") / f"{dataset}.json"
