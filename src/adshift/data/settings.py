"""Sections of params.yaml about data: the data set, its split, the shifted domain."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from adshift.data.registry import DATASETS
from adshift.runtime.settings import Count, Factor, Fraction, Number, Probability, Range, Section, Several


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd")
    return value


def _one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    if groups != 1:
        raise ValueError(f"{pattern!r} has {groups} groups, expected one, in parentheses")
    return pattern


def _column_or_group(text: str) -> str:
    """A column of the data set's list, or a pattern, which has parentheses."""
    return _one_group(text) if "(" in text or not text.strip() else text


Place = Annotated[str, Field(min_length=1)]


class Folder(Section):
    """Folders of the data set `folder`, relative to the root, or to each class's folder if there is no `class_name`."""

    class_name: Annotated[str, Field(min_length=1, max_length=100)] | None
    normal: Several(Place, 100)  # type: ignore[valid-type]
    defective: Annotated[tuple[Place, ...], Field(min_length=0, max_length=100)]
    masks: Place | None


NO_FOLDER = Folder(class_name=None, normal=(".",), defective=(), masks=None)


class Dataset(Section):
    name: Literal[tuple(DATASETS)]  # type: ignore[valid-type]
    root: Place
    bits: Literal["auto"] | Annotated[int, Field(ge=8, le=16)]
    folder: Folder


class Split(Section):
    protocol: Literal["study", "official"]
    train_fraction: Annotated[Number, Field(gt=0, lt=1)]
    val_defect_fraction: Annotated[Number, Field(gt=0, lt=1)]
    group: Annotated[str, AfterValidator(_column_or_group)] | None
    order: Annotated[str, Field(min_length=1)]
    max_train: Annotated[Count, Field(le=1_000_000)] | None
    contamination: Annotated[Number, Field(ge=0, lt=1)]


class Geometry(Section):
    kind: Literal["affine", "resized_crop", "none"]
    rotation: Range(Annotated[Number, Field(ge=-180, le=180)])  # type: ignore[valid-type]  # degrees
    scale: Range(Factor)  # type: ignore[valid-type]
    translation: Annotated[Number, Field(ge=0, lt=1)]
    crop_area: Range(Annotated[Number, Field(ge=0.01, le=1)])  # type: ignore[valid-type]
    crop_aspect: Range(Factor)  # type: ignore[valid-type]


class Color(Section):
    enabled: bool
    brightness: Range(Factor)  # type: ignore[valid-type]
    contrast: Range(Factor)  # type: ignore[valid-type]
    saturation: Range(Factor)  # type: ignore[valid-type]


class Blur(Section):
    enabled: bool
    probability: Probability
    kernels: Several(Annotated[int, Field(ge=3, le=99), AfterValidator(_odd)])  # type: ignore[valid-type]
    sigma: Range(Annotated[Number, Field(ge=0.01, le=100)])  # type: ignore[valid-type]


class Noise(Section):
    enabled: bool
    probability: Probability
    sigma: Range(Fraction)  # type: ignore[valid-type]


class Illumination(Section):
    enabled: bool
    probability: Probability
    kinds: Several(Literal["linear", "radial"])  # type: ignore[valid-type]
    strength: Range(Fraction)  # type: ignore[valid-type]
    smoothing: Annotated[Number, Field(ge=0, le=1000)]


class Recorded(Section):
    column: Place | None
    pattern: Annotated[str, AfterValidator(_one_group)]
    shifted: Several(str, 1000)  # type: ignore[valid-type]


class Families(Section):
    """The families of synthetic drift and their ranges."""

    border: Literal["reflect", "edge", "wrap", "constant"]
    geometry: Geometry
    color: Color
    blur: Blur
    noise: Noise
    illumination: Illumination


class Shift(Families):
    kind: Literal["none", "synthetic", "recorded"]
    resolution: Literal["input", "image"]
    recorded: Recorded


class Harden(Families):
    """Copies of normal images under drifts of their own, for a fit that is to survive drift.

    Attributes:
        copies: of each normal training and validation image.
    """

    copies: Annotated[int, Field(ge=0, le=100)]


class Normalise(Section):
    """What of an image's intensities is brought to that of the training images, see `data.normalising`."""

    kind: Literal["moments", "histogram"]


class Shifting(Shift):
    """The section as the stage `shift` reads it.

    Attributes:
        input: height and width of the network's input in pixels, to which images are shrunk first, or None.
    """

    input: tuple[Count, Count] | None
