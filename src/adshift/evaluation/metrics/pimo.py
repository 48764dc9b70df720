"""Area under the per-image overlap curve, AUPIMO (Bertoldo, Ameln, Vaidya, Akcay: "AUPIMO", BMVC 2024, section 3).

An image's PIMO curve is the share of its defect that is found, against the false-positive rate over the pixels of the
normal images alone; AUPIMO is its mean over log FPR from 1e-5 to 1e-4, where a detector hardly ever raises a false
alarm. As in `pro`, no curve is built: a pixel of score s is found from FPR(s) on, so its area is what log FPR leaves of
the range above that, and a mean of pixels is an image's.
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

    With fewer than 1 / lower bound normal pixels (two images of 224 x 224), the lower end of the range is coarse: one
    normal pixel is a larger share than that.

    Args:
        maps: N raw scores (H, W).
        masks: N masks (H, W) bool.
        normal: (N,) bool, the images whose pixels set the false-positive rate.
        bounds: of the false-positive rate, in (0, 1).

    Returns:
        None where there is no normal image or no defective pixel.
    """
    lower, upper = bounds
    defective = [(scores, mask) for scores, mask in zip(maps, masks, strict=True) if mask.any()]
    clean = [scores.ravel() for scores, one in zip(maps, normal, strict=True) if one]
    total = sum(map(len, clean))
    if not total or not defective:
        return None
    # Only as many of the highest normal scores count as the upper bound lets pass, and one that ends the range.
    kept = min(int(upper * total) + 1, total)
    highest = np.sort(np.partition(np.concatenate(clean), total - kept)[total - kept :])
    areas = []
    for scores, mask in defective:
        rate = (kept - np.searchsorted(highest, scores[mask], side="left")) / total
        areas.append(np.log(upper / np.clip(rate, lower, upper)).mean() / np.log(upper / lower))
    return min(float(np.mean(areas)), 1.0)
