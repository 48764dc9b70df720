"""Figures of normal images alone: false alarms, distribution of scores, and the images with the highest scores.

A good image with a high score is often a defect that nobody marked.
"""

from typing import Any

import numpy as np

from adshift.evaluation.calibration import Threshold
from adshift.evaluation.conformal import Rate, chosen_rate, clopper_pearson
from adshift.evaluation.metrics.counts import decide

SHOWN = 10  # most anomalous good images


def normals(names: tuple[str, ...], scores: np.ndarray, threshold: Threshold) -> dict[str, Any]:
    """Of normal test images.

    Args:
        names: N images.
        scores: (N,) raw scores.
        threshold: chosen before, on validation images, or on these.

    Returns:
        images, alarms: counts.
        expected_fpr: {value, low, high}, of future normal images, from the images that set the threshold; None if
            these images set it.
        observed_fpr: {value, low, high} from these images, with a Clopper-Pearson interval; None if there are none.
        scores: median, spread (mean absolute deviation from it), low and high (5th and 95th percentile); None if there
            are none.
        most_anomalous: [name, score] of at most `SHOWN`, the highest score first.
    """
    alarms = int(decide(scores, threshold.threshold).sum())
    values = np.asarray(scores, np.float64)
    order = sorted(range(len(names)), key=lambda row: (-values[row], names[row]))[:SHOWN]
    return {
        "images": len(names),
        "alarms": alarms,
        "expected_fpr": _expected(threshold).model_dump() if threshold.on == "val" else None,
        "observed_fpr": clopper_pearson(alarms, len(names)).model_dump() if names else None,
        "scores": _spread(values) if names else None,
        "most_anomalous": [[names[row], float(values[row])] for row in order],
    }


def _expected(threshold: Threshold) -> Rate:
    return threshold.expected_fpr or chosen_rate(threshold.fp, threshold.fp + threshold.tn)


def _spread(scores: np.ndarray) -> dict[str, float]:
    median = float(np.median(scores))
    low, high = (float(end) for end in np.quantile(scores, [0.05, 0.95]))
    return {"median": median, "spread": float(np.abs(scores - median).mean()), "low": low, "high": high}
