"""The defective pixels of a mask, and masks at another size. Arrays in, arrays out.

Notation: H x W pixels. A region is a connected part of a mask; pixels that touch at a corner are connected.
"""

import numpy as np
from PIL import Image

LABELS = 32  # if all values are smaller, they are labels of kinds of defects, not brightness
SOFT = 3  # largest width of a soft edge, in pixels from a region's border
# In a mask with soft edges, a region whose brightest value is below this share of the mask's is an artefact of the
# compression: a JPEG of quality 75 has values up to 0.18 beside a defect, one of quality 50 up to 0.33.
PEAK = 0.375
CONNECTED = np.ones((3, 3), bool)


def marked(values: np.ndarray, *, lossy: bool) -> np.ndarray:
    """The pixels that a mask marks as defective.

    Every value above 0 counts, whatever the label or color. If edges are soft (antialiased, blurred or compressed with
    loss), a region ends at half of its own brightest value.

    Args:
        values: (H, W) integers, 0 for background.
        lossy: whether the file's compression changed values.

    Returns:
        (H, W) bool.
    """
    above = values > 0
    peak = int(values.max())
    if peak < LABELS or not (lossy or _soft(values, above)):
        return above
    from scipy import ndimage

    regions, count = ndimage.label(values >= PEAK / 2 * peak, CONNECTED)
    peaks = np.zeros(count + 1)
    np.maximum.at(peaks, regions.ravel(), values.ravel())
    limits = np.where(peaks >= PEAK * peak, peaks / 2, np.inf)
    limits[0] = np.inf  # outside of all regions
    return values >= limits[regions]


def _soft(values: np.ndarray, above: np.ndarray) -> bool:
    """Whether edges are soft: most pixels beside the background have brighter ones near, unlike in a flat label."""
    if len(np.unique(values[above])) < 2:
        return False
    from scipy import ndimage

    border = above & ndimage.binary_dilation(~above, CONNECTED)
    rising = ndimage.maximum_filter(values, 2 * SOFT + 1) > values
    return bool(border.any() and rising[border].mean() > 0.5)


def shrink(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask at another size by nearest neighbour, without losing a region.

    A region that nearest neighbour would lose keeps one pixel, at its centre.

    Args:
        mask: (H, W) bool.
        height, width: of the result.
    """
    if not mask.any():
        return np.zeros((height, width), bool)
    from scipy import ndimage

    regions, count = ndimage.label(mask, CONNECTED)
    small = np.array(Image.fromarray(regions).resize((width, height), Image.Resampling.NEAREST))
    kept = np.bincount(small.ravel(), minlength=count + 1) > 0
    result = small > 0
    boxes = ndimage.find_objects(regions)
    for lost in np.flatnonzero(~kept[1:]):
        rows, columns = np.nonzero(regions[boxes[lost]] == lost + 1)
        middle = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
        row, column = rows[middle] + boxes[lost][0].start, columns[middle] + boxes[lost][1].start
        result[row * height // mask.shape[0], column * width // mask.shape[1]] = True
    return result


def areas(mask: np.ndarray) -> np.ndarray:
    """Pixels of each region of a mask (H, W) bool: (regions,) integers."""
    from scipy import ndimage

    return np.bincount(ndimage.label(mask, CONNECTED)[0].ravel())[1:]
