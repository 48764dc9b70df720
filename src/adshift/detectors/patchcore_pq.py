"""PatchCore over a quantized memory bank ("PatchCore-Lite"): rows of a few bytes, searched in two phases.

FAISS finds K candidates of the bank by distances from tables. These are decompressed, and the c nearest of them replace
the exact neighbours. `adshift.search.quantized` describes the search.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from adshift.detectors import storage
from adshift.detectors.components.memory_bank import Bank, MemoryBank, Scoring, channels_of
from adshift.detectors.components.settings import Neighbours
from adshift.detectors.patchcore import warm_up as warm_up_selection
from adshift.errors import AdshiftError
from adshift.runtime.settings import Count
from adshift.search.quantized import Codes, QuantizedNeighbors, quantize


class Fit(Bank):
    """Parameters of the model: of PatchCore's selection, and of the codes.

    Attributes:
        bytes: of a row's code, each for two parts of the dimensions.
    """

    # A key in models of earlier versions; rotated codes are refused.
    retired: ClassVar[Mapping[str, Any]] = {"opq": False}

    bytes: Annotated[Count, Field(le=2048)]


class Score(Scoring):
    """Parameters of scoring.

    Attributes:
        candidates: K, nearest rows by quantized distance, which are decompressed.
        refined: c, rows kept of them. The score uses `neighbours` of these, so a larger number changes nothing.
    """

    candidates: Neighbours
    refined: Neighbours

    @model_validator(mode="after")
    def _fewer(self) -> Self:
        if self.refined > self.candidates:
            raise ValueError(f"refined: {self.refined} rows cannot be chosen among candidates: {self.candidates}")
        return self


def warm_up() -> None:
    """Load and compile what `fit` needs, so that the time of a fit excludes it."""
    import faiss  # noqa: F401

    warm_up_selection()


class PatchCorePQ(MemoryBank):
    """A memory bank of codes. Picks and radii of the selection are not kept: they would need as much space."""

    name = "patchcore_pq"
    label = "PatchCore, quantized"
    artifact = "PatchCore over a bank of a few bytes a row"
    settings: Fit
    codes: Codes

    def _link(self) -> None:
        self.codes = quantize(self.bank, self.settings.bytes, self.settings.metric)

    def _ready(self) -> None:
        _ = self.neighbors

    @cached_property
    def neighbors(self) -> QuantizedNeighbors:
        """The index of the codes, built at the first search."""
        return QuantizedNeighbors(self.codes, self.settings.metric)

    def _search(self, patches: np.ndarray, k: int, scoring: Score, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
        return self.neighbors.search(patches, min(k, scoring.refined), candidates=scoring.candidates, threads=threads)

    def _rows(self, indices: np.ndarray) -> np.ndarray:
        return self.codes.decompress(indices)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Codes, codebooks, number of dimensions."""
        codes = self.codes
        return {"codes": codes.codes, "codebooks": codes.codebooks, "dimensions": np.array(codes.dimensions)}

    def from_arrays(self, folder: Path, arrays: dict[str, np.ndarray]) -> None:
        """Check and take the arrays of `to_arrays`."""
        try:
            self.codes = Codes(arrays["codes"], arrays["codebooks"], int(arrays["dimensions"]))
            self.codes.check(self.settings.bytes)
            if self.codes.dimensions != (width := channels_of(self.spec, self.settings.layers)):
                raise ValueError(f"{self.codes.dimensions} dimensions, its layers have {width}")
        except (KeyError, TypeError, ValueError) as error:
            raise AdshiftError(f"{folder}: no sound quantized bank ({error})", storage.REMEDY) from None
