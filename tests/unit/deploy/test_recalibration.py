"""Recalibrated thresholds: by hand, against simulation, and never over another one."""

import numpy as np
import pytest
from scipy.stats import binomtest

from adshift.deploy import recalibration
from adshift.deploy.recalibration import recalibrate
from adshift.errors import AdshiftError
from adshift.evaluation.calibration import calibrate
from adshift.evaluation.conformal import chosen_rate, clopper_pearson, conformal, needed
from adshift.evaluation.metrics.counts import decide
from adshift.evaluation.settings import Calibrate

NONE = np.empty(0)


def test_the_threshold_lies_just_above_the_order_statistic() -> None:
    # 39 images: floor(0.05 * 40) = 2 of 40 places lie above the second largest score.
    threshold, rate = conformal(np.arange(39.0), 0.05)
    assert threshold == np.nextafter(37.0, np.inf)
    assert rate.value == 2 / 40
    assert decide(np.arange(39.0), threshold).sum() == 1


def test_a_lower_threshold_would_expect_more_than_the_target() -> None:
    for count, target in ((19, 0.05), (25, 0.1), (100, 0.07), (9, 0.1)):
        rate = conformal(np.arange(float(count)), target)[1].value
        assert rate <= target < rate + 1 / (count + 1)


@pytest.mark.parametrize(("target", "least"), [(0.05, 19), (0.1, 9), (0.01, 99), (0.5, 1), (0.3, 3), (0.9, 1)])
def test_too_few_images_are_refused_and_enough_are_not(target: float, least: int) -> None:
    assert needed(target) == least
    conformal(np.arange(float(least)), target)
    with pytest.raises(AdshiftError, match=f"that takes {least}"):
        conformal(np.arange(float(least - 1)), target)


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_is_a_rate(target: float) -> None:
    with pytest.raises(AdshiftError, match="target false-positive rate"):
        conformal(np.arange(50.0), target)


def test_the_expected_rate_is_kept_and_its_interval_covers() -> None:
    # Of uniform scores the false-positive rate of a threshold t is 1 - t, whatever their number.
    generator = np.random.default_rng(0)
    for count, target in ((19, 0.05), (60, 0.1)):
        rates, covered = [], 0
        for _ in range(4000):
            threshold, expected = conformal(generator.random(count), target)
            rates.append(1 - threshold)
            covered += expected.low <= rates[-1] <= expected.high
        assert np.mean(rates) == pytest.approx(expected.value, abs=4 * np.std(rates) / 4000**0.5)
        assert np.mean(rates) <= target + 4 * np.std(rates) / 4000**0.5
        assert covered / 4000 == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / 4000) ** 0.5)


def test_ties_only_lower_the_rate() -> None:
    threshold, _ = conformal(np.array([1.0] * 15 + [2.0] * 4), 0.05)
    assert threshold == np.nextafter(2.0, np.inf)


def test_clopper_pearson_is_scipys() -> None:
    for hits, count in ((0, 5), (5, 5), (3, 40)):
        theirs = binomtest(hits, count).proportion_ci(0.95, "exact")
        ours = clopper_pearson(hits, count)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_the_interval_of_a_chosen_threshold_covers() -> None:
    # Normal scores uniform, so the false-positive rate of t is 1 - t within [0, 1].
    generator = np.random.default_rng(1)
    covered = naive = 0
    for _ in range(1500):
        normal, bad = generator.random(15), generator.random(10) + 0.3
        threshold = recalibrate(normal, bad, 0.5, None, "f1_exact").threshold
        fp = int(decide(normal, threshold).sum())
        truth = float(np.clip(1 - threshold, 0, 1))
        covered += (found := chosen_rate(fp, 15)).low <= truth <= found.high
        naive += (plain := clopper_pearson(fp, 15)).low <= truth <= plain.high
    assert covered / 1500 >= 0.95
    assert naive < covered  # what the correction is for


def test_normal_and_anomalous_images_follow_the_rule_of_calibration() -> None:
    generator = np.random.default_rng(2)
    normal, bad = generator.normal(size=30), generator.normal(2, 1, 12)
    found = recalibrate(normal, bad, 5.0, None, "f1_exact")
    labels = np.arange(42) >= 30
    theirs = calibrate(
        np.concatenate([normal, bad]),
        labels,
        Calibrate(rule="f1_exact", min_normal=10, min_defective=5, steps=1000, target_fpr=0.05),
    )
    assert found.threshold == theirs.threshold
    assert (found.after.tp, found.after.fp, found.after.tn, found.after.fn) == (
        theirs.tp,
        theirs.fp,
        theirs.tn,
        theirs.fn,
    )
    assert (found.before.fp, found.before.recall) == (0, float((bad >= 5).mean()))
    assert (found.rule, found.normal, found.anomalous, found.target_fpr) == ("f1_exact", 30, 12, None)


def test_a_target_uses_anomalous_images_as_evidence_alone() -> None:
    normal, bad = np.arange(19.0), np.array([5.0, 30.0])
    found, alone = recalibrate(normal, bad, 3.0, 0.05), recalibrate(normal, NONE, 3.0, 0.05)
    assert found.threshold == alone.threshold
    assert (found.after.recall, alone.after.recall) == (0.5, None)
    assert (found.before.fp, found.before_fpr.value) == (16, 16 / 19)
    assert found.rule == "conformal"


def test_an_f1_rule_needs_both_kinds() -> None:
    with pytest.raises(AdshiftError, match="needs both"):
        recalibrate(np.arange(19.0), NONE, 3.0, None, "f1_grid")


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(AdshiftError, match="1 scores of normal images are not finite"):
        recalibrate(np.array([*np.arange(19.0), np.nan]), NONE, 3.0, 0.05)


def test_no_file_is_overwritten(tmp_path) -> None:
    path = recalibration.threshold_path(tmp_path, "x")
    recalibration.create(path, lambda temporary: temporary.write_text("first"))
    with pytest.raises(AdshiftError, match="no threshold is overwritten"):
        recalibration.create(path, lambda temporary: temporary.write_text("second"))
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(AdshiftError, match="no threshold is overwritten"):
        recalibration.checked_name(tmp_path, "x")
    assert recalibration.next_name(tmp_path) == "1"
    recalibration.threshold_path(tmp_path, "1").touch()
    recalibration.reference_path(tmp_path, "2").touch()
    assert recalibration.next_name(tmp_path) == "3"


@pytest.mark.parametrize("name", ["../x", "", ".", "a/b", "a b", "-x", "x" * 70])
def test_a_name_stays_beside_the_model(tmp_path, name: str) -> None:
    with pytest.raises(AdshiftError, match="name"):
        recalibration.checked_name(tmp_path, name)
