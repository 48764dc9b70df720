"""Reading images and masks.

The EXIF orientation is ignored, as in every published loader of these data sets: masks are drawn on the stored pixels.
`adshift.data.masks` decides which values of a mask mark a defect.

Notation: H x W pixels of an image.
"""

import hashlib
import io
import stat
from dataclasses import dataclass
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

from adshift.data import masks
from adshift.data.manifest import Item
from adshift.errors import AdshiftError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
MAX_PIXELS = 100_000_000  # a larger image counts as a decompression bomb
MAX_BYTES = 2**30  # a larger file is not read; MAX_PIXELS of 16 bits and three channels take 600 MB
BITS = (8, 10, 12, 14, 16)  # depths of cameras, in bits
DARK = 16  # an image whose largest value is below 1 / DARK of its range is nearly black

# Only the readers of SUFFIXES: some of Pillow's other readers start programs.
_READERS = (
    PngImagePlugin.PngImageFile,
    JpegImagePlugin.JpegImageFile,
    BmpImagePlugin.BmpImageFile,
    TiffImagePlugin.TiffImageFile,
    WebPImagePlugin.WebPImageFile,
    PpmImagePlugin.PpmImageFile,
)
FORMATS = [reader.format for reader in _READERS]


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
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise AdshiftError(f"{path}: cannot be read (not a plain file)", "take it out of the data set")
        if status.st_size > MAX_BYTES:
            raise AdshiftError(f"{path}: cannot be read (more than {MAX_BYTES // 2**20} MiB)", "replace the file")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise AdshiftError(f"{path}: cannot be read ({reason})", "restore the file or change its permissions") from None


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image file.

    Attributes:
        values: (H, W, 3) uint8 RGB, or (H, W) int32 if the file has more than 8 bits per pixel.
        peak: the largest value in the file; for a color file with 16 bits per channel, of the upper 8 bits.
        transparent: whether some pixels are more transparent than others. Alpha itself is dropped.
    """

    values: np.ndarray
    peak: int
    transparent: bool

    @property
    def deep(self) -> bool:
        """Whether `values` have more than 8 bits, so that `dataset.bits` determines how they are read."""
        return self.values.ndim == 2

    def pixels(self, bits: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB; values of a deep file are scaled from `bits` to 8 and clipped to that range."""
        if not self.deep:
            return self.values
        largest = 2**bits - 1
        grey = (self.values.clip(0, largest) * 255 + largest // 2) // largest
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)

    def misfit(self, bits: int) -> str:
        """The function `misfit` for this image."""
        return misfit(self.peak, bits if self.deep else 8)


def misfit(peak: int, bits: int) -> str:
    """Why images with the largest value `peak` are unlikely to have this depth; empty if they may have it."""
    if peak >= 2**bits:
        return f"values up to {peak} are clipped to {bits} bits (0 to {2**bits - 1})"
    if peak < 2**bits // DARK:
        return f"no value above {peak}, less than a sixteenth of {bits} bits (0 to {2**bits - 1})"
    return ""


def bits_of(peak: int) -> int:
    """The smallest of BITS that holds the largest value of a set; 16 if none does."""
    return next((bits for bits in BITS if peak < 2**bits), BITS[-1])


def read(path: Path | str) -> Picture:
    """Read and decode an image file; see `decode`."""
    return decode(read_bytes(path), path)


def read_image(path: Path | str, bits: int = 16) -> np.ndarray:
    """Read an image file as (H, W, 3) uint8 RGB; see `decode_image`."""
    return decode_image(read_bytes(path), path, bits)


def read_mask(path: Path | str) -> np.ndarray:
    """Read a mask file as (H, W) bool, true on the defect; see `decode_mask`."""
    return decode_mask(read_bytes(path), path)


def shape_of(path: Path | str) -> tuple[int, int]:
    """Height and width in pixels of an image file, from its header alone.

    Raises:
        AdshiftError: it cannot be read, or is no image.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.height, image.width
    except Exception as error:  # a damaged file makes Pillow's readers trip in many ways
        raise AdshiftError(f"{path}: not an image ({error})", "replace the file") from None


def load_image(item: Item) -> np.ndarray:
    """The image of `item` as (H, W, 3) uint8 RGB, its bytes checked against the manifest.

    Raises:
        AdshiftError: the file is missing, damaged or no longer the one that the manifest lists.
    """
    return decode_image(_verified(item.image, item.sha256), item.image, item.bits)


def load_mask(item: Item) -> np.ndarray:
    """The mask of `item` as (H, W) bool, all false for a normal image, checked as `load_image` does."""
    if not item.mask:
        return np.zeros((item.height, item.width), dtype=bool)
    return decode_mask(_verified(item.mask, item.mask_sha256), item.mask)


def decode(data: bytes, path: Path | str) -> Picture:
    """A file's bytes as a `Picture`.

    Args:
        data: the file's bytes.
        path: named in errors.

    Raises:
        AdshiftError: no image, truncated, larger than `MAX_PIXELS`, animated, or of floating-point pixels.
    """
    image = _open(data, path)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int32)
        return Picture(values, int(values.max()), transparent=False)
    alpha = _alpha(image, path)
    values = np.asarray(_converted(image, "RGB", path))
    return Picture(values, int(values.max()), transparent=alpha is not None and bool(alpha.min() < alpha.max()))


def decode_image(data: bytes, path: Path | str, bits: int = 16) -> np.ndarray:
    """Image bytes as (H, W, 3) uint8 RGB. Grey is repeated, more bits are scaled to 8, alpha is dropped.

    Args:
        data: the file's bytes.
        path: named in errors.
        bits: of the camera, for a file with more than 8 bits per pixel.

    Raises:
        AdshiftError: as `decode`.
    """
    return decode(data, path).pixels(bits)


def decode_pillow(image: Image.Image, name: str) -> Picture:
    """A Pillow image, decoded as the pipeline would decode a file of it.

    Raises:
        AdshiftError: as `decode_image`, or it cannot be written as a TIFF.
    """
    buffer = io.BytesIO()
    try:
        image.save(buffer, "TIFF", compression=None, save_all=False)
    except Exception as error:  # Pillow reads a file late, and its readers raise many kinds of errors
        raise AdshiftError(f"{name}: cannot be read ({error})", "convert it to RGB") from None
    return decode(buffer.getvalue(), name)


def decode_mask(data: bytes, path: Path | str) -> np.ndarray:
    """Mask bytes as (H, W) bool, true for pixels that are not black (`masks.marked` describes soft edges).

    The brightest channel of a color counts. If the alpha channel varies, transparent pixels are background; if the
    colors then mark nothing, as in a black drawing on a transparent ground, alpha alone is the mask. Errors as in
    `decode`.
    """
    image = _open(data, path)
    if image.mode.startswith("I"):
        return masks.marked(np.asarray(image).astype(np.int32), lossy=False)
    alpha = _alpha(image, path)
    color = np.asarray(_converted(image, "RGB", path)).max(axis=2)
    if alpha is not None and alpha.min() < alpha.max():
        over_black = np.minimum(color, alpha)
        color = over_black if over_black.any() else alpha
    return masks.marked(color, lossy=_lossy(image, data))


def _open(data: bytes, path: Path | str) -> Image.Image:
    remedy = "replace the file, or take it out of the data set"
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        # A phone's JPEG may hold a second picture beside the image. In other files with frames, no frame is the image.
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
    except Exception as error:  # an unsupported colour space, or a missing palette
        raise AdshiftError(f"{path}: its colours cannot be read ({error})", "save it as RGB or grey") from None


def _alpha(image: Image.Image, path: Path | str) -> np.ndarray | None:
    """(H, W) uint8, 0 for transparent; None if the file has no alpha channel and no transparent color."""
    if not image.has_transparency_data:
        return None
    return np.asarray(_converted(image, "RGBA", path))[..., 3]


def _lossy(image: Image.Image, data: bytes) -> bool:
    """Whether the file's compression is lossy, so that black pixels may have become nearly black."""
    if image.format == "WEBP":
        return b"VP8L" not in data[:4096]  # the name of the lossless bitstream, at most after an extended header
    return image.format == "JPEG" or "jpeg" in str(image.info.get("compression", ""))


def _verified(path: str, expected: str) -> bytes:
    data = read_bytes(path)
    if digest(data) != expected:
        remedy = "restore it (`adshift repair`, if it was made here), or take it with `dvc repro --force prepare`"
        raise AdshiftError(f"{path}: changed since the manifest was written", remedy)
    return data
