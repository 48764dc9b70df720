"""Figures from normal images alone, by hand."""

import numpy as np
import pytest
from scipy.stats import beta

from adshift.evaluation.calibration import Threshold, calibrate
from adshift.evaluation.normals import SHOWN, normals
from adshift.evaluation.settings import Calibrate

AUTO = Calibrate(rule="auto", min_normal=10, min_defective=5, steps=1000, target_fpr=0.05)


def threshold(on: str = "val") -> Threshold:
    """Just above 38, of 39 scores: two of forty places."""
    return calibrate(np.arange(39.0) + 1, np.zeros(39, bool), AUTO, on)  # type: ignore[arg-type]


def test_by_hand() -> None:
    scores = np.array([1.0, 2.0, 3.0, 50.0], np.float32)
    found = normals(("test/good/a", "test/good/b", "test/good/c", "test/good/d"), scores, threshold())
    assert (found["images"], found["alarms"]) == (4, 1)
    assert found["expected_fpr"] == {
        "value": 0.05, "low": pytest.approx(beta.ppf(0.025, 2, 38)), "high": pytest.approx(beta.ppf(0.975, 2, 38)),
    }  # fmt: skip
    assert found["observed_fpr"] == {
        "value": 0.25, "low": pytest.approx(beta.ppf(0.025, 1, 4)), "high": pytest.approx(beta.ppf(0.975, 2, 3)),
    }  # fmt: skip
    assert found["scores"]["median"] == 2.5
    assert found["scores"]["spread"] == (1.5 + 0.5 + 0.5 + 47.5) / 4
    assert found["most_anomalous"][0] == ["test/good/d", 50.0]
    assert [score for _, score in found["most_anomalous"]] == [50.0, 3.0, 2.0, 1.0]


def test_ties_stand_in_the_order_of_names_and_few_are_shown() -> None:
    names = tuple(f"test/good/{index:02}" for index in reversed(range(2 * SHOWN)))
    found = normals(names, np.ones(2 * SHOWN, np.float32), threshold())
    assert [name for name, _ in found["most_anomalous"]] == sorted(names)[:SHOWN]


def test_no_image_and_no_promise() -> None:
    none = normals((), np.empty(0, np.float32), threshold())
    assert (none["images"], none["observed_fpr"], none["scores"], none["most_anomalous"]) == (0, None, None, [])
    assert none["expected_fpr"]["value"] == 0.05
    on_test = normals(("test/good/a",), np.ones(1, np.float32), threshold("test"))
    assert on_test["expected_fpr"] is None  # the same images set the threshold


def test_under_an_f1_rule_the_expectation_allows_for_the_choice() -> None:
    scores, labels = np.arange(20.0), np.arange(20) >= 12
    chosen = calibrate(scores, labels, AUTO)
    assert (chosen.rule, chosen.fp) == ("f1_grid", 0)
    expected = normals(("test/good/a",), np.ones(1, np.float32), chosen)["expected_fpr"]
    assert expected["value"] == 1 / 13
    assert expected["low"] == 0.0
    assert expected["high"] > beta.ppf(0.975, 1, 12)  # Bonferroni over the twelve images
