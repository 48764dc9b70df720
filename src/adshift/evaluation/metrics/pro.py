"""Area under the per-region overlap curve (Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021, section 5).

The PRO curve is the share of a region that is found, averaged over the true regions, over the false-positive rate on
all normal pixels. Mean and area are both linear, so no curve is built: a pixel of score s is missed up to FP>(s), found
from FP(s) on and, if normal pixels tie with it, on the straight line between them. Its area up to the limit, averaged
over a region's pixels and then over the regions, is the metric.
"""

from collections.abc import Iterable

import numpy as np

from adshift.evaluation.metrics.ranking import Ranked

EIGHT_CONNECTED = np.ones((3, 3), bool)  # pixels that touch at a corner are one region, as in anomalib and MVTec's code


def pro(ranked: Ranked, maps: Iterable[np.ndarray], masks: Iterable[np.ndarray], limit: float) -> float | None:
    """Area under the PRO curve up to a false-positive rate, divided by that rate: 0 to 1.

    Args:
        ranked: the ranking of the same pixels.
        maps: N raw scores (H, W).
        masks: N masks (H, W) bool.
        limit: false-positive rate to integrate to, in (0, 1].

    Returns:
        None if there is no normal or no anomalous pixel; anomalib's AUPRO gives 0. An image in which all pixels are
        anomalous is a region; anomalib 2.7 takes it for background.
    """
    if not len(ranked.scores) or not ranked.normal:
        return None
    overlaps = [_overlaps(ranked, scores, mask, limit) for scores, mask in zip(maps, masks, strict=True) if mask.any()]
    return min(float(np.concatenate(overlaps).mean()), 1.0)


def _overlaps(ranked: Ranked, scores: np.ndarray, mask: np.ndarray, limit: float) -> np.ndarray:
    """Normalised area of each region of one image: (regions,) float64."""
    from scipy.ndimage import label

    regions = label(mask, EIGHT_CONNECTED)[0][mask] - 1
    rank = np.searchsorted(ranked.scores, scores[mask])
    end = limit * ranked.normal
    lower, upper = ranked.fp_above[rank].astype(np.float64), ranked.fp[rank].astype(np.float64)
    # A triangle over [lower, upper], cut off at the end of the integral, then full height.
    rise = np.clip(end - lower, 0.0, upper - lower)
    area = rise**2 / (2 * np.maximum(upper - lower, 1.0)) + np.maximum(end - upper, 0.0)
    return np.bincount(regions, weights=area) / np.bincount(regions) / end
