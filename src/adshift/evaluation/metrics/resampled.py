"""Ranking metrics of B resamples: as in `ranking`, with every image counted as often as it was drawn.

Notation: B resamples, N normal and P defective images.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ResampledRanks:
    """Resampled defective images, and for each the number of resampled normal images above it.

    Attributes:
        weights: (B, P) int64, how often each defective image was drawn, the highest score first.
        tp: (B, P) int64, drawn defective scores >= each.
        fp, fp_above: (B, P) int64, drawn normal scores >= each, and > each.
        normal: N.
    """

    weights: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fp_above: np.ndarray
    normal: int

    @classmethod
    def of(
        cls, normal: np.ndarray, defective: np.ndarray, drawn_normal: np.ndarray, drawn_defective: np.ndarray
    ) -> "ResampledRanks":
        """Rank (N,) normal and (P,) defective scores, drawn as often as the (B, N) and (B, P) counts."""
        down_normal, down = np.argsort(-normal, kind="stable"), np.argsort(-defective, kind="stable")
        fp_upto, tp_upto = _cumulated(drawn_normal[:, down_normal]), _cumulated(drawn_defective[:, down])
        ordered, ordered_normal = -defective[down], -normal[down_normal]
        return cls(
            weights=drawn_defective[:, down].astype(np.int64),
            tp=tp_upto[:, np.searchsorted(ordered, ordered, side="right")],
            fp=fp_upto[:, np.searchsorted(ordered_normal, ordered, side="right")],
            fp_above=fp_upto[:, np.searchsorted(ordered_normal, ordered, side="left")],
            normal=len(normal),
        )

    def auroc(self) -> np.ndarray:
        """Area under the ROC curve: (B,) float64, NaN if one kind of image is missing."""
        pairs = 2 * self.normal * self.weights.shape[1]
        if not pairs:
            return np.full(len(self.weights), np.nan)
        return 1 - (self.weights * (self.fp + self.fp_above)).sum(1) / pairs

    def auprc(self) -> np.ndarray:
        """Average precision: (B,) float64."""
        precision = self.tp / np.maximum(self.tp + self.fp, 1)
        return np.minimum((self.weights * precision).sum(1) / max(self.weights.shape[1], 1), 1.0)


def _cumulated(drawn: np.ndarray) -> np.ndarray:
    """(B, n + 1) int64: number of draws among the first 0, 1, ... n images."""
    return np.pad(np.cumsum(drawn, axis=1, dtype=np.int64), ((0, 0), (1, 0)))
