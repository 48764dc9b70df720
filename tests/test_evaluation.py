"""Thresholds and image metrics over stored scores: which images set which threshold, and what evaluation writes."""

from pathlib import Path

import numpy as np
import pytest

from adshift import evaluation, thresholds
from adshift.params import Calibrate
from adshift.paths import scores_path
from adshift.records import Predictions
from adshift.scenarios import SCENARIOS

RULE = Calibrate(rule="f1_exact", steps=1000, target_fpr=0.05)
NAMES = tuple(f"test/{kind}/{i}" for kind in ("cut", "good") for i in range(6))
CLASSES = ("low", "high")  # whose scores lie far apart


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation and test scores of two classes: each is separable by itself, both together are not."""
    monkeypatch.chdir(tmp_path)
    for part in ("val", "test"):
        for scenario in SCENARIOS:
            for name in CLASSES:
                scores = np.array([3.0] * 6 + [1.0] * 6, np.float32) + (10 if name == "high" else 0)
                path = scores_path(part, "set", "padim", scenario.model_of(name), scenario.pair(part), name)
                Predictions(NAMES, scores, np.zeros((12, 2, 2), np.float32), 4, 0.0).save(path)


def test_an_absolute_threshold_is_one_for_all_classes_from_their_pooled_scores(stored: None) -> None:
    chosen = thresholds.thresholds("set", "padim", CLASSES, RULE, "val")
    own = {name: chosen[name]["unified"]["threshold"] for name in CLASSES}
    assert own == {"low": 2.0, "high": 12.0}
    assert chosen["low"]["unified_absolute"] == chosen["high"]["unified_absolute"]
    pooled = chosen["low"]["unified_absolute"]
    # Best F1 of 3, 3, 1, 1 and 13, 13, 11, 11: all from 3 on, with the normal images of `high` as false alarms.
    assert (pooled["threshold"], pooled["tp"], pooled["fp"], pooled["tn"], pooled["fn"]) == (2.0, 12, 6, 6, 0)


def test_an_absolute_threshold_costs_what_pooling_costs(stored: None) -> None:
    chosen = thresholds.thresholds("set", "padim", CLASSES, RULE, "val")
    found = evaluation.image_level("set", "padim", CLASSES, chosen, 42, 100)
    rates = {
        (name, scenario): found["report"]["classes"][name][scenario]["specificity"]
        for name in CLASSES
        for scenario in ("unified", "unified_absolute")
    }
    assert rates == {("low", "unified"): 1, ("high", "unified"): 1, ("low", "unified_absolute"): 1,
                     ("high", "unified_absolute"): 0}  # fmt: skip
    assert found["report"]["cross_class"]["low"] == {"low": 0, "high": 1}  # each class's own threshold


def test_every_class_and_scenario_has_replicates(stored: None) -> None:
    chosen = thresholds.thresholds("set", "padim", CLASSES, RULE, "val")
    found = evaluation.image_level("set", "padim", CLASSES, chosen, 42, 100)["replicates"]
    assert set(found) == {(name, scenario.name) for name in CLASSES for scenario in SCENARIOS}
    again = evaluation.image_level("set", "padim", CLASSES, chosen, 42, 100)["replicates"]
    assert all((found[key] == again[key]).all() and found[key].shape == (7, 100) for key in found)
