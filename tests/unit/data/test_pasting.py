"""Pasted defects: the size, contrast and content that their records say, the same from the same record."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from adshift.data.pasting import AREAS, BULGE, CELLS, CONTRASTS, PHOTOGRAPHS, Patch, draw, paste


def photographs() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in ((200, 200), (90, 260), (41, 33))]


PATCHES = [draw(area, contrast, 0, str(turn)) for area, contrast in CELLS for turn in range(6)]


@pytest.mark.parametrize("image", photographs(), ids=lambda image: "x".join(map(str, image.shape[:2])))
def test_a_patch_changes_its_blob_alone(image) -> None:
    before = image.copy()
    for patch in PATCHES:
        pasted, mask = paste(image, patch)
        assert pasted.dtype == np.uint8 and pasted.shape == image.shape and mask.shape == image.shape[:2]
        changed = (pasted != image).any(-1)
        grown = np.pad(mask, 1)
        near = np.logical_or.reduce([np.roll(grown, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)])[
            1:-1, 1:-1
        ]
        assert mask.any() and not (changed & ~near).any()
        assert (image == before).all()


def test_the_area_is_that_of_the_record() -> None:
    image = np.full((400, 400, 3), 128, np.uint8)
    for area in AREAS:
        ratios = []
        for turn in range(40):
            patch = draw(area, 1.0, 1, str(turn)).model_copy(update={"center": (0.5, 0.5)})
            ratios.append(paste(image, patch)[1].mean() / area)
        assert np.all(np.abs(np.array(ratios) - 1) <= 2 * BULGE**2 + 0.06), (area, ratios)
    assert paste(image[:20, :20], draw(AREAS[0], 1.0, 1))[1].any()  # less than a pixel is still a pixel


def test_contrast_mixes() -> None:
    image = photographs()[0]
    for source in ("image", *PHOTOGRAPHS):
        patch = next(one for turn in range(99) if (one := draw(0.05, 1.0, 2, str(turn))).source == source)
        whole, mask = paste(image, patch)
        inside = np.abs(paste(image, patch.model_copy(update={"area": 0.04}))[1]) & mask
        half = paste(image, patch.model_copy(update={"contrast": 0.5}))[0]
        middle = (whole.astype(float) + image) / 2
        sharp = inside & (np.minimum(whole, 255 - whole) > 0).all(-1)  # unclipped
        assert np.abs(half[sharp] - middle[sharp]).max() <= 1
    flat = np.full((100, 100, 3), 100, np.uint8)
    untinted = next(one for turn in range(99) if (one := draw(0.05, 1.0, 2, str(turn))).source == "image")
    assert (paste(flat, untinted.model_copy(update={"tint": (1.0, 1.0, 1.0)}))[0] == flat).all()


def test_a_record_pastes_the_same_again_at_any_resolution() -> None:
    image = photographs()[0]
    for patch in PATCHES:
        again = Patch.model_validate_json(json.dumps(patch.model_dump(mode="json")))
        assert again == patch
        assert (paste(image, again)[0] == paste(image, patch)[0]).all()
        small, large = (paste(np.zeros((side, side, 3), np.uint8), patch)[1] for side in (100, 400))
        if patch.area >= 0.01:
            assert np.abs(large.reshape(100, 4, 100, 4).mean((1, 3)) - small).mean() < 0.3 * patch.area + 0.002


def test_patches_depend_on_seed_and_names_alone() -> None:
    assert draw(0.01, 0.5, 0, "a") == draw(0.01, 0.5, 0, "a")
    others = [draw(0.01, 0.5, 0, "b"), draw(0.01, 0.5, 1, "a"), draw(0.01, 0.5, 0, "a", "0")]
    assert all(other != draw(0.01, 0.5, 0, "a") for other in others)
    sources = {draw(0.01, 0.5, 0, str(turn)).source for turn in range(200)}
    assert sources == {"image", *PHOTOGRAPHS}
    assert {(patch.area, patch.contrast) for patch in PATCHES} == {(a, c) for a in AREAS for c in CONTRASTS}


@pytest.mark.parametrize(
    "change", [{"area": 1.5}, {"contrast": -0.1}, {"source": "camera"}, {"aspect": 0.5}, {"waves": []}, {"more": 1}]
)
def test_a_damaged_record_is_refused(change) -> None:
    with pytest.raises(ValidationError):
        Patch.model_validate_json(json.dumps(PATCHES[0].model_dump(mode="json") | change))
