"""Thresholds of each scenario from validation scores."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from adshift.data.manifest import anomalous, labelled
from adshift.errors import warn
from adshift.evaluation.calibration import F1_RULES, Threshold, by_pasted, by_rate, calibrate
from adshift.evaluation.scenarios import SCENARIOS, Scenario
from adshift.evaluation.settings import PASTED, Calibrate
from adshift.evaluation.stored_predictions import pasted_scores, predictions

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

    With the rule `pasted`, defective images have no say: normal ones with pasted defects stand for them.

    With an absolute threshold, every class has the same record, with the counts of all classes together. A threshold of
    the best F1 that calls most normal images anomalous is a warning.
    """
    classes = tuple(classes)
    alarming: dict[str, dict[str, Threshold]] = {}
    result: dict[str, dict[str, Any]] = {name: {} for name in classes}
    for scenario in scenarios:
        for group in [classes] if scenario.absolute else [(name,) for name in classes]:
            sets = [predictions("val", dataset, method, scenario, name) for name in group]
            scores = np.concatenate([stored.scores for stored in sets])
            names = [image for stored in sets for image in stored.names]
            known = labelled(names)
            scores, defective = scores[known], anomalous(names)[known]
            if scenario.by_rate:
                threshold = by_rate(scores, defective, settings, on, NORMAL_ALONE)
            elif settings.rule == PASTED:
                copies = np.concatenate([pasted_scores(dataset, method, scenario, name) for name in group])
                threshold = by_pasted(scores[~defective], copies, settings.steps, on)
            else:
                threshold = calibrate(scores, defective, settings, on)
            if threshold.rule in F1_RULES and threshold.fp > threshold.tn:
                alarming.setdefault(", ".join(group), {})[scenario.name] = threshold
            for name in group:
                result[name][scenario.name] = threshold.to_dict()
    for label, chosen in alarming.items():
        worst = max(chosen.values(), key=lambda one: one.fp)
        warn(
            f"{method}, {label}: the threshold of the best F1 calls {worst.fp} of {worst.fp + worst.tn} normal images "
            f"anomalous ({', '.join(chosen)}); calibrate.rule: target_fpr limits this share"
        )
    return result
