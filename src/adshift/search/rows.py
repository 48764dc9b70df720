"""Rows as they are compared, in the metric that a search uses."""

from typing import Literal

import numpy as np

Metric = Literal["euclidean", "cosine"]


def prepared(rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Rows (N, D) as they are compared: float32, and of length one for cosine."""
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if metric == "euclidean":
        return rows
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
