"""Ranking metrics of raw scores: exact, ties counted as scikit-learn counts them.

Notation: P anomalous scores, N normal ones. For a score s, TP and FP count the anomalous and normal scores >= s, and
FP> the normal ones > s. Every metric here is a mean or a maximum over the *anomalous* scores alone:

    AUROC   = mean 1 - (FP + FP>) / 2N        Mann-Whitney's U: a tie counts half
    AUPRC   = mean TP / (TP + FP)             average precision: recall only rises at anomalous scores
    best F1 = max 2 TP / (TP + FP + P)        between two anomalous scores, F1 only falls

So the normal scores, of which there are many, are only ever sorted and counted, never reordered or cumulated.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from adshift.evaluation.metrics.counts import F1, Counts

BLOCK = 1 << 16  # anomalous scores per block: temporary arrays fit into the processor's cache


@dataclass(frozen=True)
class Ranked:
    """Anomalous scores, and for each the number of normal scores above it.

    Attributes:
        scores: (P,) anomalous scores, ascending.
        fp: (P,) unsigned, normal scores >= each.
        fp_above: (P,) unsigned, normal scores > each.
        normal: N.
    """

    scores: np.ndarray
    fp: np.ndarray
    fp_above: np.ndarray
    normal: int

    @classmethod
    def of(cls, scores: np.ndarray, anomalous: np.ndarray) -> "Ranked":
        """Rank scores of any shape; `anomalous` is bool, the same shape. Works on one copy of the scores.

        Raises:
            ValueError: no scores, other shapes, labels that are not bool, or a score that is not finite.
        """
        scores, anomalous = np.asarray(scores), np.asarray(anomalous)
        if not np.issubdtype(scores.dtype, np.floating):
            scores = scores.astype(np.float64)
        if scores.shape != anomalous.shape or not scores.size or anomalous.dtype != bool:
            raise ValueError(f"scores {scores.shape}, labels {anomalous.shape} {anomalous.dtype}: expected bool, alike")
        normal, positive = scores[~anomalous], scores[anomalous]
        for part in (normal, positive):
            part.sort()  # NaN is last
            if part.size and not np.isfinite(part[[0, -1]]).all():
                raise ValueError("a score is not finite")
        count = np.uint32 if normal.size < 2**32 else np.uint64
        fp, fp_above = np.empty((2, positive.size), count)
        for block in _blocks(positive.size):
            fp[block] = normal.size - np.searchsorted(normal, positive[block], side="left")
            fp_above[block] = normal.size - np.searchsorted(normal, positive[block], side="right")
        return cls(positive, fp, fp_above, normal.size)

    def auroc(self) -> float | None:
        """Area under the ROC curve; None if one kind of score is missing."""
        positive = len(self.scores)
        if not positive or not self.normal:
            return None
        below = 2 * positive * self.normal - int(self.fp.sum(dtype=np.int64)) - int(self.fp_above.sum(dtype=np.int64))
        return below / (2 * positive * self.normal)

    def auprc(self) -> float | None:
        """Average precision; None if one kind of score is missing."""
        if not len(self.scores) or not self.normal:
            return None
        total = sum(float((tp / (tp + fp)).sum()) for _, tp, fp in self._counts())
        return min(total / len(self.scores), 1.0)

    def best_f1(self) -> tuple[float | None, float | None]:
        """Best F1 of all thresholds and the highest threshold that has it; None if one kind of score is missing."""
        if not len(self.scores) or not self.normal:
            return None, None
        best, threshold = 0.0, 0.0
        for block, tp, fp in self._counts():
            f1 = F1(Counts(fp=fp, fn=len(self.scores) - tp, tp=tp))
            last = len(f1) - 1 - int(f1[::-1].argmax())
            if f1[last] >= best:
                best, threshold = float(f1[last]), float(self.scores[block][last])
        return best, threshold

    def _counts(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Blocks of anomalous scores, ascending, with TP and FP at each as int64."""
        for block in _blocks(len(self.scores)):
            tp = len(self.scores) - np.searchsorted(self.scores, self.scores[block], side="left")
            yield block, tp, self.fp[block].astype(np.int64)


def auroc(scores: np.ndarray, anomalous: np.ndarray) -> float | None:
    """Area under the ROC curve of scores and bool labels of one shape; None if one kind is missing."""
    return Ranked.of(scores, anomalous).auroc()


def auprc(scores: np.ndarray, anomalous: np.ndarray) -> float | None:
    """Average precision of scores and bool labels of one shape; None if one kind is missing."""
    return Ranked.of(scores, anomalous).auprc()


def best_f1(scores: np.ndarray, anomalous: np.ndarray) -> tuple[float | None, float | None]:
    """Best F1 of all thresholds, and the highest threshold (score >= threshold) that has it; None as for `auprc`."""
    return Ranked.of(scores, anomalous).best_f1()


def roc_points(scores: np.ndarray, anomalous: np.ndarray, most: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the ROC curve from (0, 0) to (1, 1), thinned to `most` along its length, for a plot.

    Returns:
        (K,) float64 false-positive rates and true-positive rates; both empty if one kind of score is missing.
    """
    ranked = Ranked.of(scores, anomalous)
    if not len(ranked.scores) or not ranked.normal:
        return np.empty(0), np.empty(0)
    tp, fp = _corners(ranked)
    return _thinned(fp / ranked.normal, tp / len(ranked.scores), most)


def pr_points(scores: np.ndarray, anomalous: np.ndarray, most: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the precision-recall curve from recall 0 (precision 1, by convention) to 1, thinned like `roc_points`.

    Returns:
        (K,) float64 recalls and precisions; both empty if nothing is anomalous.
    """
    ranked = Ranked.of(scores, anomalous)
    if not len(ranked.scores):
        return np.empty(0), np.empty(0)
    tp, fp = _corners(ranked)
    return _thinned(tp / len(ranked.scores), np.where(tp + fp, tp / np.maximum(tp + fp, 1), 1.0), most)


def _corners(ranked: Ranked) -> tuple[np.ndarray, np.ndarray]:
    """(TP, FP) just before and at each distinct anomalous score, from the highest to the lowest.

    The first point predicts no image anomalous, the last all. Between two anomalous scores the curve is a straight line
    along FP, so there are no other corners.
    """
    fresh = np.concatenate([[True], ranked.scores[1:] != ranked.scores[:-1]])
    first = np.flatnonzero(fresh)[::-1]  # the first of each distinct score
    positive = len(ranked.scores)
    tp = np.stack([np.append(0, positive - first[:-1]), positive - first], axis=1)
    fp = np.stack([ranked.fp_above[first], ranked.fp[first]], axis=1).astype(np.int64)
    corners = np.stack([np.r_[0, tp.ravel(), positive], np.r_[0, fp.ravel(), ranked.normal]])
    moved = np.append(True, np.diff(corners).any(axis=0))
    return corners[0, moved], corners[1, moved]


def _thinned(x: np.ndarray, y: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` of a curve's points, evenly spaced along its length, both ends among them."""
    if len(x) <= most:
        return x, y
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    kept = np.searchsorted(length, np.linspace(0.0, length[-1], most)).clip(max=len(x) - 1)
    kept[-1] = len(x) - 1
    kept = np.unique(kept)
    return x[kept], y[kept]


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, size, BLOCK))
