"""Exact nearest neighbours in a memory bank, by FAISS.

Notation: B rows of the bank, Q queries, D dimensions, K neighbours.
"""

from typing import Literal

import numpy as np

Metric = Literal["euclidean", "cosine"]


class Neighbors:
    """An index of a bank.

    Args:
        bank: (B, D) float32.
        metric: `euclidean`, the distance itself and not its square, or `cosine`, 1 - cos, in [0, 2].
    """

    def __init__(self, bank: np.ndarray, metric: Metric = "euclidean") -> None:
        import faiss

        self.metric = metric
        self.bank = self._prepared(bank)
        # Of unit vectors, 1 - cos is half the squared distance: one index serves both.
        self.index = faiss.IndexFlatL2(self.bank.shape[1])
        self.index.add(self.bank)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The K = min(k, B) nearest rows of each query, nearest first, ties to the lowest index.

        One thread: parallelism lies above, over images, so that the thread count changes no byte.

        Args:
            queries: (Q, D) float32.
            k: neighbours asked for.

        Returns:
            distances (Q, K) float32 and indices (Q, K) int64.
        """
        import faiss

        faiss.omp_set_num_threads(1)  # holds for the calling thread
        queries = self._prepared(queries)
        _, indices = self.index.search(queries, min(k, len(self.bank)))
        # FAISS computes |a|^2 - 2ab + |b|^2, which is far off for small distances: the found ones are measured again.
        squared = np.empty(indices.shape, dtype=np.float32)
        for rank in range(indices.shape[1]):
            delta = queries - self.bank[indices[:, rank]]
            squared[:, rank] = np.einsum("qd,qd->q", delta, delta)
        order = np.lexsort((indices, squared))
        squared, indices = np.take_along_axis(squared, order, 1), np.take_along_axis(indices, order, 1)
        return np.sqrt(squared) if self.metric == "euclidean" else squared / 2, indices

    def _prepared(self, rows: np.ndarray) -> np.ndarray:
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        if self.metric == "euclidean":
            return rows
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.where(norms > 0, norms, 1)
