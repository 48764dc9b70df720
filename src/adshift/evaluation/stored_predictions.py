"""Predictions that the stage `score` stored."""

from adshift.detectors.records import Predictions
from adshift.evaluation.scenarios import Scenario
from adshift.project.paths import scores_path


def predictions(part: str, dataset: str, method: str, scenario: Scenario, name: str) -> Predictions:
    """Predictions that a scenario needs of the part `val` or `test` of the class `name`."""
    return Predictions.load(scores_path(part, dataset, method, scenario.model_of(name), scenario.pair(part), name))
