"""The section `features` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from adshift.runtime.settings import Batch, Number, Section, Several

Mean = Annotated[Number, Field(ge=-10, le=10)]  # of images in [0, 1]
Side = Annotated[int, Field(ge=32, le=2048)]
Size = Side | tuple[Side, Side]  # in pixels: the side of a square, or height and width
Deviation = Annotated[Number, Field(ge=0.001, le=10)]


class Features(Section):
    backbone: Annotated[str, Field(min_length=1)]
    weights: str | None
    layers: Several(str, 16) | None  # type: ignore[valid-type]
    resize: Size
    fit: Literal["squeeze", "pad", "tile"]
    crop: Size | None
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Deviation, Deviation, Deviation]
    precision: Literal["float32", "bfloat16", "float16"]
    dtype: Literal["float16", "float32"]
    images: bool
    batch: Batch


class Declared(Features):
    """The section as params.yaml has it.

    Attributes:
        store: `all` layers, so that no parameter of a method runs the network, or those that are `needed` by a method.
    """

    store: Literal["all", "needed"]


class Stored(Features):
    """The section as the stage `check` writes it.

    Attributes:
        levels: of the layers that are stored, counted from 1; None for all.
    """

    levels: Several(Annotated[int, Field(ge=1, le=16)], 16) | None  # type: ignore[valid-type]
