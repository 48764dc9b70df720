"""Reading images and masks, and the geometry that brings both to the network's input size.

Pillow and NumPy only. The EXIF orientation is ignored, as every published loader of these data sets does: masks are
drawn on the stored pixels.
"""

import hashlib
import io
import stat
from pathlib import Path

import numpy as np
from PIL import (
    BmpImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from adshift.data.manifest import Item
from adshift.data.shapes import Size, content, sides
from adshift.errors import AdshiftError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
MAX_PIXELS = 100_000_000  # a larger image is taken for a decompression bomb
MAX_BYTES = 2**30  # a larger file is not read; MAX_PIXELS of 16 bits and three channels take 600 MB

# The readers of SUFFIXES and no others, since some of Pillow's start programs.
_READERS = (
    PngImagePlugin.PngImageFile,
    JpegImagePlugin.JpegImageFile,
    BmpImagePlugin.BmpImageFile,
    TiffImagePlugin.TiffImageFile,
    WebPImagePlugin.WebPImageFile,
    PpmImagePlugin.PpmImageFile,
)
_FORMATS = [reader.format for reader in _READERS]


def sha256(path: Path | str) -> str:
    """Hex digest of a file's bytes.

    Raises:
        AdshiftError: it cannot be read.
    """
    return digest(read_bytes(path))


def digest(data: bytes) -> str:
    """Hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def read_bytes(path: Path | str) -> bytes:
    """The bytes of a file.

    Raises:
        AdshiftError: it is missing, unreadable, no plain file (a pipe would be waited for, a device never ends) or
            larger than `MAX_BYTES`.
    """
    path = Path(path)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise AdshiftError(f"{path}: cannot be read (not a plain file)", "take it out of the data set")
        if found.st_size > MAX_BYTES:
            raise AdshiftError(f"{path}: cannot be read (more than {MAX_BYTES // 2**20} MiB)", "replace the file")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        told = getattr(error, "strerror", None) or error
        raise AdshiftError(f"{path}: cannot be read ({told})", "restore the file or mend its rights") from None


def read_image(path: Path | str) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB; see `decode_image`."""
    return decode_image(read_bytes(path), path)


def read_mask(path: Path | str) -> np.ndarray:
    """A mask file as (H, W) bool, true on the defect; see `decode_mask`."""
    return decode_mask(read_bytes(path), path)


def shape_of(path: Path | str) -> tuple[int, int]:
    """Height and width in pixels of an image file, from its header alone.

    Raises:
        AdshiftError: it cannot be read, or is no image.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return image.height, image.width
    except Exception as error:  # a damaged file makes Pillow's readers trip in many ways
        raise AdshiftError(f"{path}: not an image ({error})", "replace the file") from None


def load_image(item: Item) -> np.ndarray:
    """The image of `item` as (H, W, 3) uint8 RGB, its bytes checked against the manifest.

    Raises:
        AdshiftError: the file is missing, damaged or no longer the one that the manifest lists.
    """
    return decode_image(_verified(item.image, item.sha256), item.image)


def load_mask(item: Item) -> np.ndarray:
    """The mask of `item` as (H, W) bool, all false for a normal image, checked as `load_image` does."""
    if not item.mask:
        return np.zeros((item.height, item.width), dtype=bool)
    return decode_mask(_verified(item.mask, item.mask_sha256), item.mask)


def decode_image(data: bytes, path: Path | str) -> np.ndarray:
    """Image bytes as (H, W, 3) uint8 RGB. Grey is repeated, 16 bits are scaled to 8, alpha is dropped.

    Args:
        data: the file's bytes.
        path: named in errors.

    Raises:
        AdshiftError: no image, truncated, larger than `MAX_PIXELS`, animated, or of floating-point pixels.
    """
    image = _open(data, path)
    if image.mode.startswith("I"):
        deep = np.asarray(image).clip(0, 65535).astype(np.uint32)
        image = Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    return np.asarray(_converted(image, "RGB", path))


def decode_pillow(image: Image.Image, name: str) -> np.ndarray:
    """A Pillow image as (H, W, 3) uint8 RGB, as the pipeline reads a file of it.

    Raises:
        AdshiftError: as `decode_image`, or it cannot be written as a TIFF.
    """
    buffer = io.BytesIO()
    try:
        image.save(buffer, "TIFF", compression=None, save_all=False)
    except Exception as error:  # Pillow reads a file late, and its readers trip in many ways
        raise AdshiftError(f"{name}: cannot be read ({error})", "convert it to RGB") from None
    return decode_image(buffer.getvalue(), name)


def decode_mask(data: bytes, path: Path | str) -> np.ndarray:
    """Mask bytes as (H, W) bool: pixels at least half as bright as can be; if there is none, all that are not black.

    This reads 0/255, 0/1 and smoothed masks alike, and masks whose small numbers name the kind of defect (VisA's). A
    black mask is empty. Errors as in `decode_image`.
    """
    image = _open(data, path)
    deep = image.mode.startswith("I")
    if image.mode != "L" and not deep:
        image = _converted(image, "L" if image.mode == "1" else "RGB", path)
    values = np.asarray(image)
    values = values.max(axis=2) if values.ndim == 3 else values
    bright = values >= (32768 if deep else 128)
    return bright if bright.any() else values > 0


def fit(array: np.ndarray, resize: Size, crop: Size | None = None) -> np.ndarray:
    """Squeeze an image or a mask, whatever its aspect, then cut the centre out.

    Args:
        array: (H, W, 3) uint8 image, or (H, W) bool mask.
        resize: size in pixels, a square's side or height and width; bilinear and antialiased for images, nearest for
            masks.
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
    mask = array.dtype == bool
    method = Image.Resampling.NEAREST if mask else Image.Resampling.BILINEAR
    whole = np.asarray(Image.fromarray(array.astype(np.uint8) if mask else array).resize((width, height), method))
    top, left = round((height - cut[0]) / 2), round((width - cut[1]) / 2)
    part = whole[top : top + cut[0], left : left + cut[1]]
    return np.ascontiguousarray(part.astype(bool) if mask else part)


def network_input(image: np.ndarray, resize: Size, crop: Size | None = None, how: str = "squeeze") -> np.ndarray:
    """An image as the network sees it.

    Args:
        image: (H, W, 3) uint8.
        resize: of the network's input, before a crop.
        crop: size of the centre crop, None for none; with `squeeze` alone.
        how: `features.fit`. `pad` keeps the aspect: the image lies at the top left, and its last row and column are
            repeated beyond it. `squeeze` and `tile` do not keep it.

    Returns:
        (h, w, 3) uint8 of the size `crop`, or `resize` where nothing is cropped.
    """
    if how != "pad":
        return fit(image, resize, crop)
    height, width = content(image.shape[0], image.shape[1], resize)
    below, beside = sides(resize)[0] - height, sides(resize)[1] - width
    return np.pad(fit(image, (height, width)), ((0, below), (0, beside), (0, 0)), mode="edge")


def _open(data: bytes, path: Path | str) -> Image.Image:
    remedy = "replace the file, or take it out of the data set"
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        # A phone's JPEG may hold a second picture beside its own; of other files, none of the frames is the image.
        if (frames := getattr(image, "n_frames", 1)) > 1 and image.format in ("PNG", "WEBP", "TIFF"):
            raise AdshiftError(f"{path}: holds {frames} images, not one", "save each in a file of its own")
        image.load()
    except Image.DecompressionBombError:
        limit = f"more than {MAX_PIXELS // 10**6} megapixels"
        raise AdshiftError(f"{path}: {limit}", "reduce or crop the image; it would be shrunk anyway") from None
    except AdshiftError:
        raise
    except Image.UnidentifiedImageError:
        raise AdshiftError(f"{path}: not an image ({len(data)} bytes)", remedy) from None
    except Exception as error:  # a damaged file makes Pillow's readers trip in many ways
        raise AdshiftError(f"{path}: damaged or truncated ({error})", remedy) from None
    if image.mode == "F":
        raise AdshiftError(f"{path}: has floating-point pixels", "save it with 8 or 16 bits a channel")
    return image


def _converted(image: Image.Image, mode: str, path: Path | str) -> Image.Image:
    try:
        return image.convert(mode)
    except Exception as error:  # some colour spaces, or a palette that the file does not have
        raise AdshiftError(f"{path}: its colours cannot be read ({error})", "save it as RGB or grey") from None


def _verified(path: str, expected: str) -> bytes:
    data = read_bytes(path)
    if digest(data) != expected:
        remedy = "restore it (`adshift repair`, if it was made here), or take it with `dvc repro --force prepare`"
        raise AdshiftError(f"{path}: changed since the manifest was written", remedy)
    return data
