"""Intervals of image-level metrics: replicates are the metrics of resampled images, as wide as theory says."""

from pathlib import Path

import numpy as np
import pytest

from adshift.errors import AdshiftError
from adshift.evaluation import intervals
from adshift.evaluation.intervals import METRICS, Resamples, interval, mean, replicates
from adshift.evaluation.metrics.image import image_metrics


def images(normal: int = 23, defective: int = 31, seed: int = 0, gap: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and labels in no order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([False, True], [normal, defective]))
    return np.round(rng.normal(gap * labels, 1), 1).astype(np.float32), labels


def test_a_replicate_is_the_metrics_of_the_images_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = images()
    drawn = Resamples.draw(23, 31, 40, 42, "carpet")
    monkeypatch.setattr(intervals, "BLOCK", 54 * 7)  # several blocks, the last one smaller
    found = replicates(scores, labels, 0.5, drawn)
    for b in range(40):
        picked = np.r_[np.repeat(scores[~labels], drawn.normal[b]), np.repeat(scores[labels], drawn.defective[b])]
        expected = image_metrics(picked, np.repeat([False, True], [23, 31]), 0.5).to_dict()
        assert dict(zip(METRICS, found[:, b], strict=True)) == pytest.approx({name: expected[name] for name in METRICS})


def test_each_resample_has_as_many_images_of_each_kind() -> None:
    drawn = Resamples.draw(5, 9, 200, 42, "carpet")
    assert drawn.normal.shape == (200, 5) and (drawn.normal.sum(1) == 5).all()
    assert drawn.defective.shape == (200, 9) and (drawn.defective.sum(1) == 9).all()
    assert drawn.defective.mean(0).min() > 0.9 and drawn.defective.mean(0).max() < 1.1 and drawn.normal.max() > 1


def test_resamples_depend_on_the_class_alone_and_more_of_them_change_none() -> None:
    few, many, other = (Resamples.draw(5, 9, b, 42, c) for b, c in ((100, "a"), (200, "a"), (100, "b")))
    assert (few.normal == many.normal[:100]).all() and (few.defective == many.defective[:100]).all()
    assert (few.normal != other.normal).any()


def test_the_interval_is_as_wide_as_theory_says() -> None:
    scores, labels = images(400, 400, gap=1.0)
    found = replicates(scores, labels, 0.5, Resamples.draw(400, 400, 2000, 42, "a"))
    ends = interval(found)
    point = image_metrics(scores, labels, 0.5).to_dict()
    for name in ("recall", "specificity"):  # binomial
        low, high = ends[:, METRICS.index(name)]
        assert high - low == pytest.approx(2 * 1.96 * np.sqrt(point[name] * (1 - point[name]) / 400), rel=0.1)
    auroc = point["auroc"]  # Hanley and McNeil 1982
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    error = np.sqrt((auroc * (1 - auroc) + 399 * (q1 + q2 - 2 * auroc**2)) / 400**2)
    low, high = ends[:, METRICS.index("auroc")]
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert (ends[0] <= [point[name] for name in METRICS]).all() and ([point[name] for name in METRICS] <= ends[1]).all()


@pytest.mark.parametrize(("label", "left"), [(False, "specificity"), (True, "recall")])
def test_one_kind_of_images_leaves_one_rate(label: bool, left: str) -> None:
    drawn = Resamples.draw(0, 2, 100, 42, "a") if label else Resamples.draw(2, 0, 100, 42, "a")
    found = replicates(np.array([1.0, 2.0]), np.array([label, label]), 1.5, drawn)
    row = METRICS.index(left)
    assert not np.isnan(found[row]).any() and set(found[row]) == {0.0, 0.5, 1.0}
    assert np.isnan(np.delete(found, row, axis=0)).all()


def test_a_mean_over_classes_leaves_out_those_without_the_figure() -> None:
    one, other = np.array([[0.5, 1.0], [np.nan, np.nan]]), np.array([[1.0, 0.0], [0.25, 0.75]])
    nothing = np.full((2, 2), np.nan)
    assert mean([one, other]).tolist() == [[0.75, 0.5], [0.25, 0.75]]
    assert np.isnan(mean([nothing, nothing])).all()
    assert np.array_equal(mean([one, one]), one, equal_nan=True)


def test_resamples_of_other_images_are_refused() -> None:
    scores, labels = images()
    with pytest.raises(ValueError, match="resamples of other numbers"):
        replicates(scores, labels, 0.5, Resamples.draw(31, 23, 10, 42, "a"))


def test_replicates_survive_the_disk_and_damage_is_told(tmp_path: Path) -> None:
    found = {("carpet", "clean"): np.random.default_rng(0).random((len(METRICS), 10))}
    path = tmp_path / "a" / "bootstrap.npz"
    intervals.save(path, found)
    assert (intervals.load(path)["carpet", "clean"] == found["carpet", "clean"]).all()
    before = path.read_bytes()
    intervals.save(path, found)
    assert path.read_bytes() == before
    path.write_bytes(before[:100])
    with pytest.raises(AdshiftError, match=r"bootstrap\.npz"):
        intervals.load(path)
    intervals.save(path, {("carpet", "clean"): np.zeros((2, 10))})
    with pytest.raises(AdshiftError, match="of other metrics"):
        intervals.load(path)
