"""Images through a frozen network into a store of feature maps (`adshift.features.store.Features.open` reads it)."""

import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from adshift.data.images import fit, load_image
from adshift.data.manifest import Item
from adshift.errors import AdshiftError
from adshift.features.backbones import Backbone
from adshift.runtime import checksums
from adshift.runtime.files import write_json
from adshift.runtime.parallel import map_ordered, torch_threads

IMAGES = "images.npy"  # the network's input, where features.images keeps it


@torch_threads(1)
def embed(items: list[Item], backbone: Backbone, folder: Path, *, what: str) -> None:
    """Write the feature maps of `items` as one array (N, H, W, C) a layer, and features.json; the images if asked for.

    Batches are fixed by their position, each runs on one thread and writes its own rows: the bytes do not depend on the
    number of threads, and memory does not grow with the number of images.

    Raises:
        AdshiftError: an image changed or cannot be read, or values overflow the stored type.
    """
    settings = backbone.settings
    folder.mkdir(parents=True)
    size = settings.crop or settings.resize
    shapes = [maps.shape[1:] for maps in backbone(np.zeros((1, size, size, 3), np.uint8))]
    files = [f"level{level}.npy" for level in range(1, len(shapes) + 1)]
    arrays = [
        RowWriter(folder / file, settings.dtype, (len(items), *shape))
        for file, shape in zip(files, shapes, strict=True)
    ]
    kept = [RowWriter(folder / IMAGES, "uint8", (len(items), size, size, 3))] if settings.images else []

    def work(start: int) -> None:
        batch = items[start : start + settings.batch]
        images = np.stack([fit(load_image(item), settings.resize, settings.crop) for item in batch])
        for array in kept:
            array.write(start, images)
        for array, maps in zip(arrays, backbone(images), strict=True):
            array.write(start, stored(maps, settings.dtype, f"{batch[0].name}..."))

    with ExitStack() as stack:
        for array in [*arrays, *kept]:
            stack.callback(array.close)
        map_ordered(work, range(0, len(items), settings.batch), what=what, unit="batch")
    preprocessing = {"resize": settings.resize, "crop": settings.crop, "mean": settings.mean, "std": settings.std}
    layers = [
        {"name": name, "file": file, "shape": shape}
        for name, file, shape in zip(backbone.names, files, shapes, strict=True)
    ]
    record = {
        **backbone.record,
        "preprocessing": preprocessing,
        "bits": items[0].bits if items else 16,
        "size": size,
        "dtype": settings.dtype,
        "layers": layers,
        **({"images": IMAGES} if settings.images else {}),
    }
    record["checksums"] = {array.path.name: array.checksums for array in [*arrays, *kept]}
    write_json(folder / "features.json", {**record, "names": [item.name for item in items]}, checksum=True)


def stored(maps: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """Feature maps in the type that they are kept in.

    Args:
        maps: float32.
        dtype: float16 or float32.
        name: of the image, for the error.

    Raises:
        AdshiftError: a value overflows, or is not finite.
    """
    import torch

    with np.errstate(over="ignore"):
        largest = np.abs(maps).max().astype(dtype)  # rounding keeps the order, so the others are finite if this is
    if not np.isfinite(largest):
        raise AdshiftError(f"{name}: features overflow {dtype}", "set features.dtype: float32 and fit anew")
    values: np.ndarray = torch.from_numpy(maps).to(getattr(torch, dtype)).numpy()  # ten times as fast as NumPy's
    return values


class RowWriter:
    """An array file (N, ...) that threads fill row by row, with a checksum of each.

    Written and not memory-mapped: on a full disk a write fails, where touching a mapped page kills the process.
    """

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...]) -> None:
        mapped = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)
        self.path, self.dtype, self.checksums = path, mapped.dtype, [0] * len(mapped)
        self._start, self._step = int(mapped.offset), mapped[0].nbytes
        self._file = os.open(path, os.O_WRONLY)

    def write(self, start: int, values: np.ndarray) -> None:
        """Write rows from `start` on: (n, ...) of the file's type.

        Raises:
            OSError: the disk is full.
        """
        values = np.ascontiguousarray(values, self.dtype)
        self.checksums[start : start + len(values)] = [checksums.of(row) for row in values]
        data, place = values.data.cast("B"), self._start + start * self._step
        while data:
            written = os.pwrite(self._file, data, place)
            data, place = data[written:], place + written

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
