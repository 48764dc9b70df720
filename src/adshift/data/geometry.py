"""Geometry: from images and masks to the network's input, and from anomaly maps back to images.

Notation: H x W pixels of an image, h x w of the network's input.
"""

import numpy as np
from PIL import Image

from adshift.data import masks
from adshift.data.shapes import Size, content, sides
from adshift.errors import AdshiftError


def fit(array: np.ndarray, resize: Size, crop: Size | None = None) -> np.ndarray:
    """Squeeze an image or mask of any aspect to `resize`, then crop the centre.

    Args:
        array: (H, W, 3) uint8 image, or (H, W) bool mask.
        resize: size in pixels, a square's side or height and width; bilinear and antialiased for images,
            `masks.shrink` for masks.
        crop: size of the centre crop in pixels; None for no crop.

    Returns:
        (h, w, 3) uint8 or (h, w) bool, of the size `crop` or `resize`.

    Raises:
        AdshiftError: the crop is larger than `resize`.
    """
    height, width = sides(resize)
    cut = sides(resize if crop is None else crop)
    if cut[0] > height or cut[1] > width:
        raise AdshiftError(
            f"features.crop: {crop} pixels cannot be cut from {resize}", "set it to features.resize or less"
        )
    if array.dtype == bool:
        whole = masks.shrink(array, height, width)
    elif array.shape[:2] == (height, width):
        whole = array
    else:
        whole = np.asarray(Image.fromarray(array).resize((width, height), Image.Resampling.BILINEAR))
    top, left = round((height - cut[0]) / 2), round((width - cut[1]) / 2)
    return np.ascontiguousarray(whole[top : top + cut[0], left : left + cut[1]])


def unfit(array: np.ndarray, resize: Size, height: int, width: int) -> np.ndarray:
    """A map of the network's input enlarged to its image: the inverse of `fit`.

    Args:
        array: (h, w) float32 map.
        resize: size that the image was squeezed to; equal to the map's without a crop.
        height, width: of the image, in pixels.

    Returns:
        (H, W) float32, bilinear; outside the crop the smallest value.
    """
    high, wide = sides(resize)
    rows, columns = array.shape
    top, left = round((high - rows) / 2), round((wide - columns) / 2)
    whole = np.full((high, wide), array.min(), dtype=np.float32)
    whole[top : top + rows, left : left + columns] = array
    return np.asarray(Image.fromarray(whole).resize((width, height), Image.Resampling.BILINEAR))


def network_input(image: np.ndarray, resize: Size, crop: Size | None = None, mode: str = "squeeze") -> np.ndarray:
    """The network's input of an image.

    Args:
        image: (H, W, 3) uint8.
        resize: of the network's input, before a crop.
        crop: size of the centre crop, None for none; only with `squeeze`.
        mode: `features.fit`. `pad` keeps the aspect: the image lies at the top left, and its last row and column are
            repeated beyond it. `squeeze` and `tile` do not keep it.

    Returns:
        (h, w, 3) uint8 of the size `crop`, or `resize` without a crop.
    """
    if mode != "pad":
        return fit(image, resize, crop)
    height, width = content(image.shape[0], image.shape[1], resize)
    below, beside = sides(resize)[0] - height, sides(resize)[1] - width
    return np.pad(fit(image, (height, width)), ((0, below), (0, beside), (0, 0)), mode="edge")
