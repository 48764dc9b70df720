"""PatchCore (Roth et al., 2022): the distance of a patch to a memory bank of normal patches.

Notation: N images, H x W positions of the first layer used, D channels of all layers used, B rows of the bank,
K neighbours.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

from adshift.detectors import storage
from adshift.detectors.components.memory_bank import Bank, MemoryBank, Scoring, channels_of
from adshift.detectors.components.settings import Neighbours
from adshift.errors import AdshiftError
from adshift.features.store import Features
from adshift.runtime.parallel import one_thread_below
from adshift.search.growth import growth
from adshift.search.hnsw import Index, check_graph, hnsw_graph
from adshift.search.neighbors import Neighbors

LOOSE = 1 + 1e-5  # factor on the coreset's radius that covers the rounding of float32 distances


class Fit(Bank):
    """Parameters of PatchCore's fit.

    Attributes:
        index: `exact` search, or `hnsw`, a graph that finds most of the nearest rows in much less time.
    """

    index: Index


class Score(Scoring):
    """Parameters of PatchCore's scoring.

    Attributes:
        search_width: candidates that a search in the graph of `hnsw` keeps; more are slower and more exact.
    """

    search_width: Neighbours


def warm_up() -> None:
    """Compile or load the kernels that `fit` needs, so that the time of a fit excludes it."""
    from adshift.search.coreset import greedy

    greedy(np.eye(4, dtype=np.float32), 2, 0)


class PatchCore(MemoryBank):
    """A memory bank of float32 rows."""

    name = "patchcore"
    label = "PatchCore"
    artifact = "PatchCore: distance to a memory bank of normal patches"
    adaptable = True
    settings: Fit

    def adapted(self, features: Features, rows: int | None = None) -> "PatchCore":
        """Add patches of further normal images to the bank, until it covers them as the coreset covered its patches.

        Patches are picked by k-center selection in the projected space (`search.growth`), from the rows that are there.
        """
        radius = float(self.radii[-1]) * LOOSE
        with one_thread_below():  # products of BLAS differ in their last bits between numbers of threads
            patches = np.concatenate([self.rows_of(features[index : index + 1]) for index in range(len(features))])
            points, bank = (part if self.matrix is None else part @ self.matrix for part in (patches, self.bank))
            new = growth(points, bank, radius, rows)
        grown = PatchCore(self.settings)
        grown.spec, grown.matrix, grown.total = self.spec, self.matrix, self.total + len(patches)
        grown.bank = np.concatenate([self.bank, patches[new.indices]])
        grown.picks = np.concatenate([self.picks, self.total + new.indices])
        grown.radii = np.concatenate([self.radii, new.radii])
        grown._link()
        return grown

    def _link(self) -> None:
        hnsw = self.settings.index == "hnsw"
        self.graph = hnsw_graph(self.bank, self.settings.metric) if hnsw else {}

    def _ready(self) -> None:
        _ = self.neighbors

    def _search(self, patches: np.ndarray, k: int, scoring: Score, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
        return self.neighbors.search(patches, k, width=scoring.search_width, threads=threads)

    @property
    def _exactly(self) -> Callable[..., tuple[np.ndarray, np.ndarray]] | None:
        return self.neighbors.search_exactly if self.settings.index == "hnsw" else None

    def _rows(self, indices: np.ndarray) -> np.ndarray:
        return self.bank[indices]

    @cached_property
    def neighbors(self) -> Neighbors:
        """The index of the bank, built at the first search."""
        return Neighbors(self.bank, self.settings.metric, self.graph)

    def reduced(self, ratio: float) -> "PatchCore":
        """The detector of a smaller coreset ratio: greedy picks are nested, so its bank is the first rows of this one.

        If the coreset was selected in chunks, a fit with the smaller ratio would select slightly other rows.

        Raises:
            AdshiftError: the ratio selects no row, or more rows than this bank has.
        """
        from adshift.search.coreset import size_of

        count = size_of(ratio, self.total)
        if count > len(self.bank):
            larger = self.settings.coreset
            raise AdshiftError(f"a coreset of {ratio} cannot come from one of {larger}", "fit the larger one")
        smaller = PatchCore(self.settings.model_copy(update={"coreset": ratio}))
        smaller.total, smaller.matrix, smaller.spec = self.total, self.matrix, self.spec
        smaller.bank, smaller.picks, smaller.radii = self.bank[:count], self.picks[:count], self.radii[:count]
        smaller._link()
        return smaller

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Bank, picks, radii, number of patches; the projection and the graph if there are any."""
        arrays = {"bank": self.bank, "picks": self.picks, "radii": self.radii, "total": np.array(self.total)}
        if self.matrix is not None:
            arrays["projection"] = self.matrix
        return arrays | {f"graph.{name}": array for name, array in self.graph.items()}

    def from_arrays(self, folder: Path, arrays: dict[str, np.ndarray]) -> None:
        """Check and take the arrays of `to_arrays`."""
        settings = self.settings
        width, rows = channels_of(self.spec, settings.layers), len(np.atleast_1d(arrays.get("bank", 0)))
        graph = {"levels": "int32", "offsets": "uint64", "neighbors": "int32", "entry": "int64"}
        storage.demand(folder, arrays, {
            "bank": ("float32", (None, width)),
            "picks": ("int64", (rows,)),
            "radii": ("f", (rows,)),
            "total": ("int64", ()),
            **({"projection": ("float32", (width, settings.projection))} if settings.projection else {}),
            **{f"graph.{name}": (dtype, (None,)) for name, dtype in graph.items() if settings.index == "hnsw"},
        })  # fmt: skip
        sound = storage.distinct(arrays["picks"], int(arrays["total"])) and (arrays["radii"] >= 0).all()
        storage.demand_that(
            sound, folder, f"picks are not {rows} of {arrays['total']} patches, or a radius is negative"
        )
        self.bank, self.picks, self.radii = arrays["bank"], arrays["picks"], arrays["radii"]
        self.matrix, self.total = arrays.get("projection"), int(arrays["total"])
        self.graph = {name.removeprefix("graph."): arrays[name] for name in arrays if name.startswith("graph.")}
        try:
            check_graph(self.graph, len(self.bank), settings.index)
        except ValueError as error:
            raise AdshiftError(f"{folder}: {error}", storage.REMEDY) from None
