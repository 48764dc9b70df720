"""Image-level metrics at a threshold, their record, and the cross-class rate."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from adshift.evaluation.metrics.image import ImageMetrics, false_positive_rate, image_metrics

SCORES = np.array([0.1, 0.4, 0.5, 0.3, 0.5, 0.9], np.float32)
ANOMALOUS = np.array([False, False, False, True, True, True])


def test_values_derived_by_hand():
    found = image_metrics(SCORES, ANOMALOUS, 0.5)  # a score at the threshold is anomalous
    assert (found.tn, found.fp, found.fn, found.tp) == (2, 1, 1, 2)
    assert found.accuracy == found.precision == found.recall == found.specificity == found.f1 == 2 / 3
    assert found.auroc == pytest.approx((1 + 2.5 + 3) / 9)
    assert found.best_f1_upper_bound == 0.75
    assert found.best_threshold == float(np.float32(0.3))


def test_the_threshold_is_not_rounded_to_the_scores_precision():
    # 0.3 lies below float32(0.3): the image is anomalous. The next float64 above float32(0.3) lies above it.
    scores, anomalous = np.array([0.3, 0.0], np.float32), np.array([True, False])
    assert image_metrics(scores, anomalous, 0.3).tp == 1
    assert image_metrics(scores, anomalous, math.nextafter(float(scores[0]), 1)).tp == 0


def test_the_best_threshold_reaches_the_upper_bound():
    best = image_metrics(SCORES, ANOMALOUS, 0.5).best_threshold
    again = image_metrics(SCORES, ANOMALOUS, best)
    assert again.f1 == again.best_f1_upper_bound


PAIRS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.6, 2.0]), st.booleans()), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(PAIRS, st.sampled_from([-1.0, 0.05, 0.5, 1.0, 3.0]))
def test_like_scikit_learn(pairs, threshold):
    scores = np.array([score for score, _ in pairs], np.float32)
    anomalous = np.array([label for _, label in pairs])
    found = image_metrics(scores, anomalous, threshold)
    predicted = scores >= threshold
    counts = peer.confusion_matrix(anomalous, predicted, labels=[False, True]).ravel().tolist()
    assert [found.tn, found.fp, found.fn, found.tp] == counts
    expected = {
        "accuracy": peer.accuracy_score(anomalous, predicted),
        "precision": peer.precision_score(anomalous, predicted, zero_division=0),
        "recall": peer.recall_score(anomalous, predicted, zero_division=0),
        "specificity": peer.recall_score(~anomalous, ~predicted, zero_division=0),
        "f1": peer.f1_score(anomalous, predicted, zero_division=0),
    }
    needed = {"recall": anomalous.any(), "specificity": not anomalous.all()}
    for name, value in expected.items():
        there = needed.get(name, anomalous.any() and not anomalous.all())
        assert getattr(found, name) == (pytest.approx(value) if there else None), name
    assert ImageMetrics.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


def test_the_record_names_everything():
    keys = image_metrics(SCORES, ANOMALOUS, 0.5).to_dict().keys()
    assert keys == {"auroc", "auprc", "f1", "accuracy", "precision", "recall", "specificity", "tn", "fp", "fn", "tp",
                    "threshold", "best_f1_upper_bound", "best_threshold"}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"f1": 0.9}, {"tp": 3}, {"auroc": None}, {"auroc": 1.5}, {"auprc": None}, {"best_f1_upper_bound": 0.5},
     {"threshold": math.nan}, {"best_threshold": None}, {"tn": -1}, {"unknown": 1}, {"auprc": "0.5"}],
)  # fmt: skip
def test_a_damaged_record_is_refused(change):
    good = image_metrics(SCORES, ANOMALOUS, 0.5).to_dict()
    with pytest.raises(ValueError):
        ImageMetrics.from_dict({**good, **change})


@pytest.mark.parametrize("missing", ["tp", "f1", "auroc"])
def test_an_incomplete_record_is_refused(missing):
    good = image_metrics(SCORES, ANOMALOUS, 0.5).to_dict()
    del good[missing]
    with pytest.raises(ValueError):
        ImageMetrics.from_dict(good)


def test_a_threshold_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="finite"):
        image_metrics(SCORES, ANOMALOUS, math.nan)


def test_false_positive_rate():
    normal = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    assert false_positive_rate(normal, float(normal[2])) == 0.5
    assert false_positive_rate(normal, 1.0) == 0.0
    assert false_positive_rate(np.empty(0, np.float32), 0.5) is None


def test_no_image_has_no_figure():
    found = image_metrics(np.empty(0, np.float32), np.empty(0, bool), 0.5).to_dict()
    assert {key: value for key, value in found.items() if value is not None} == {
        "threshold": 0.5, "tn": 0, "fp": 0, "fn": 0, "tp": 0,
    }  # fmt: skip
