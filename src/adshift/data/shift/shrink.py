"""Images and masks made smaller before they are shifted, their aspect kept."""

import numpy as np


def shrunk(array: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """An image or mask, its aspect kept, as small as a network's input of a size needs it; never enlarged.

    Args:
        array: (H, W, 3) uint8 image, shrunk bilinearly and antialiased; or (H, W) bool mask, whose pixels are then true
            where at least half of one is, and at the best place of a region of which nothing would be left.
        size: height and width that are to be filled; None leaves everything as it is.
    """
    from PIL import Image

    height, width = array.shape[:2]
    scale = 1.0 if size is None else max(size[0] / height, size[1] / width)
    if scale >= 1:
        return array
    new = max(round(width * scale), 1), max(round(height * scale), 1)
    if array.dtype != bool:
        return np.asarray(Image.fromarray(array).resize(new, Image.Resampling.BILINEAR))
    return _shrunk_mask(array, new)


def _shrunk_mask(mask: np.ndarray, new: tuple[int, int]) -> np.ndarray:
    from PIL import Image
    from scipy.ndimage import label

    def coverage(part: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(part.astype(np.float32)).resize(new, Image.Resampling.BOX))

    shrunk = coverage(mask) >= 0.5
    regions, count = label(mask, np.ones((3, 3), bool))
    for number in range(1, count + 1):
        share = coverage(regions == number)
        if not shrunk[share > 0].any():
            shrunk[np.unravel_index(share.argmax(), share.shape)] = True
    return shrunk
