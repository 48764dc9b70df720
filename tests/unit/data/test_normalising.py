"""Intensities brought to those of the training images."""

import json

import numpy as np
import pytest
from skimage import data as scenes

from adshift.data.normalising import LEVELS, Reference, moments, of_spec

COIN = np.repeat(scenes.coins()[:300, :300, None], 3, axis=2)
CAT = scenes.chelsea()[:300, :300]


def test_moments_by_hand() -> None:
    """Of 20 values 0 to 19, those from the 10th to the 90th percentile are 1 to 17."""
    channel = np.arange(20, dtype=np.uint8).reshape(4, 5)
    mean, std = moments(np.stack([channel, channel + 100, 3 * channel], axis=2))
    kept = np.arange(1, 18)
    np.testing.assert_allclose(mean, [9, 109, 27])
    np.testing.assert_allclose(std, [kept.std(), kept.std(), 3 * kept.std()])


@pytest.mark.parametrize("kind", ["moments", "histogram"])
@pytest.mark.parametrize("image", [COIN, CAT], ids=["coins", "cat"])
def test_the_only_training_image_stays_as_it_is(kind: str, image: np.ndarray) -> None:
    """Quantiles are interpolated, and the extreme ones cut the tails."""
    same = Reference.fit([image], kind)(image)
    error = np.abs(same.astype(int) - image)
    assert error.max() == 0 if kind == "moments" else np.percentile(error, 99) <= 2


@pytest.mark.parametrize("kind", ["moments", "histogram"])
@pytest.mark.parametrize("gain", [0.5, 0.8])
def test_a_darker_image_becomes_the_brighter_one(kind: str, gain: float) -> None:
    dark = np.rint(CAT * gain).astype(np.uint8)
    found = Reference.fit([CAT], kind)(dark)
    assert np.abs(found.astype(int) - CAT).mean() < 2 < np.abs(dark.astype(int) - CAT).mean()


def test_a_defect_that_fills_a_tenth_hardly_moves_the_rest() -> None:
    defect = CAT.copy()
    defect[:30] = 255  # a tenth of the rows
    rest = slice(40, None)
    moved = np.abs(Reference.fit([CAT], "moments")(defect)[rest].astype(int) - CAT[rest]).mean()
    plain = defect.mean((0, 1)) - CAT.mean((0, 1))
    assert moved < 8 < plain.min()


def test_the_contrast_is_changed_by_a_factor_of_four_at_most() -> None:
    reference = Reference(kind="moments", mean=(100, 100, 100), std=(50, 50, 50))
    step = np.full((10, 10, 3), 100, np.uint8)
    step[:5] += 1
    assert np.ptp(reference(step)) == 4
    flat = np.full((10, 10, 3), 30, np.uint8)
    assert (reference(flat) == 100).all()


def test_the_reference_is_the_mean_over_images() -> None:
    dark, bright = (np.full((4, 4, 3), value, np.uint8) for value in (20, 80))
    dark[0], bright[0] = 22, 82
    reference = Reference.fit([dark, bright], "moments")
    np.testing.assert_allclose(reference.mean, (moments(dark)[0] + moments(bright)[0]) / 2, atol=1e-4)
    quantiles = Reference.fit([dark, bright], "histogram").quantiles
    assert np.array(quantiles).shape == (3, LEVELS)
    np.testing.assert_allclose(np.array(quantiles)[0, [0, -1]], [50, 52])


@pytest.mark.parametrize("kind", ["moments", "histogram"])
def test_it_survives_json(kind: str) -> None:
    reference = Reference.fit([CAT, COIN], kind)
    again = of_spec(json.loads(json.dumps({"normalise": reference.to_dict()})))
    assert again == reference
    assert of_spec({"resize": 224}) is None


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "moments", "mean": [1, 2, 3]},
        {"kind": "moments", "mean": [1, 2, 3], "std": [1, 2, 300]},
        {"kind": "moments", "mean": [1, 2, 3], "std": [1, 2, float("nan")]},
        {"kind": "histogram", "mean": [1, 2, 3], "std": [1, 2, 3]},
        {"kind": "histogram", "quantiles": [[0.0] * 256] * 2},
        {"kind": "histogram", "quantiles": [[0.0] * 255] * 3},
        {"kind": "other", "mean": [1, 2, 3], "std": [1, 2, 3]},
    ],
)
def test_a_damaged_reference_is_refused(values: dict) -> None:
    with pytest.raises(ValueError):
        of_spec({"normalise": values})
