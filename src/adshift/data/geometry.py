"""The geometry that brings images and masks to the network's input, and anomaly maps back.

Notation: H x W pixels of an image, h x w of the network's input.
"""

import numpy as np
from PIL import Image

from adshift.data import masks
from adshift.data.shapes import Size, content, sides
from adshift.errors import AdshiftError


def fit(array: np.ndarray, resize: Size, crop: Size | None = None) -> np.ndarray:
    """Squeeze an image or a mask, whatever its aspect, then cut the centre out.

    Args:
        array: (H, W, 3) uint8 image, or (H, W) bool mask.
        resize: size in pixels, a square's side or height and width; bilinear and antialiased for images,
            `masks.shrink` for masks.
        crop: size of the centre crop in pixels; none keeps all.

    Returns:
        (h, w, 3) uint8 or (h, w) bool, of the size `crop` or `resize`.

    Raises:
        AdshiftError: the crop is larger than what it is cut from.
    """
    height, width = sides(resize)
    cut = sides(resize if crop is None else crop)
    if cut[0] > height or cut[1] > width:
        raise AdshiftError(
            f"features.crop: {crop} pixels cannot be cut from {resize}", "set it to features.resize or less"
        )
    if array.dtype == bool:
        whole = masks.shrink(array, height, width)
    else:
        whole = np.asarray(Image.fromarray(array).resize((width, height), Image.Resampling.BILINEAR))
    top, left = round((height - cut[0]) / 2), round((width - cut[1]) / 2)
    return np.ascontiguousarray(whole[top : top + cut[0], left : left + cut[1]])


def unfit(array: np.ndarray, resize: Size, height: int, width: int) -> np.ndarray:
    """A map in the geometry of the network's input laid over its image: the inverse of `fit`.

    Args:
        array: (h, w) float32 map.
        resize: size that the image was squeezed to; the map's where nothing was cut off.
        height, width: of the image, in pixels.

    Returns:
        (H, W) float32, bilinear; what the network did not see has the smallest value.
    """
    high, wide = sides(resize)
    rows, columns = array.shape
    top, left = round((high - rows) / 2), round((wide - columns) / 2)
    whole = np.full((high, wide), array.min(), dtype=np.float32)
    whole[top : top + rows, left : left + columns] = array
    return np.asarray(Image.fromarray(whole).resize((width, height), Image.Resampling.BILINEAR))


def network_input(image: np.ndarray, resize: Size, crop: Size | None = None, mode: str = "squeeze") -> np.ndarray:
    """An image as the network sees it.

    Args:
        image: (H, W, 3) uint8.
        resize: of the network's input, before a crop.
        crop: size of the centre crop, None for none; with `squeeze` alone.
        mode: `features.fit`. `pad` keeps the aspect: the image lies at the top left, and its last row and column are
            repeated beyond it. `squeeze` and `tile` do not keep it.

    Returns:
        (h, w, 3) uint8 of the size `crop`, or `resize` where nothing is cropped.
    """
    if mode != "pad":
        return fit(image, resize, crop)
    height, width = content(image.shape[0], image.shape[1], resize)
    below, beside = sides(resize)[0] - height, sides(resize)[1] - width
    return np.pad(fit(image, (height, width)), ((0, below), (0, beside), (0, 0)), mode="edge")
