"""Thresholds by hand, and against brute force over every threshold."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as checks
from hypothesis import strategies as st

from adshift.errors import AdshiftError
from adshift.evaluation.calibration import Threshold, by_pasted, calibrate
from adshift.evaluation.metrics.counts import PRECISION, Counts, decide
from adshift.evaluation.settings import Calibrate


def settings(rule: str = "f1_grid", steps: int = 1000, target_fpr: float = 0.05) -> Calibrate:
    return Calibrate(rule=rule, min_normal=10, min_defective=5, steps=steps, target_fpr=target_fpr)


def f1_of(threshold: float, scores: np.ndarray, anomalous: np.ndarray) -> tuple[float, float]:
    """F1 and specificity, the slow way."""
    tp = sum(s >= threshold and a for s, a in zip(scores, anomalous, strict=True))
    fp = sum(s >= threshold and not a for s, a in zip(scores, anomalous, strict=True))
    fn, normal = anomalous.sum() - tp, (~anomalous).sum()
    return 2 * tp / (2 * tp + fp + fn), 1 - fp / normal


@st.composite
def samples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, both kinds of images."""
    count = draw(st.integers(2, 25))
    scores = draw(st.lists(st.integers(-4, 8), min_size=count, max_size=count))
    anomalous = draw(st.lists(st.booleans(), min_size=count, max_size=count).filter(lambda v: any(v) and not all(v)))
    return np.array(scores, np.float32) / 3, np.array(anomalous)


def test_a_score_at_the_threshold_is_anomalous() -> None:
    assert decide(np.array([1.0, 2.0, 3.0]), 2.0).tolist() == [False, True, True]


def test_float32_scores_are_compared_without_rounding_the_threshold() -> None:
    score = np.array([1.0], np.float32)
    assert not decide(score, 1 + 1e-12).any()  # NumPy's own comparison would round this threshold to 1


def test_overlapping_scores_by_hand() -> None:
    # Above 2: 2 of 2 anomalous, 1 false alarm, F1 = 4/5. Above 3.5: 1 of 2, none false, F1 = 2/3.
    scores, anomalous = np.array([0.0, 1.0, 3.0, 2.0, 4.0]), np.array([False, False, False, True, True])
    exact = calibrate(scores, anomalous, settings("f1_exact"))
    assert exact.threshold == 1.5
    assert (exact.tp, exact.fp, exact.tn, exact.fn) == (2, 1, 2, 0)
    assert (exact.f1, exact.precision, exact.recall, exact.specificity) == (4 / 5, 2 / 3, 1.0, 2 / 3)
    # Grid 0, 1, 2, 3, 4: only 2 separates; a grid of 9 has 1.5 and 2 in the gap (1, 2], and the upper of the two wins.
    assert calibrate(scores, anomalous, settings(steps=5)).threshold == 2.0
    assert calibrate(scores, anomalous, settings(steps=9)).threshold == 2.0


def test_the_middle_of_the_gap_is_taken_when_scores_separate() -> None:
    scores, anomalous = np.array([0.0, 1.0, 3.0, 4.0]), np.array([False, False, True, True])
    assert calibrate(scores, anomalous, settings("f1_exact")).threshold == 2.0
    grid = calibrate(scores, anomalous, settings(steps=1001))
    assert grid.threshold == pytest.approx(2.0, abs=0.005)
    assert (grid.f1, grid.specificity) == (1.0, 1.0)


def test_a_tie_in_f1_goes_to_the_higher_specificity() -> None:
    # From 3 on: TP 1, FP 0, F1 = 2/3. From 0 on: TP 2, FP 2, F1 = 4/6 as well, at most thresholds of the grid.
    scores, anomalous = np.array([-99.0, 1.0, 2.0, 0.0, 3.0]), np.array([False, False, False, True, True])
    for rule in ("f1_grid", "f1_exact"):
        found = calibrate(scores, anomalous, settings(rule))
        assert found.f1 == 2 / 3
        assert found.specificity == 1.0
        assert 2 < found.threshold <= 3


def test_scores_in_the_wrong_order_call_everything_anomalous() -> None:
    scores, anomalous = np.array([5.0, 6.0, 1.0, 2.0]), np.array([False, False, True, True])
    found = calibrate(scores, anomalous, settings("f1_exact"))
    assert (found.threshold, found.recall, found.specificity) == (1.0, 1.0, 0.0)


def test_equal_scores_call_everything_anomalous() -> None:
    for rule in ("f1_grid", "f1_exact"):
        found = calibrate(np.ones(4), np.array([True, False, False, False]), settings(rule))
        assert (found.threshold, found.tp, found.fp) == (1.0, 1, 3)


def test_adjacent_floats_are_still_separated() -> None:
    low = 1.0
    found = calibrate(np.array([low, np.nextafter(low, 2)]), np.array([False, True]), settings("f1_exact"))
    assert (found.f1, found.specificity) == (1.0, 1.0)
    found = calibrate(np.array([0, low, np.nextafter(low, 2)]), np.array([False, False, True]), settings("f1_exact"))
    assert found.threshold == np.nextafter(low, 2)


@pytest.mark.parametrize("rule", ["f1_grid", "f1_exact", "target_fpr"])
def test_a_record_names_its_rule(rule: str) -> None:
    assert calibrate(np.array([0.0, 1.0]), np.array([False, True]), settings(rule)).rule == rule


@checks(deadline=None)  # the machine may be busy
@given(samples(), st.integers(2, 60))
def test_grid_equals_brute_force(sample: tuple[np.ndarray, np.ndarray], steps: int) -> None:
    scores, anomalous = sample
    grid = np.linspace(float(scores.min()), float(scores.max()), steps)
    found = calibrate(scores, anomalous, settings(steps=steps))
    assert found.threshold in grid
    assert (found.f1, found.specificity) == pytest.approx(max(f1_of(t, scores, anomalous) for t in grid), abs=1e-12)


@checks(deadline=None)  # the machine may be busy
@given(samples())
def test_exact_optimum_equals_brute_force_and_beats_the_grid(sample: tuple[np.ndarray, np.ndarray]) -> None:
    scores, anomalous = sample
    found = calibrate(scores, anomalous, settings("f1_exact"))
    best = max(f1_of(float(t), scores, anomalous) for t in scores)
    assert (found.f1, found.specificity) == pytest.approx(best, abs=1e-12)
    assert found.f1 >= calibrate(scores, anomalous, settings()).f1


def test_pasted_copies_stand_for_anomalous_images() -> None:
    """Of 1, 2, ... 9, those from 4 to 6 pass all normal images and find two thirds of the copies; 5 is the middle."""
    found = by_pasted(np.array([1.0, 2.0, 3.0]), np.array([2.0, 6.0, 9.0]), 9, "test")
    reason = "largest specificity plus recall: 3 normal images, 3 with pasted defects"
    assert found == Threshold(5.0, "test", "pasted", 0.8, 1.0, 2 / 3, 1.0, 2, 0, 3, 1, reason)
    assert by_pasted(np.array([1.0, 2.0]), np.array([3.0]), 3).on == "val"


def test_pasted_copies_in_any_number_give_the_same_threshold() -> None:
    """With F1, thirty copies of each would call all five normal images anomalous."""
    normal, copies = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([0.0, 1.0, 4.0, 6.0, 7.0])
    found = [by_pasted(normal, np.repeat(copies, times), 15) for times in (1, 30)]
    assert len({one.threshold for one in found}) == 1
    assert [(one.fp, one.tp) for one in found] == [(0, 2), (0, 60)]
    many = np.concatenate([normal, np.repeat(copies, 30)])
    f1 = calibrate(many, np.arange(len(many)) >= 5, settings("f1_grid", steps=15))
    assert f1.fp == 5


def test_of_equal_sums_the_higher_specificity_wins() -> None:
    """At 1 both copies are found and no normal image passes, at 2 and 3 one and one: each sum is 1."""
    found = by_pasted(np.array([1.0, 3.0]), np.array([1.0, 3.0]), 3)
    assert (found.threshold, found.tn, found.tp) == (3.0, 1, 1)


def test_target_rate_by_hand() -> None:
    normal = np.arange(20.0)
    scores, anomalous = np.append(normal, 99.0), np.arange(21) == 20
    one_of_twenty = calibrate(scores, anomalous, settings("target_fpr", target_fpr=0.05))
    assert one_of_twenty.threshold == np.nextafter(18.0, 19)
    assert (one_of_twenty.fp, one_of_twenty.tn, one_of_twenty.tp) == (1, 19, 1)
    none = calibrate(scores, anomalous, settings("target_fpr", target_fpr=0.0))
    assert (none.threshold, none.fp) == (np.nextafter(19.0, 20), 0)
    # 0.29 * 100 falls below 29 in floating point; 29 false alarms of 100 are allowed all the same.
    scores, anomalous = np.append(np.arange(100.0), 999.0), np.arange(101) == 100
    assert calibrate(scores, anomalous, settings("target_fpr", target_fpr=0.29)).fp == 29


@checks(deadline=None)  # the machine may be busy
@given(samples(), st.sampled_from([0.0, 0.05, 0.1, 0.25, 1 / 3, 0.5, 0.99]))
def test_target_rate_is_kept_by_the_smallest_threshold(sample: tuple[np.ndarray, np.ndarray], target: float) -> None:
    scores, anomalous = sample
    found = calibrate(scores, anomalous, settings("target_fpr", target_fpr=target))
    normal = scores[~anomalous].astype(float)
    assert np.mean(normal >= found.threshold) <= target
    assert np.mean(normal >= np.nextafter(found.threshold, -np.inf)) > target


def test_the_order_of_images_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    scores, anomalous = rng.normal(size=50).astype(np.float32), rng.random(50) < 0.3
    shuffled = rng.permutation(50)
    for rule in ("f1_grid", "f1_exact", "target_fpr"):
        assert calibrate(scores, anomalous, settings(rule)) == calibrate(
            scores[shuffled], anomalous[shuffled], settings(rule)
        )


@pytest.mark.parametrize(
    ("scores", "anomalous", "said"),
    [
        ([], [], "0 normal and 0 defective"),
        ([1.0, 2.0], [True, True], "0 normal and 2 defective"),
        ([1.0, 2.0], [False, False], "2 normal and 0 defective"),
        ([1.0, np.nan], [False, True], "1 of 2 are not finite"),
        ([1.0, np.inf], [False, True], "1 of 2 are not finite"),
    ],
)
@pytest.mark.parametrize("rule", ["f1_grid", "f1_exact", "target_fpr"])
def test_scores_that_set_no_threshold_are_refused(scores: list, anomalous: list, said: str, rule: str) -> None:
    if rule == "target_fpr" and said == "2 normal and 0 defective":  # it looks at normal images alone
        found = calibrate(np.array(scores), np.array(anomalous), settings(rule))
        assert found.threshold == np.nextafter(2.0, np.inf)
        assert (found.f1, found.recall, found.specificity) == (None, None, 1.0)
        return
    with pytest.raises(AdshiftError, match=said) as error:
        calibrate(np.array(scores), np.array(anomalous, bool), settings(rule), source="carpet's scores")
    assert str(error.value).startswith("carpet's scores: ")
    assert error.value.remedy


def test_a_threshold_survives_json() -> None:
    rng = np.random.default_rng(1)
    found = calibrate(rng.normal(size=40).astype(np.float32), rng.random(40) < 0.4, settings("target_fpr"))
    assert Threshold.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(
    "damage", [{"f1": 0.9}, {"tp": -1}, {"threshold": float("nan")}, {"threshold": "1"}, {"more": 1}, {"tp": None}]
)
def test_a_damaged_threshold_is_refused(damage: dict) -> None:
    good = calibrate(np.array([0.0, 1.0, 2.0]), np.array([False, True, True]), settings("f1_exact")).to_dict()
    assert Threshold.from_dict(good)
    with pytest.raises(AdshiftError):
        Threshold.from_dict({**good, **damage})
    with pytest.raises(AdshiftError):
        Threshold.from_dict({key: value for key, value in good.items() if key != "fn"})


def test_a_threshold_says_on_which_images_it_was_chosen() -> None:
    scores, anomalous = np.array([0.0, 1.0, 3.0, 4.0]), np.array([False, False, True, True])
    assert calibrate(scores, anomalous, settings()).on == "val"
    record = calibrate(scores, anomalous, settings("f1_exact"), "test").to_dict()
    assert record["on"] == "test"
    assert Threshold.from_dict(record).on == "test"
    with pytest.raises(AdshiftError, match="set on 'train'"):
        Threshold.from_dict({**record, "on": "train"})


def test_scores_of_float32_set_a_threshold_in_float64() -> None:
    """The smallest number above a score is another one in float32, and the middle of two scores may not be there."""
    scores, anomalous = np.array([0.1, 0.2, 0.3], np.float32), np.array([False, False, True])
    found = calibrate(scores, anomalous, settings("target_fpr", target_fpr=0.5))
    assert found.threshold == np.nextafter(float(np.float32(0.1)), 1)
    low, high = np.float32(1), np.nextafter(np.float32(1), np.float32(2))
    found = calibrate(np.array([low, high]), np.array([False, True]), settings("f1_exact"))
    assert found.threshold == (float(low) + float(high)) / 2


def test_the_middle_of_tied_thresholds_is_taken_the_upper_of_two() -> None:
    """A grid of 0, 1, ... 10: 4 to 7 separate, then 4 to 8; of those that decide alike the third is taken."""
    anomalous = np.array([False, False, True, True])
    assert calibrate(np.array([0.0, 3.5, 7.5, 10.0]), anomalous, settings(steps=11)).threshold == 6.0
    assert calibrate(np.array([0.0, 3.5, 8.5, 10.0]), anomalous, settings(steps=11)).threshold == 6.0
    assert calibrate(np.array([0.0, 3.5, 4.5, 10.0]), anomalous, settings(steps=11)).threshold == 4.0


@pytest.mark.parametrize(
    ("scores", "anomalous", "said"),
    [
        (np.ones((2, 1)), np.ones((2, 1), bool), "scores (2, 1), anomalous (2, 1) bool: expected (N,), (N,) bool"),
        (np.ones(3), np.ones(2, bool), "scores (3,), anomalous (2,) bool: expected (N,), (N,) bool"),
        (np.ones(2), np.ones(2, int), "scores (2,), anomalous (2,) int64: expected (N,), (N,) bool"),
    ],
)
def test_what_are_no_scores_and_labels_is_a_programming_error(
    scores: np.ndarray, anomalous: np.ndarray, said: str
) -> None:
    with pytest.raises(ValueError) as error:
        calibrate(scores, anomalous, settings())
    assert str(error.value) == said


def test_refusals_word_for_word() -> None:
    with pytest.raises(AdshiftError) as error:
        calibrate(np.array([1.0, np.nan, 3.0]), np.array([True, False, False]), settings())
    assert error.value.what == "validation scores: 1 of 3 are not finite"
    assert error.value.remedy == "run `dvc repro`"
    with pytest.raises(AdshiftError) as error:
        calibrate(np.array([1.0, 2.0, 3.0]), np.array([False] * 3), settings(), source="nut")
    assert error.value.what == "nut: 3 normal and 0 defective images; f1_grid needs both"
    remedy = "lower split.train_fraction, raise split.val_defect_fraction or set calibrate.rule: auto in params.yaml"
    assert error.value.remedy == remedy


def sound() -> dict:
    """Half of each kind is found: tp 1, fp 1, tn 1, fn 1."""
    return Threshold.of(2.0, "val", "f1_grid", np.array([1.0, 3.0] * 2), np.array([True, True, False, False])).to_dict()


def test_a_record_by_hand() -> None:
    assert sound() == {
        "threshold": 2.0, "on": "val", "rule": "f1_grid", "f1": 0.5, "precision": 0.5, "recall": 0.5,
        "specificity": 0.5, "tp": 1, "fp": 1, "tn": 1, "fn": 1,
    }  # fmt: skip
    assert Threshold.from_dict(sound()).to_dict() == sound()
    none = Threshold.of(9.0, "val", "f1_grid", np.array([1.0, 3.0, 2.0]), np.array([True, True, False]))
    assert (none.f1, none.precision, none.recall, none.specificity) == (0.0, 0.0, 0.0, 1.0)
    assert type(Threshold.of(np.float32(2), "val", "f1_grid", np.ones(2), np.array([True, False])).threshold) is float


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"threshold": float("inf")}, "threshold inf is not finite"),
        ({"tp": -1}, "counts are negative, or no image is normal"),
        ({"fp": -1}, "counts are negative, or no image is normal"),
        ({"tn": -1}, "counts are negative, or no image is normal"),
        ({"fn": -1}, "counts are negative, or no image is normal"),
        ({"tp": -1, "fn": 3}, "counts are negative, or no image is normal"),
        ({"fp": -1, "tn": 3}, "counts are negative, or no image is normal"),
        ({"tn": -1, "fp": 3}, "counts are negative, or no image is normal"),
        ({"fn": -1, "tp": 3}, "counts are negative, or no image is normal"),
        ({"tp": 0, "fn": 0}, "rates and counts disagree"),
        ({"tn": 0, "fp": 0}, "counts are negative, or no image is normal"),
        ({"f1": 0.25}, "rates and counts disagree"),
        ({"precision": 0.25}, "rates and counts disagree"),
        ({"recall": 0.25}, "rates and counts disagree"),
        ({"specificity": 0.25}, "rates and counts disagree"),
        ({"tn": 2}, "rates and counts disagree"),
        ({"on": "train"}, "set on 'train': expected val or test"),
        (
            {"more": 1},
            "keys f1, fn, fp, more, on, precision, recall, rule, specificity, threshold, tn, tp",
        ),
    ],
)
def test_what_is_wrong_with_a_record_is_told(damage: dict, said: str) -> None:
    with pytest.raises(AdshiftError) as error:
        Threshold.from_dict({**sound(), **damage})
    assert error.value.what == f"a calibrated threshold is damaged: {said}"
    assert error.value.remedy == "run `dvc repro calibrate`"


def test_rates_of_many_thresholds_by_hand() -> None:
    rates = PRECISION(Counts(tp=np.array([0, 1, 0, 1, 3]), fp=np.array([0, 0, 1, 1, 2])))
    assert rates.dtype == np.float64
    assert rates.tolist() == [0, 1, 0, 0.5, 0.6]  # 0 / 0 is 0
