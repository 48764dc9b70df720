"""Types of the sections of params.yaml: strict and bounded, without silent conversions."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from adshift.errors import AdshiftError, in_line
from adshift.runtime.checksums import REMEDY
from adshift.runtime.files import read_json


def _float(value: object) -> object:
    """Accept YAML's 1 as a float; true, "1" and nan are refused."""
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be finite")
    return value


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the lower end {pair[0]} lies above the upper end {pair[1]}")
    return pair


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("an entry stands twice")
    return values


Number = Annotated[float, BeforeValidator(_float)]
Fraction = Annotated[Number, Field(gt=0, le=1)]
Probability = Annotated[Number, Field(ge=0, le=1)]
Factor = Annotated[Number, Field(ge=0.01, le=100)]  # 1 changes nothing
Count = Annotated[int, Field(ge=1)]
Batch = Annotated[Count, Field(le=1024)]


def Range(kind: Any) -> Any:  # noqa: N802  (a type, as pydantic's conlist)
    return Annotated[tuple[kind, kind], AfterValidator(_ordered)]


def Several(kind: Any, most: int = 100, least: int = 1) -> Any:  # noqa: N802
    return Annotated[tuple[kind, ...], Field(min_length=least, max_length=most), AfterValidator(_unique)]


class Section(BaseModel):
    """A part of params.yaml: every key is required, none is unknown, types are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    # Keys of earlier versions, and the value that stands for the behaviour of this version.
    retired: ClassVar[Mapping[str, Any]] = {}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """A section from values read from JSON, in which tuples are lists."""
        known = {key: value for key, value in values.items() if key not in cls.retired or value != cls.retired[key]}
        return cls.model_validate_json(json.dumps(known))

    @classmethod
    def read(cls, path: Path, remedy: str = REMEDY) -> Self:
        """A section from a file of the pipeline or of a model directory.

        Raises:
            AdshiftError: it is missing or damaged, or a value is of another type or out of range.
        """
        try:
            return cls.of(read_json(path, remedy))
        except (OverflowError, RecursionError, ValueError) as error:
            raise AdshiftError(f"{path}: not its settings ({in_line(error)})", remedy) from None

    @classmethod
    def written(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a section as a stage stores them."""
        return dict(values)

    @classmethod
    def within(cls, values: Mapping[str, Any]) -> Self:
        """A section from the keys of a larger section that this one has."""
        return cls(**{name: values[name] for name in cls.model_fields})
