"""Models adapted with further normal images: moments that merge, banks that grow."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import banks
import gaussians
from adshift.detectors import padim, padim_diagonal, padim_streaming, patchcore
from adshift.detectors.base import Detector
from adshift.errors import AdshiftError

LAYERS = {"layers": (1, 2, 3), "n_features": 15}
FAMILY = {
    "padim": (padim.Padim, padim.Fit(**LAYERS), padim.Score(smoothing=2.0)),
    "padim_streaming": (
        padim_streaming.PadimStreaming,
        padim_streaming.Fit(**LAYERS, regularisation=0.05),
        padim_streaming.Score(smoothing=2.0),
    ),
    "padim_diagonal": (
        padim_diagonal.PadimDiagonal,
        padim_diagonal.Fit(**LAYERS, regularisation=0.05),
        padim_diagonal.Score(smoothing=2.0),
    ),
}


def gaussians_of(method: str, count: int, seed: int = 0) -> Detector:
    kind, fit, _ = FAMILY[method]
    model = kind(fit)
    model.fit(gaussians.features(count, seed=seed), np.random.default_rng(1))
    return model


@pytest.mark.parametrize("method", FAMILY)
def test_merged_gaussians_are_those_of_the_union(method: str) -> None:
    kind, fit, scoring = FAMILY[method]
    first, second = gaussians.features(21), gaussians.features(9, seed=5)
    union = kind(fit)
    union.fit(first + second, np.random.default_rng(1))
    before = gaussians_of(method, 21)
    adapted = before.adapted(second)
    assert (adapted.images, before.images) == (30, 21)
    later = gaussians.features(6, seed=9)
    expected, found, old = (one.predict(later, scoring).scores for one in (union, adapted, before))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.abs(old / expected - 1).max() > 1e-2


@pytest.mark.parametrize("method", FAMILY)
def test_adapted_gaussians_are_written_and_read(method: str, tmp_path: Path) -> None:
    kind, _, scoring = FAMILY[method]
    adapted = gaussians_of(method, 21).adapted(gaussians.features(4, seed=5))
    adapted.save(tmp_path)
    again, later = kind.load(tmp_path), gaussians.features(3, seed=9)
    assert again.images == 25
    assert (again.predict(later, scoring).scores == adapted.predict(later, scoring).scores).all()


@pytest.mark.parametrize("method", FAMILY)
def test_a_model_of_an_earlier_version_scores_and_cannot_be_adapted(method: str, tmp_path: Path) -> None:
    kind, _, scoring = FAMILY[method]
    model = gaussians_of(method, 21)
    scores = model.predict(gaussians.features(3, seed=9), scoring).scores
    model.images = 0  # which leaves it out of the arrays, as earlier versions did
    assert "images" not in model.to_arrays()
    model.save(tmp_path)
    old = kind.load(tmp_path)
    assert (old.predict(gaussians.features(3, seed=9), scoring).scores == scores).all()
    with pytest.raises(AdshiftError, match="earlier version"):
        old.adapted(gaussians.features(3))


@pytest.mark.parametrize("images", [np.array(-1), np.array(1.5), np.array([3]), np.array(10**12)])
def test_an_absurd_number_of_images_is_refused(images: np.ndarray, tmp_path: Path) -> None:
    from adshift.detectors import storage

    model = gaussians_of("padim_diagonal", 21)
    arrays: dict[str, Any] = {**model.to_arrays(), "images": images}
    storage.save(tmp_path, model.name, dict(model.settings), model.spec, arrays)
    with pytest.raises(AdshiftError, match="images is no number"):
        padim_diagonal.PadimDiagonal.load(tmp_path)


SCORE = patchcore.Score(
    neighbours=3, reweight="none", image_score="max", top_percent=5.0, smoothing=4.0, search_width=16
)


def bank_of(count: int = 12, **settings: Any) -> patchcore.PatchCore:
    model = patchcore.PatchCore(patchcore.Fit(**{**banks.FIT, **settings}))
    model.fit(banks.features(count), np.random.default_rng(0))
    return model


@pytest.mark.parametrize("settings", [{}, {"projection": None}, {"index": "hnsw"}])
def test_a_bank_does_not_grow_by_its_own_training_images(settings: dict[str, Any]) -> None:
    model = bank_of(**settings)
    adapted = model.adapted(banks.features(12))
    assert adapted.bank.tobytes() == model.bank.tobytes()
    images = banks.features(4, 3)
    np.testing.assert_array_equal(adapted.predict(images, SCORE).scores, model.predict(images, SCORE).scores)


@pytest.mark.parametrize("settings", [{}, {"projection": None}, {"index": "hnsw"}])
def test_a_bank_grows_until_it_covers_new_images(settings: dict[str, Any], tmp_path: Path) -> None:
    model, new = bank_of(**settings), banks.features(3, 7)
    for arrays, _ in new.rows[:1]:
        for array in arrays.values():
            array[:] = array + 3
    before = model.predict(new, SCORE).scores
    adapted = model.adapted(new)
    assert len(adapted.bank) > len(model.bank)
    assert (adapted.bank[: len(model.bank)] == model.bank).all()
    assert (adapted.predict(new, SCORE).scores < before / 2).all()
    assert adapted.total == model.total + 3 * 64
    adapted.save(tmp_path)
    again = patchcore.PatchCore.load(tmp_path)
    assert (again.predict(new, SCORE).scores == adapted.predict(new, SCORE).scores).all()
    few = model.adapted(new, rows=2)
    assert len(few.bank) == len(model.bank) + 2
    assert (few.bank == adapted.bank[: len(few.bank)]).all()


def test_hardened_banks_keep_their_number_of_rows() -> None:
    settings = patchcore.Fit(**banks.FIT)
    assert patchcore.PatchCore.hardened(settings, 0) is settings
    hardened = patchcore.PatchCore.hardened(settings, 2)
    model, many = patchcore.PatchCore(settings), patchcore.PatchCore(hardened)
    model.fit(banks.features(4), np.random.default_rng(0))
    many.fit(banks.features(4) + banks.features(8, 2), np.random.default_rng(0))
    assert len(many.bank) == len(model.bank)


def test_a_trained_method_cannot_be_adapted() -> None:
    from adshift.detectors.registry import REGISTRY, detector_class

    adaptable = {name for name in REGISTRY if detector_class(name).adaptable}
    assert adaptable == {"patchcore", "padim", "padim_streaming", "padim_diagonal"}
    with pytest.raises(AdshiftError, match="STFPM cannot be adapted"):
        Detector.adapted(detector_class("stfpm"), banks.features(1))
