"""Area under the per-image overlap curve, AUPIMO (Bertoldo, Ameln, Vaidya, Akcay: "AUPIMO", BMVC 2024, section 3).

An image's PIMO curve is the share of its defect that is found, over the false-positive rate on the pixels of normal
images only; AUPIMO is its mean over log FPR from 1e-5 to 1e-4, where a detector hardly ever raises a false alarm. As in
`pro`, no curve is built: a pixel of score s is found at every rate from FPR(s) on, so its area is the part of the range
of log FPR above FPR(s). The mean over its defective pixels is the image's value.
"""

from collections.abc import Iterable

import numpy as np

BOUNDS = (1e-5, 1e-4)  # of the false-positive rate, section 3.3


def pimo(
    maps: Iterable[np.ndarray],
    masks: Iterable[np.ndarray],
    normal: np.ndarray,
    bounds: tuple[float, float] = BOUNDS,
) -> float | None:
    """Mean AUPIMO of the images with a defect: 0 to 1.

    With fewer than 1 / (lower bound) normal pixels (two images of 224 x 224), the lower end of the range is coarse: a
    single normal pixel is then a larger share than the lower bound.

    Args:
        maps: N raw scores (H, W).
        masks: N masks (H, W) bool.
        normal: (N,) bool, the images whose pixels set the false-positive rate.
        bounds: of the false-positive rate, in (0, 1).

    Returns:
        None if there is no normal image or no defective pixel.
    """
    lower, upper = bounds
    defective = [(scores, mask) for scores, mask in zip(maps, masks, strict=True) if mask.any()]
    clean = [scores.ravel() for scores, one in zip(maps, normal, strict=True) if one]
    total = sum(map(len, clean))
    if not total or not defective:
        return None
    # The upper bound selects the highest normal scores; one more score ends the range.
    kept = min(int(upper * total) + 1, total)
    highest = np.sort(np.partition(np.concatenate(clean), total - kept)[total - kept :])
    areas = []
    for scores, mask in defective:
        rate = (kept - np.searchsorted(highest, scores[mask], side="left")) / total
        areas.append(np.log(upper / np.clip(rate, lower, upper)).mean() / np.log(upper / lower))
    return min(float(np.mean(areas)), 1.0)
