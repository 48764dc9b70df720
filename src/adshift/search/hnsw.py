"""Build HNSW graphs (Malkov and Yashunin, 2018) with FAISS, and check them before use.

`adshift.search.graph` searches in them.

Notation: B rows of the bank, D dimensions.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from adshift.runtime.parallel import one_thread_below
from adshift.search.rows import Metric, prepared

Index = Literal["exact", "hnsw"]

HNSW_M = 16  # links of a row in each layer of the graph; twice as many in the lowest layer
QUERIES_PER_BLOCK = 16  # queries that share a warm start; fixed, so that the number of threads changes nothing


def hnsw_graph(bank: np.ndarray, metric: Metric) -> dict[str, np.ndarray]:
    """The links of an HNSW index over a bank (B, D), apart from the bank itself: what a model stores.

    One thread, so that equal banks give equal graphs.
    """
    import faiss

    from adshift.search.exact import Exact

    coordinates = Exact(prepared(bank, metric)).coordinates
    index = faiss.IndexHNSWFlat(coordinates.shape[1], HNSW_M)
    with one_thread_below():
        index.add(coordinates)
    arrays = {name: faiss.vector_to_array(getattr(index.hnsw, name)) for name in ("levels", "offsets", "neighbors")}
    return {**arrays, "entry": np.array([index.hnsw.entry_point, index.hnsw.max_level])}


def check_graph(graph: Mapping[str, np.ndarray], rows: int, index: Index) -> None:
    """Refuse a graph that would lead outside of the bank.

    Raises:
        ValueError: it is no graph over `rows` rows, or `index` needs none.
    """
    if set(graph) != ({"levels", "offsets", "neighbors", "entry"} if index == "hnsw" else set()):
        raise ValueError(f"the index is {index}, its arrays are {sorted(graph)}")
    if not graph:
        return
    levels, offsets, links, entry = (graph[name] for name in ("levels", "offsets", "neighbors", "entry"))
    sound = (
        len(levels) == rows == len(offsets) - 1
        and len(entry) == 2
        and levels.min() >= 1
        and np.array_equal(np.diff(offsets.astype(np.int64)), HNSW_M * (levels.astype(np.int64) + 1))
        and offsets[0] == 0
        and offsets[-1] == len(links)
        and -1 <= links.min() <= links.max() < rows
        and 0 <= entry[0] < rows
        and entry[1] == levels[entry[0]] - 1 == levels.max() - 1
        and _layers_are_closed(levels, offsets.astype(np.int64), links)
    )
    if not sound:
        raise ValueError("the graph of the index does not fit its bank")


def _layers_are_closed(levels: np.ndarray, offsets: np.ndarray, links: np.ndarray) -> bool:
    """Whether the links of each layer above the lowest lead to rows that have links there."""
    for layer in range(1, levels.max()):
        first = offsets[:-1][levels > layer] + HNSW_M * (layer + 1)
        linked = links[first[:, None] + np.arange(HNSW_M)]
        if (levels[linked[linked >= 0]] <= layer).any():
            return False
    return True
