"""Synthetic defects: patches pasted onto normal images, for whoever has no defective image.

A patch comes from another part of the same image, turned and with its color changed (CutPaste, Li et al. 2021), or from
a texture photograph that scikit-image ships (DRAEM, Zavrtanik et al. 2021). It has the outline of a blob, soft by one
pixel, and is mixed with the image: x' = (1 - c) x + c p inside the blob, with the contrast c. A patch may be invisible
where an image looks alike everywhere; many real defects are not like such patches either. So these defects measure
where a detector is blind to changes of this kind, no more.

All numbers of a patch are in its record, relative to the image's sides, so that the same record pastes the same defect
at any resolution.

Notation: H x W pixels of the image; N normal images, P pasted ones.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from adshift.data.datasets.drawing import photograph
from adshift.runtime import seeding
from adshift.runtime.settings import Number, Probability, Section

STREAM = "paste"  # first name of the random generators
AREAS = 0.002, 0.01, 0.05  # share of the image's area
CONTRASTS = 0.25, 0.5, 1.0
COPIES = 90  # pasted images at least, ten for each size and contrast
CELLS = tuple((area, contrast) for area in AREAS for contrast in CONTRASTS)
PHOTOGRAPHS = "brick", "grass", "gravel"
LOBES = 2, 3, 5  # waves along a blob's outline
BULGE = 0.25  # largest total depth of the waves, as a share of the radius
TINT = 0.3  # color channels of a patch from the image are scaled by 1 - TINT to 1 + TINT

Source = Literal["image", "brick", "grass", "gravel"]
Angle = Annotated[Number, Field(ge=0, le=2 * np.pi)]
Wave = tuple[Number, Angle]


class Patch(Section):
    """A patch to be pasted.

    Attributes:
        area: of the blob, as a share of the image's, before it is cut off at the image's edges.
        contrast: c.
        source: `image`, or the photograph that it is cut from.
        center: of the blob (y, x), as shares of height and width.
        origin: of the patch's center in its source (y, x), as shares of its height and width.
        aspect: ratio of the blob's axes.
        angle: of the blob's long axis and of the patch, in radians.
        waves: depth and phase of the outline's waves, one for each of `LOBES`.
        tint: factors of the channels R, G, B; of a photograph, the mean color of the patch as a share of white.
    """

    area: Probability
    contrast: Probability
    source: Source
    center: tuple[Probability, Probability]
    origin: tuple[Probability, Probability]
    aspect: Annotated[Number, Field(ge=1, le=10)]
    angle: Angle
    waves: tuple[Wave, Wave, Wave]
    tint: tuple[Number, Number, Number]


def draw(area: float, contrast: float, seed: int, *names: str) -> Patch:
    """A patch of this area and contrast; everything else is random and depends on `seed` and `names` alone."""
    rng = seeding.generator(seed, STREAM, *names)
    source = "image" if rng.random() < 0.5 else str(rng.choice(PHOTOGRAPHS))
    tint = rng.uniform(1 - TINT, 1 + TINT, 3) if source == "image" else rng.uniform(0.1, 0.9, 3)
    depths = rng.dirichlet(np.ones(len(LOBES))) * rng.uniform(0, BULGE)
    values = {
        "area": area, "contrast": contrast, "source": source,
        "center": rng.uniform(0.15, 0.85, 2), "origin": rng.uniform(0, 1, 2),
        "aspect": 2 ** rng.uniform(0, 2), "angle": rng.uniform(0, 2 * np.pi),
        "waves": np.stack([depths, rng.uniform(0, 2 * np.pi, len(LOBES))], axis=1), "tint": tint,
    }  # fmt: skip
    return Patch.model_validate_json(json.dumps(values, default=np.ndarray.tolist))


@dataclass(frozen=True)
class Pasted:
    """Patches for N normal images.

    Attributes:
        patches: P records.
        owners: (P,) index of the normal image that a pasted one is made of, ascending.
    """

    patches: tuple[Patch, ...]
    owners: np.ndarray

    @classmethod
    def of(cls, names: Sequence[str], seed: int) -> "Pasted":
        """Patches for images of these names: equally many of each size and contrast, and equally many on each image.

        A patch depends on the image's name and the seed alone.
        """
        each = ceil(COPIES / len(names))
        pairs = [(index, turn) for index in range(len(names)) for turn in range(each)]
        patches = [
            draw(*CELLS[number % len(CELLS)], seed, names[index], str(turn))
            for number, (index, turn) in enumerate(pairs)
        ]
        return cls(tuple(patches), np.array([index for index, _ in pairs]))


def paste(image: np.ndarray, patch: Patch) -> tuple[np.ndarray, np.ndarray]:
    """The image with the patch, and its mask.

    Args:
        image: (H, W, 3) uint8.
        patch: what to paste.

    Returns:
        (H, W, 3) uint8, and (H, W) bool: pixels of which at least half belongs to the blob.
    """
    height, width = image.shape[:2]
    radius = np.sqrt(patch.area * height * width / np.pi)
    reach = radius * np.sqrt(patch.aspect) * (1 + BULGE) + 2
    cy, cx = patch.center[0] * height, patch.center[1] * width
    rows = np.arange(max(0, int(cy - reach)), min(height, int(cy + reach) + 1))
    columns = np.arange(max(0, int(cx - reach)), min(width, int(cx + reach) + 1))
    y, x = rows[:, None] + 0.5 - cy, columns[None, :] + 0.5 - cx
    cos, sin = np.cos(patch.angle), np.sin(patch.angle)
    along, across = cos * x + sin * y, cos * y - sin * x
    cover = _blob(along, across, radius, patch)[..., None]
    part = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    mixed = part + patch.contrast * cover * (_content(image, along, across, patch) - part)
    pasted, mask = image.copy(), np.zeros((height, width), bool)
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    pasted[window] = np.rint(mixed.clip(0, 255)).astype(np.uint8)
    mask[window] = cover[..., 0] >= 0.5
    return pasted, mask


def _blob(along: np.ndarray, across: np.ndarray, radius: float, patch: Patch) -> np.ndarray:
    """Share of each pixel that the blob covers, on [0, 1]; at least the center's pixel is covered."""
    stretch = np.sqrt(patch.aspect)
    u, v = along / stretch, across * stretch
    angle = np.arctan2(v, u)
    outline = radius * (1 + sum(d * np.cos(n * angle + p) for n, (d, p) in zip(LOBES, patch.waves, strict=True)))
    cover: np.ndarray = np.clip(outline - np.hypot(u, v) + 0.5, 0, 1)
    return np.where(np.hypot(along, across) <= np.sqrt(0.5), 1.0, cover)


def _content(image: np.ndarray, along: np.ndarray, across: np.ndarray, patch: Patch) -> np.ndarray:
    """What the patch shows, (h, w, 3): read from its source in the blob's own frame, mirrored at the source's edges."""
    from scipy.ndimage import map_coordinates

    tint = np.asarray(patch.tint)
    if patch.source == "image":
        y, x = (origin * side for origin, side in zip(patch.origin, image.shape[:2], strict=True))
        spots = [across + y, along + x]
        channels = [map_coordinates(image[..., c].astype(np.float32), spots, order=1, mode="mirror") for c in range(3)]
        return np.stack(channels, axis=-1) * tint
    picture = photograph(patch.source)
    y, x = (origin * side for origin, side in zip(patch.origin, picture.shape, strict=True))
    grey = map_coordinates(picture, [across + y, along + x], order=1, mode="mirror")
    return 255 * tint * (1 + 0.3 * grey[..., None])
