"""PaDiM with a diagonal covariance against the formula in float64, and what its model and fit must be."""

from pathlib import Path

import numpy as np
import pytest

from adshift.detectors.padim_diagonal import Fit, Moments, PadimDiagonal, Score
from adshift.errors import AdshiftError
from gaussians import embedding, features

FIT, HOW = Fit(layers=(1, 2, 3), n_features=15, regularisation=0.01), Score(smoothing=2.0)


@pytest.fixture(scope="module")
def fitted() -> PadimDiagonal:
    model = PadimDiagonal(FIT)
    model.fit(features(21), np.random.default_rng(1))  # two full batches and a part of one
    return model


@pytest.mark.parametrize("sizes", [(20,), (8, 8, 4), (1,) * 20, (19, 1)])
def test_merged_moments_are_those_of_all_rows(sizes: tuple[int, ...]) -> None:
    rows = 1e4 + np.random.default_rng(0).normal(size=(20, 3, 5))
    moments = Moments()
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        moments.add(rows[end - size : end])
    assert moments.count == 20
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-13)
    np.testing.assert_allclose(moments.variance(), rows.var(0, ddof=1), rtol=1e-10)


def test_scores_are_the_diagonal_formula(fitted: PadimDiagonal) -> None:
    train, test = (embedding(given, fitted.channels) for given in (features(21), features(5, seed=9)))
    expected = np.sqrt(((test - train.mean(0)) ** 2 / (train.var(0, ddof=1) + 0.01)).sum(-1))
    found = fitted.predict(features(5, seed=9), HOW)
    np.testing.assert_allclose(found.maps.reshape(5, -1), expected, rtol=1e-5)
    np.testing.assert_allclose(found.scores, found.full_maps().max((1, 2)), rtol=1e-6)


def test_channels_are_padims(fitted: PadimDiagonal) -> None:
    assert fitted.channels.tolist() == np.random.default_rng(1).permutation(24)[:15].tolist()


def test_a_channel_that_never_varies_is_bounded_by_the_regularisation() -> None:
    given = features(4)
    for arrays, _ in given.rows:
        for array in arrays.values():
            array[:] = 3
    model = PadimDiagonal(FIT)
    model.fit(given, np.random.default_rng(1))
    assert model.predict(given, HOW).scores.max() == 0
    for arrays, _ in given.rows[:1]:
        arrays[1][0, 5, 5] = 4  # by ten standard deviations of 0.1 in each drawn channel of level 1
    count = (model.channels < 6).sum()
    np.testing.assert_allclose(model.predict(given, HOW).maps[0].max(), 10 * np.sqrt(count), rtol=1e-5)


def test_few_channels_may_leave_a_layer_out(tmp_path: Path) -> None:
    model = PadimDiagonal(Fit(layers=(1, 2, 3), n_features=1, regularisation=0.01))
    model.fit(features(4), np.random.default_rng(1))
    model.save(tmp_path / "model")
    ours = PadimDiagonal.load(tmp_path / "model").predict(features(3, seed=9), HOW)
    np.testing.assert_array_equal(ours.scores, model.predict(features(3, seed=9), HOW).scores)


def test_a_saved_model_predicts_the_same(tmp_path: Path, fitted: PadimDiagonal) -> None:
    fitted.save(tmp_path / "model")
    found = PadimDiagonal.load(tmp_path / "model").predict(features(5, seed=9), HOW)
    np.testing.assert_array_equal(found.maps, fitted.predict(features(5, seed=9), HOW).maps)


def test_the_number_of_threads_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("ADSHIFT_THREADS", threads)
        model = PadimDiagonal(FIT)
        model.fit(features(21), np.random.default_rng(1))
        model.save(tmp_path / threads)
        scores = model.predict(features(20, seed=9), HOW)
        found.append(((tmp_path / threads / "model.safetensors").read_bytes(), scores.maps.tobytes()))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("layers", "channels", "images", "words"),
    [
        ((1,), 7, 4, r"padim_diagonal\.n_features: 7 of 6"),
        ((1,), 4, 1, "at least 2"),
        ((1, 4), 4, 4, "level 4 of the features, which have 3"),
    ],
)
def test_what_is_refused(layers: tuple[int, ...], channels: int, images: int, words: str) -> None:
    model = PadimDiagonal(Fit(layers=layers, n_features=channels, regularisation=0.01))
    with pytest.raises(AdshiftError, match=words):
        model.fit(features(images), np.random.default_rng(1))
