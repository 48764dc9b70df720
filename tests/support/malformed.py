"""Small malformed images, masks and models, for tests/pipeline/test_bad_input.py and tests/faults/fuzz.py."""

import hashlib
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RGB = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """An image as a file's bytes."""
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG file with a header that says so, whatever follows."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A PNG file whose comment unfolds to 100 MB."""
    comment = b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9)
    row = zlib.compress(bytes(1 + 3))
    return png(1, 1, chunk(b"zTXt", comment), chunk(b"IDAT", row))


def large_png() -> bytes:
    """A PNG file of 30 kB that unfolds to 25 GB, as far as its header tells."""
    return png(120_000, 70_000, chunk(b"IDAT", zlib.compress(bytes(30_000_000), 9)))


def large_bmp() -> bytes:
    data = bytearray(encoded(RGB, "BMP"))
    data[18:26] = struct.pack("<ii", 60_000, 60_000)
    return bytes(data)


def large_jpeg() -> bytes:
    data = bytearray(encoded(RGB, "JPEG"))
    place = data.index(b"\xff\xc0")  # start of frame: length, precision, height, width
    data[place + 5 : place + 9] = struct.pack(">HH", 65_000, 65_000)
    return bytes(data)


def large_webp() -> bytes:
    data = bytearray(encoded(RGB, "WEBP", lossless=True))
    place = data.index(b"VP8L") + 9  # 14 bits each of width - 1 and height - 1
    rest = struct.unpack_from("<I", data, place)[0] >> 28
    data[place : place + 4] = struct.pack("<I", 16_382 | 16_382 << 14 | rest << 28)
    return bytes(data)


def large_tiff() -> bytes:
    data = bytearray(encoded(RGB, "TIFF"))
    first = struct.unpack_from("<I", data, 4)[0]
    for entry in range(struct.unpack_from("<H", data, first)[0]):
        place = first + 2 + 12 * entry
        if struct.unpack_from("<H", data, place)[0] in (256, 257):  # width, height
            data[place + 2 : place + 12] = struct.pack("<HII", 4, 1, 100_000)
    return bytes(data)


def frames(kind: str, **options: Any) -> bytes:
    """An animation, or a file of several pages."""
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    return encoded(first, kind, save_all=True, append_images=[second], **options)


def rewrite(folder: Path, change: Callable[[dict[str, Any], dict[str, np.ndarray]], None]) -> None:
    """A model with its record and arrays changed, and hash, shapes and types made to fit: only their sense is wrong."""
    from safetensors.numpy import load, save

    arrays = load((folder / "model.safetensors").read_bytes())
    record = json.loads((folder / "model.json").read_text())
    record.pop("checksum")  # told elsewhere: tests/faults/test_faults.py
    change(record, arrays)
    content = save({name: np.asarray(array, order="C") for name, array in arrays.items()})
    record["arrays"] = {name: {"shape": array.shape, "dtype": str(array.dtype)} for name, array in arrays.items()}
    record["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "model.safetensors").write_bytes(content)
    (folder / "model.json").write_text(json.dumps(record))
