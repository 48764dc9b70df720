"""`calibrate.rule: auto`: which rule it takes, what it promises, and what the record says."""

import numpy as np
import pytest

from adshift.errors import AdshiftError
from adshift.evaluation.calibration import Threshold, calibrate
from adshift.evaluation.metrics.counts import decide
from adshift.evaluation.settings import Calibrate

AUTO = Calibrate(rule="auto", min_normal=10, min_defective=5, steps=1000, target_fpr=0.05)


def images(normal: int, defective: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores 0, 1, ... of normal images, and 0.5 above each second one of defective ones."""
    scores = np.concatenate([np.arange(float(normal)), normal / 2 + np.arange(float(defective))])
    return scores, np.arange(normal + defective) >= normal


def test_enough_of_both_kinds_give_the_best_f1() -> None:
    scores, labels = images(10, 5)
    found = calibrate(scores, labels, AUTO)
    grid = calibrate(scores, labels, AUTO.model_copy(update={"rule": "f1_grid"}))
    assert found.to_dict() == {
        **grid.to_dict(),
        "reason": "F1-optimal: 10 normal and 5 defective images reach calibrate.min_normal 10 and "
        "calibrate.min_defective 5",
    }


@pytest.mark.parametrize(("normal", "defective"), [(9, 5), (30, 4), (30, 0)])
def test_too_few_of_a_kind_leave_the_normal_ones_to_decide(normal: int, defective: int) -> None:
    scores, labels = images(normal, defective)
    found = calibrate(scores, labels, AUTO)
    alone = calibrate(*images(normal, 0), AUTO)
    assert found.rule == "conformal"
    assert found.threshold == alone.threshold  # whatever the defective ones score
    assert f"{normal} normal and {defective} defective images do not reach" in str(found.reason)


def test_the_rate_asked_for_is_promised_where_the_images_suffice() -> None:
    found = calibrate(*images(39, 0), AUTO)  # floor(0.05 * 40) = 2 places: just above the second largest score
    assert found.threshold == np.nextafter(37.0, np.inf)
    assert found.expected_fpr is not None
    assert found.expected_fpr.value == 0.05
    assert (found.fp, found.tn, found.tp, found.fn) == (1, 38, 0, 0)
    assert (found.f1, found.precision, found.recall, found.specificity) == (None, None, None, 38 / 39)
    assert "promise" not in str(found.reason)


def test_few_images_promise_what_they_can() -> None:
    for target in (0.05, 0.0):
        found = calibrate(*images(6, 0), AUTO.model_copy(update={"target_fpr": target}))
        assert not decide(np.arange(6.0), found.threshold).any()
        assert found.threshold == np.nextafter(5.0, np.inf)
        assert found.expected_fpr is not None
        assert found.expected_fpr.value == 1 / 7
        assert f"so few promise a false-alarm rate of 0.143, not {target:g}" in str(found.reason)


def test_a_record_keeps_its_reason_and_its_promise() -> None:
    found = calibrate(*images(6, 0), AUTO)
    assert Threshold.from_dict(found.to_dict()) == found
    with pytest.raises(AdshiftError, match="damaged"):
        Threshold.from_dict({**found.to_dict(), "expected_fpr": {"value": 2.0, "low": 0.0, "high": 1.0}})
    with pytest.raises(AdshiftError, match="damaged"):
        Threshold.from_dict({**found.to_dict(), "recall": 0.0})  # nothing to recall


def test_no_normal_image_is_an_error() -> None:
    with pytest.raises(AdshiftError, match="0 normal and 3 defective images; a threshold needs normal ones"):
        calibrate(*images(0, 3), AUTO)
