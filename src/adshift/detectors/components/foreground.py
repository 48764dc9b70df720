"""Which patches of an image show the object: the foreground mask of AnomalyDINO (Damm et al., 2025, section 3.2).

The first principal component of an image's patches tells the object from its background, if they are tokens of DINOv2.
The component is found by power iteration in float64, whose steps an exported graph repeats.
"""

import numpy as np

STEPS = 50  # of the power iteration
CENTRE = 0.2  # share of each side that does not belong to the centre
LEAST = 0.35  # share of the centre that the object fills at least: otherwise the component's sign is the other


def foreground(patches: np.ndarray, threshold: float) -> np.ndarray:
    """Whether each patch shows the object: (H, W) bool.

    Args:
        patches: (H, W, D) of one image, without padding.
        threshold: of the first principal component, 10 for tokens of DINOv2.

    Returns:
        The mask, dilated and closed by 3 x 3 patches. All of the image if nothing exceeds the threshold.
    """
    height, width, _ = patches.shape
    component = first_component(patches.reshape(height * width, -1).astype(np.float64)).reshape(height, width)
    rows, columns = (slice(int(side * CENTRE), int(side * (1 - CENTRE))) for side in (height, width))
    mask = component > threshold
    if mask[rows, columns].sum() <= LEAST * mask[rows, columns].size:
        mask = -component > threshold
    if not mask.any():
        return np.ones_like(mask)
    dilated = _dilated(_dilated(mask))  # the mask's own, and that of the closing
    return ~_dilated(~dilated)


def _dilated(mask: np.ndarray) -> np.ndarray:
    """Whether one of 3 x 3 patches is set; nothing is beyond the edge."""
    return np.asarray(np.lib.stride_tricks.sliding_window_view(np.pad(mask, 1), (3, 3)).any((2, 3)))


def first_component(rows: np.ndarray) -> np.ndarray:
    """Coordinates (M,) of rows (M, D) along their direction of largest variance.

    Its sign is scikit-learn's, as the authors' code has it: the largest entry of the direction is positive.
    """
    centred = rows - rows.mean(0)
    covariance = centred.T @ centred
    direction = np.full(rows.shape[1], rows.shape[1] ** -0.5)
    for _ in range(STEPS):
        moved = covariance @ direction
        direction = moved / max(float(np.linalg.norm(moved)), np.finfo(float).tiny)
    return np.asarray(centred @ (direction * np.sign(direction[np.abs(direction).argmax()])))
