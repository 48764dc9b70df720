"""Sections of params.yaml about thresholds, metrics and the coreset ablation."""

from typing import Annotated, Literal

from pydantic import Field

from adshift.runtime.settings import Count, Fraction, Number, Section, Several

PASTED = "pasted"  # the rule that needs the stage `paste`


class Calibrate(Section):
    rule: Literal["auto", "f1_grid", "f1_exact", "target_fpr", "pasted"]
    min_normal: Annotated[Count, Field(le=1_000_000)]
    min_defective: Annotated[Count, Field(le=1_000_000)]
    steps: Annotated[int, Field(ge=2, le=1_000_000)]
    target_fpr: Annotated[Number, Field(ge=0, lt=1)]


class Align(Section):
    """Whether each image is aligned by its own statistics, or all images of a batch by their mean statistics."""

    per: Literal["image", "batch"]


class Adapt(Section):
    """How much a model is adapted.

    Attributes:
        images: normal training images of the shifted domain, drawn at random.
        rows: largest number of rows that a memory bank gains; None for as many as it needs.
    """

    images: Annotated[Count, Field(le=1_000_000)]
    rows: Annotated[Count, Field(le=100_000_000)] | None


class Evaluate(Section):
    pro_limit: Fraction
    bootstrap: Annotated[int, Field(ge=100, le=100_000)]
    masks: Literal["input", "image"]


class Ablation(Section):
    ratios: Several(Fraction, least=0)  # type: ignore[valid-type]
