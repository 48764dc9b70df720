"""Thresholds of each scenario from validation scores."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from adshift.data.manifest import anomalous, labelled
from adshift.evaluation.calibration import by_rate, calibrate
from adshift.evaluation.scenarios import SCENARIOS, Scenario
from adshift.evaluation.settings import Calibrate
from adshift.evaluation.stored_predictions import predictions

NORMAL_ALONE = "from normal images alone, as `adshift adapt` does"


def thresholds(
    dataset: str,
    method: str,
    classes: Iterable[str],
    settings: Calibrate,
    on: Literal["val", "test"],
    scenarios: Sequence[Scenario] = SCENARIOS,
) -> dict[str, dict[str, Any]]:
    """{class: {scenario: threshold}} from validation scores alone; `on` is the part of these images.

    With an absolute threshold, every class has the same record, with the counts of all classes together.
    """
    classes = tuple(classes)
    result: dict[str, dict[str, Any]] = {name: {} for name in classes}
    for scenario in scenarios:
        for group in [classes] if scenario.absolute else [(name,) for name in classes]:
            sets = [predictions("val", dataset, method, scenario, name) for name in group]
            scores = np.concatenate([stored.scores for stored in sets])
            names = [image for stored in sets for image in stored.names]
            known = labelled(names)
            labelled_scores = scores[known], anomalous(names)[known], settings, on
            threshold = by_rate(*labelled_scores, NORMAL_ALONE) if scenario.by_rate else calibrate(*labelled_scores)
            for name in group:
                result[name][scenario.name] = threshold.to_dict()
    return result
