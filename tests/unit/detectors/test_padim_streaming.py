"""PaDiM's full covariance in one pass against NumPy's covariance and against the detector `padim`."""

from pathlib import Path

import numpy as np
import pytest

from adshift.detectors import padim, padim_streaming
from adshift.detectors.components.comoments import Comoments
from adshift.detectors.padim_streaming import Fit, PadimStreaming, Score
from adshift.errors import AdshiftError
from adshift.features.store import Features
from gaussians import embedding, features

FIT, HOW = Fit(layers=(1, 2, 3), n_features=15, regularisation=0.01), Score(smoothing=2.0)
IMAGES = 71  # two full batches and a part of one


def fit(given: Features, settings: Fit = FIT) -> PadimStreaming:
    model = PadimStreaming(settings)
    model.fit(given, np.random.default_rng(1))
    return model


@pytest.fixture(scope="module")
def fitted() -> PadimStreaming:
    return fit(features(IMAGES))


@pytest.mark.parametrize("sizes", [(20,), (8, 8, 4), (1,) * 20, (19, 1)])
def test_merged_covariances_are_numpys(sizes: tuple[int, ...]) -> None:
    rows = 1e3 + np.random.default_rng(0).normal(size=(70, 20, 5)) @ np.random.default_rng(1).normal(size=(5, 5))
    found = Comoments(70, 5)  # more than a tile
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        found.add(rows[:, end - size : end])
    assert found.count == 20
    np.testing.assert_allclose(found.mean, rows.mean(1), rtol=1e-13)
    expected = np.stack([np.cov(position, rowvar=False) for position in rows])
    np.testing.assert_allclose(found.covariance(), expected, rtol=1e-6, atol=1e-9)


def test_the_model_is_the_formula_in_float64(fitted: PadimStreaming) -> None:
    train = embedding(features(IMAGES), fitted.channels)
    np.testing.assert_allclose(fitted.mean, train.mean(0), rtol=1e-6)
    for position in (0, 63, 64, 143):
        covariance = np.cov(train[:, position], rowvar=False) + 0.01 * np.eye(15)
        np.testing.assert_allclose(fitted.inverse_covariance[position] @ covariance, np.eye(15), atol=1e-3)
        expected = np.linalg.inv(covariance)
        np.testing.assert_allclose(fitted.inverse_covariance[position], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("regularisation", "tolerance"), [(0.01001, 1e-4), (0.01, 1e-3)])
def test_scores_are_padims(regularisation: float, tolerance: float) -> None:
    """anomalib adds another 1e-5 to the diagonal, a thousandth of 0.01."""
    given, test = features(30), features(5, seed=9)
    given, test = (Features(g.names, {**g.spec, "backbone": "resnet18"}, g.rows) for g in (given, test))
    theirs = fit_padim(given)
    ours = fit(given, FIT.model_copy(update={"regularisation": regularisation}))
    assert ours.channels.tolist() == theirs.channels.tolist()
    found, expected = (model.predict(test, HOW) for model in (ours, theirs))
    np.testing.assert_allclose(found.maps, expected.maps, rtol=tolerance)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=tolerance)


def fit_padim(given: Features) -> padim.Padim:
    """PaDiM by anomalib, whose model looks up its network's layers by name alone."""
    model = padim.Padim(padim.Fit(layers=(1, 2, 3), n_features=15))
    model.fit(given, np.random.default_rng(1))
    return model


def test_blocks_of_positions_change_nothing(fitted: PadimStreaming, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padim_streaming, "LIMIT", 8 * 15**2 * 50)  # 50 positions: blocks of 50, 50 and 44
    again = fit(features(IMAGES))
    np.testing.assert_array_equal(again.mean, fitted.mean)
    np.testing.assert_allclose(again.inverse_covariance, fitted.inverse_covariance, rtol=1e-6, atol=1e-9)


def test_a_saved_model_predicts_the_same(tmp_path: Path, fitted: PadimStreaming) -> None:
    fitted.save(tmp_path / "model")
    found = PadimStreaming.load(tmp_path / "model").predict(features(5, seed=9), HOW)
    np.testing.assert_array_equal(found.maps, fitted.predict(features(5, seed=9), HOW).maps)


def test_the_number_of_threads_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for threads in ("1", "2"):
        monkeypatch.setenv("ADSHIFT_THREADS", threads)
        fit(features(IMAGES)).save(tmp_path / threads)
    one, two = ((tmp_path / threads / "model.safetensors").read_bytes() for threads in ("1", "2"))
    assert one == two


@pytest.mark.parametrize(
    ("layers", "channels", "images", "words"),
    [
        ((1,), 7, 4, r"padim_streaming\.n_features: 7 of 6"),
        ((1,), 4, 1, "at least 2"),
        ((1, 4), 4, 4, "level 4 of the features, which have 3"),
    ],
)
def test_what_is_refused(layers: tuple[int, ...], channels: int, images: int, words: str) -> None:
    with pytest.raises(AdshiftError, match=words):
        fit(features(images), Fit(layers=layers, n_features=channels, regularisation=0.01))
