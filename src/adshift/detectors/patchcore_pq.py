"""PatchCore over a quantized memory bank ("PatchCore-Lite"): rows of a few bytes, searched in two phases.

Of the bank, K candidates are found by the distances that FAISS reads from tables; these are decompressed, and the c
nearest of them take the place of the exact neighbours. `adshift.search.quantized` says how.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from adshift.detectors.components import storage
from adshift.detectors.components.settings import Neighbours
from adshift.detectors.patchcore import Bank, MemoryBank, Scoring, channels_of
from adshift.detectors.patchcore import warm_up as warm_up_selection
from adshift.errors import AdshiftError
from adshift.runtime.settings import Count
from adshift.search.quantized import Codes, QuantizedNeighbors, quantize


class Fit(Bank):
    """What the model depends on: PatchCore's selection, and the codes.

    Attributes:
        bytes: of a row's code, each for two parts of its dimensions.
    """

    # Models of earlier versions say it; rotated codes are refused.
    retired: ClassVar[Mapping[str, Any]] = {"opq": False}

    bytes: Annotated[Count, Field(le=2048)]


class Score(Scoring):
    """What the scores depend on beyond the model.

    Attributes:
        candidates: K, rows found by quantized distance, all of which are decompressed.
        refined: c, rows kept of them. The score's neighbours are taken among these, so that beyond `neighbours` it
            changes nothing.
    """

    candidates: Neighbours
    refined: Neighbours

    @model_validator(mode="after")
    def _fewer(self) -> Self:
        if self.refined > self.candidates:
            raise ValueError(f"refined: {self.refined} rows cannot be chosen among candidates: {self.candidates}")
        return self


def warm_up() -> None:
    """Load and compile what `fit` needs, so that it can be left out of a fit's time."""
    import faiss  # noqa: F401

    warm_up_selection()


class PatchCorePQ(MemoryBank):
    """The bank as codes. Of the selection only they are kept: picks and radii alone would take as much room."""

    settings: Fit
    codes: Codes

    def __init__(self, settings: Fit) -> None:
        self.settings = settings

    def _link(self) -> None:
        self.codes = quantize(self.bank, self.settings.bytes, self.settings.metric)

    def _ready(self) -> None:
        _ = self.neighbors

    @cached_property
    def neighbors(self) -> QuantizedNeighbors:
        """The index of the codes, built when something is searched."""
        return QuantizedNeighbors(self.codes, self.settings.metric)

    def _search(self, patches: np.ndarray, k: int, how: Score, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
        return self.neighbors.search(patches, min(k, how.refined), candidates=how.candidates, threads=threads)

    def _rows(self, indices: np.ndarray) -> np.ndarray:
        return self.codes.decompress(indices)

    def save(self, folder: Path) -> None:
        """Write the model."""
        arrays = {"codes": self.codes.codes, "codebooks": self.codes.codebooks}
        arrays["dimensions"] = np.array(self.codes.dimensions)
        storage.save(folder, "patchcore_pq", dict(self.settings), self.spec, arrays)

    @classmethod
    def load(cls, folder: Path) -> "PatchCorePQ":
        """Read what `save` wrote.

        Raises:
            AdshiftError: the folder holds no sound model of this kind.
        """
        settings, spec, arrays = storage.load(folder, "patchcore_pq")
        model = cls(settings)
        model.spec = spec
        try:
            model.codes = Codes(arrays["codes"], arrays["codebooks"], int(arrays["dimensions"]))
            model.codes.check(settings.bytes)
            if model.codes.dimensions != (width := channels_of(spec, settings.layers)):
                raise ValueError(f"{model.codes.dimensions} dimensions, its layers have {width}")
        except (KeyError, TypeError, ValueError) as error:
            raise AdshiftError(f"{folder}: no sound quantized bank ({error})", storage.REMEDY) from None
        return model
