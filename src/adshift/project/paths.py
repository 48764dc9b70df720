"""Where outputs lie, relative to the project. dvc.yaml spells the same paths."""

from pathlib import Path

DOMAINS = ("clean", "shift")  # folders of images and of what is made from them

NETWORK = Path("data/checked_network.json")  # what the stage check_network saw, on which embed depends


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


def kept_path(dataset: str, name: str, domain: str) -> Path:
    """Where the rows of these feature maps are kept for the next run; no output of a stage, DVC leaves it alone."""
    return Path("data/kept") / domain / dataset / name


def split_path(dataset: str, name: str) -> Path:
    """Where the split of a class lies."""
    return Path("data/split") / dataset / f"{name}.csv"


def contamination_path(dataset: str) -> Path:
    """Where it says what of the training sets is defective."""
    return Path("data/contamination") / f"{dataset}.json"
