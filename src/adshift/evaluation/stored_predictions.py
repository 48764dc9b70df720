"""Predictions that the stage `score` stored, and scores that the stage `paste` stored."""

from pathlib import Path

import numpy as np

from adshift.detectors.records import Predictions
from adshift.evaluation.scenarios import Scenario
from adshift.project.paths import pasted_path, scores_path
from adshift.runtime.files import read_json


def predictions(part: str, dataset: str, method: str, scenario: Scenario, name: str) -> Predictions:
    """Predictions that a scenario needs of the part `val` or `test` of the class `name`."""
    return Predictions.load(scores_path(part, dataset, method, scenario.model_of(name), scenario.pair(part), name))


def pasted_file(method: str, scenario: Scenario, name: str) -> Path:
    """Path, in the folder of the class `name`, of a scenario's scores of images with pasted defects."""
    return Path(method) / scenario.model_of(name) / f"{scenario.pair('val')}.json"


def pasted_scores(dataset: str, method: str, scenario: Scenario, name: str) -> np.ndarray:
    """(P,) float32 raw scores of P normal validation images with pasted defects."""
    stored = read_json(pasted_path(dataset, name) / pasted_file(method, scenario, name))
    return np.array(stored["scores"], np.float32)
