"""Ranking metrics against values derived by hand and against scikit-learn."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer
from sklearn.exceptions import UndefinedMetricWarning

from adshift.evaluation.metrics import ranking
from adshift.evaluation.metrics.ranking import auprc, auroc, best_f1, pr_points, roc_points

EXACT = 1e-9


def peer_best_f1(scores, anomalous):
    precision, recall, _ = peer.precision_recall_curve(anomalous, scores)
    return (2 * precision * recall / np.maximum(precision + recall, 1e-300)).max() if anomalous.any() else 0.0


def assert_like_peer(scores, anomalous):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        warnings.simplefilter("ignore", UserWarning)
        expected = peer.roc_auc_score(anomalous, scores)
        assert auroc(scores, anomalous) == (None if np.isnan(expected) else pytest.approx(expected, abs=EXACT))
        if np.isnan(expected):
            assert (auprc(scores, anomalous), *best_f1(scores, anomalous)) == (None, None, None)
            return
        assert auprc(scores, anomalous) == pytest.approx(peer.average_precision_score(anomalous, scores), abs=EXACT)
        found, threshold = best_f1(scores, anomalous)
        assert found == pytest.approx(peer_best_f1(scores, anomalous), abs=EXACT)
        # The threshold does what it promises, and no score above it does as well.
        assert found == pytest.approx(peer.f1_score(anomalous, scores >= threshold), abs=EXACT)
        higher = np.unique(scores[scores > threshold])[:, None] <= scores
        f1 = 2 * (higher & anomalous).sum(axis=1) / (higher.sum(axis=1) + anomalous.sum())
        assert (f1 < found).all()


# Normal 1, 3, 3; anomalous 2, 3, 4. Pairs ordered right: 2 beats 1; 3 beats 1 and half of two ties; 4 beats all.
SCORES = np.array([1.0, 3.0, 3.0, 2.0, 3.0, 4.0], np.float32)
ANOMALOUS = np.array([False, False, False, True, True, True])


def test_values_derived_by_hand():
    assert auroc(SCORES, ANOMALOUS) == pytest.approx((1 + 2 + 3) / 9)
    # Precision from the top: 4 -> 1/1, 3 -> 2/4, 2 -> 3/5, each with a third of the recall.
    assert auprc(SCORES, ANOMALOUS) == pytest.approx((1 + 1 / 2 + 3 / 5) / 3)
    # F1: at 4 2/4, at 3 4/7, at 2 6/8.
    assert best_f1(SCORES, ANOMALOUS) == (0.75, 2.0)


def test_ties_in_f1_go_to_the_highest_threshold(monkeypatch):
    # At 3: TP 1, FP 0, F1 2/3. At 1: TP 2, FP 2, F1 4/6.
    scores, anomalous = np.array([3.0, 2.0, 1.5, 1.0]), np.array([True, False, False, True])
    assert best_f1(scores, anomalous) == (2 / 3, 3.0)
    monkeypatch.setattr(ranking, "BLOCK", 1)
    assert best_f1(scores, anomalous) == (2 / 3, 3.0)


@pytest.mark.parametrize("kind", ["random", "ties", "constant", "separated", "reversed", "tiny", "huge"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_like_scikit_learn(kind, share, dtype):
    generator = np.random.default_rng([len(kind), int(100 * share)])
    anomalous = generator.random(500) < share
    scores = generator.normal(size=500) + anomalous
    scores = {
        "random": scores,
        "ties": scores.round(1),
        "constant": np.full(500, 0.5),
        "separated": scores + 100 * anomalous,
        "reversed": scores - 100 * anomalous,
        "tiny": 1 + scores * 1e-7,
        "huge": scores * 1e30,
    }[kind].astype(dtype)
    assert_like_peer(scores, anomalous)


# Few values, so that most scores tie; zeros of both signs and denormals tie or do not, as scikit-learn says.
VALUES = st.sampled_from([-1.5, -0.0, 0.0, 1e-45, 0.25, 1.0, 1.0000001, 3.4e38])
PAIRS = st.lists(st.tuples(st.one_of(VALUES, st.floats(-2, 2, width=32)), st.booleans()), min_size=1, max_size=30)


@settings(max_examples=150, deadline=None)
@given(PAIRS)
def test_like_scikit_learn_on_anything(pairs):
    scores = np.array([score for score, _ in pairs], np.float32)
    assert_like_peer(scores, np.array([label for _, label in pairs]))


@settings(max_examples=50, deadline=None)
@given(PAIRS)
def test_only_the_order_matters(pairs):
    scores = np.array([score for score, _ in pairs], np.float32)
    anomalous = np.array([label for _, label in pairs])
    ranks = np.unique(scores, return_inverse=True)[1]
    reordered = np.arange(len(scores))[::-1]
    for other, labels in ((ranks, anomalous), (scores[reordered], anomalous[reordered])):
        assert auroc(other, labels) == auroc(scores, anomalous)
        assert auprc(other, labels) == auprc(scores, anomalous)
        assert best_f1(other, labels)[0] == best_f1(scores, anomalous)[0]


@pytest.mark.parametrize("label", [True, False])
@pytest.mark.parametrize("size", [1, 5])
def test_one_kind_of_score(label, size):
    scores, anomalous = np.linspace(1, 2, size, dtype=np.float32), np.full(size, label)
    assert_like_peer(scores, anomalous)
    assert auroc(scores, anomalous) is None
    assert (auprc(scores, anomalous), *best_f1(scores, anomalous)) == (None, None, None)
    assert [len(part) for part in roc_points(scores, anomalous)] == [0, 0]


def test_blocks_change_nothing(monkeypatch):
    generator = np.random.default_rng(0)
    scores, anomalous = generator.integers(0, 40, 300).astype(np.float32), generator.random(300) < 0.4
    whole = auroc(scores, anomalous), auprc(scores, anomalous), best_f1(scores, anomalous)
    monkeypatch.setattr(ranking, "BLOCK", 7)
    assert auroc(scores, anomalous) == whole[0]
    assert auprc(scores, anomalous) == pytest.approx(whole[1], abs=1e-14)
    assert best_f1(scores, anomalous) == whole[2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 4])
def test_a_score_that_is_not_finite_is_refused(bad, at):
    scores = SCORES.copy()
    scores[at] = bad
    with pytest.raises(ValueError, match="not finite"):
        auroc(scores, ANOMALOUS)


@pytest.mark.parametrize(
    "scores, anomalous",
    [(SCORES, ANOMALOUS[:-1]), (SCORES, ANOMALOUS.astype(int)), (np.empty(0), np.empty(0, bool))],
)
def test_scores_and_labels_must_match(scores, anomalous):
    with pytest.raises(ValueError, match="expected bool, alike"):
        auprc(scores, anomalous)


def test_the_scores_are_left_alone():
    scores = np.array([3.0, 1.0, 2.0, 0.0], np.float32)
    auroc(scores, np.array([True, True, True, False]))
    assert scores.tolist() == [3, 1, 2, 0]


def points(x, y):
    return {*zip(x.round(12), y.round(12), strict=True)}


@pytest.mark.parametrize("decimals", [1, 9])
def test_curves_are_the_whole_curve(decimals):
    generator = np.random.default_rng(decimals)
    anomalous = generator.random(120) < 0.4
    scores = (generator.normal(size=120) + anomalous).round(decimals)
    fpr, tpr = roc_points(scores, anomalous, most=10**6)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(tpr, fpr) == pytest.approx(peer.roc_auc_score(anomalous, scores), abs=EXACT)
    assert points(fpr, tpr) <= points(*peer.roc_curve(anomalous, scores, drop_intermediate=False)[:2])

    recall, precision = pr_points(scores, anomalous, most=10**6)
    assert (recall[0], precision[0], recall[-1]) == (0, 1, 1)
    assert (np.diff(recall) >= 0).all()
    expected, at, _ = peer.precision_recall_curve(anomalous, scores)
    assert points(recall, precision) <= points(at, expected)
    step = np.diff(recall) @ precision[1:]
    assert step == pytest.approx(peer.average_precision_score(anomalous, scores), abs=EXACT)


def test_thinned_curves_keep_their_ends_and_shape():
    generator = np.random.default_rng(1)
    anomalous = generator.random(5000) < 0.3
    scores = generator.normal(size=5000) + anomalous
    fpr, tpr = roc_points(scores, anomalous, most=50)
    assert 25 < len(fpr) <= 50
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(fpr) >= 0).all() and (np.diff(tpr) >= 0).all()
    assert np.trapezoid(tpr, fpr) == pytest.approx(auroc(scores, anomalous), abs=0.01)


def test_metrics_import_nothing_heavy():
    code = "import sys, adshift.evaluation.metrics.image, adshift.evaluation.metrics.pixel; print(*sys.modules)"
    loaded = {*subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()}
    assert "adshift.evaluation.metrics.pro" in loaded
    assert not loaded & {"torch", "sklearn", "scipy", "numba", "pandas", "anomalib"}
