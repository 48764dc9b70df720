"""The section `features` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from adshift.runtime.settings import Batch, Number, Section, Several

# What a network of timm may be built with, beside its name. Others could load files or run code.
OPTIONS = ("pad_type", "act_layer", "bn_eps", "output_stride", "avg_down", "reg_tokens", "no_embed_class", "token_norm")
OptionName = Annotated[str, Field(pattern=f"^({'|'.join(OPTIONS)})$")]
Option = (
    bool
    | Annotated[int, Field(ge=0, le=64)]
    | Annotated[float, Field(ge=0, le=1)]
    | Annotated[str, Field(max_length=20)]
)
Options = dict[OptionName, Option]

Mean = Annotated[Number, Field(ge=-10, le=10)]  # of images in [0, 1]
Side = Annotated[int, Field(ge=32, le=2048)]
Size = Side | tuple[Side, Side]  # in pixels: the side of a square, or height and width
Deviation = Annotated[Number, Field(ge=0.001, le=10)]


class Features(Section):
    """The frozen network, its weights, and how images become its input.

    Attributes:
        options: arguments of timm's network, such as `pad_type: same` for weights that were trained with TensorFlow's
            padding.
        tiles: side of the tiles of `fit: tile` in pixels; the shorter side of the input if not given. Small tiles keep
            the memory of a large input low, and show the network defects at full resolution.
    """

    backbone: Annotated[str, Field(min_length=1)]
    weights: str | None
    options: Options
    layers: Several(str, 16) | None  # type: ignore[valid-type]
    resize: Size
    fit: Literal["squeeze", "pad", "tile"]
    tiles: Side | None
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
