"""The section `report` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from adshift.runtime.settings import Count, Number, Section


class Report(Section):
    rows: Annotated[Count, Field(le=100)]
    pictures: Annotated[Count, Field(le=100_000)]
    required: Annotated[Number, Field(gt=0, lt=1)]
    colours: Literal["cubehelix", "jet"]
    scale: Literal["class", "image"]
