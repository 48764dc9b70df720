"""Run a frozen network on images and store the feature maps, for `adshift.features.store.Features.open`."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from adshift.data.geometry import network_input
from adshift.data.images import load_image
from adshift.data.manifest import Item
from adshift.data.shapes import compact, content, sides
from adshift.errors import AdshiftError
from adshift.features.backbones import Backbone
from adshift.features.kept import Kept, Row, runs
from adshift.features.settings import Features as Settings
from adshift.features.store import IMAGES, levels_of
from adshift.runtime import checksums, device
from adshift.runtime.files import write_json
from adshift.runtime.parallel import map_ordered, thread_count, torch_threads

# Threads that decode for a card. Sixteen are not faster than eight (docs/devices.md): they wait for the interpreter's
# lock, and so do the threads that give the card its work.
DECODERS = 8
IMAGES_FILE = "images.npy"  # the network's inputs, if `features.images` is true


class Normalise(Protocol):
    """Brings intensities to a reference, such as `adshift.data.normalising.Reference`; imported by its users alone."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(h, w, 3) uint8 of (h, w, 3) uint8."""

    def to_dict(self) -> dict[str, Any]:
        """The reference, for the features' spec."""


@torch_threads(1)
def embed(
    items: list[Item],
    backbone: Backbone,
    folder: Path,
    *,
    what: str,
    kept: Kept | None = None,
    load: Callable[[Item], np.ndarray] = load_image,
    normalise: Normalise | None = None,
    levels: Sequence[int] | None = None,
) -> int:
    """Write the feature maps of `items`, one array (N, H, W, C) per layer, and features.json; images if set.

    Batches are fixed by the order of the images. Each runs on one thread and writes its own rows, so the bytes do not
    depend on the number of threads, and memory does not grow with the number of images. Rows of an earlier run are
    copied if the network gives three of them again, to the bit: alone, in the first batch and in the last one.

    Args:
        items: N images.
        backbone: the network.
        folder: to write to; it must not exist.
        what: for the progress bar.
        kept: rows of an earlier run.
        load: the image of an item, (H, W, 3) uint8.
        normalise: applied to the network's inputs.
        levels: of the layers to store, ascending, counted from 1; all if not given.

    Returns:
        Number of rows copied.

    Raises:
        AdshiftError: an image changed or cannot be read, or values overflow the stored type.
    """
    settings = backbone.settings
    folder.mkdir(parents=True)
    spec = spec_of(backbone, items[0].bits if items else 16, normalise, levels)
    files = _files(folder, spec, settings, len(items))
    earlier = kept.find(items, spec) if kept else {}
    again = probes(list(earlier))
    with ExitStack() as stack:
        writers = {level: RowWriter(*file) for level, file in files.items()}
        for writer in writers.values():
            stack.callback(writer.close)

        def work(indices: list[int]) -> None:
            images = np.stack([network_inputs(load(items[index]), settings, normalise) for index in indices])
            made = backbone(images, as_stored(settings.dtype, f"{items[indices[0]].name}..."))
            maps = {IMAGES: images, **dict(enumerate(made, start=1))}
            for level, writer in writers.items():
                for index, row in zip(indices, maps[level], strict=True):
                    writer.write(index, row[None])

        done = _copied({index: row for index, row in earlier.items() if index not in again}, writers)
        new = [index for index in range(len(items)) if index not in done and index not in again]
        map_ordered(work, batches(new, again, settings.batch), what=what, unit="batch", threads=_threads())
    if not all(_same(earlier[index], writers, index) for index in again):
        shutil.rmtree(folder)
        return embed(items, backbone, folder, what=what, load=load, normalise=normalise, levels=levels)
    _write_record(folder, spec, list(writers.values()), items, padded=settings.fit == "pad")
    return len(done) + len(again)


def _same(row: Row, writers: Mapping[int, "RowWriter"], index: int) -> bool:
    """Whether a row was computed again to the bit."""
    return all(writer.checksums[index] == row.checksum(level) for level, writer in writers.items())


def probes(kept: Sequence[int]) -> list[int]:
    """Three of the kept images: the first, one in the middle and the last; fewer of fewer."""
    return sorted({kept[0], kept[len(kept) // 2], kept[-1]}) if kept else []


def batches(new: Sequence[int], again: Sequence[int], size: int) -> list[list[int]]:
    """Batches of the new images. The probes are at the start of the first, at the end of the last, and alone."""
    ends = [index for index in again if index != again[len(again) // 2]]
    alone = [[index] for index in again if index not in ends]
    row = [*ends[:1], *new, *ends[1:]]
    return [*alone, *(row[start : start + size] for start in range(0, len(row), size))]


def _threads() -> int:
    return min(thread_count(), DECODERS) if device.on_card() else thread_count()


def _copied(earlier: Mapping[int, Row], writers: Mapping[int, "RowWriter"]) -> set[int]:
    """Copy rows of an earlier run; the indices of those that are sound."""

    def copy(run: range) -> list[int]:
        try:
            read = [earlier[run.start].read(level, len(run)) for level in writers]
        except AdshiftError:  # one of them is damaged
            return [index for one in run for index in copy(range(one, one + 1))] if len(run) > 1 else []
        for writer, (rows, sums) in zip(writers.values(), read, strict=True):
            writer.write(run.start, rows, sums)
        return list(run)

    return {index for run in map_ordered(copy, runs(earlier), what="kept rows", unit="batch") for index in run}


def _write_record(
    folder: Path, spec: Mapping[str, Any], writers: list["RowWriter"], items: list[Item], padded: bool
) -> None:
    """Write features.json."""
    record = {**spec, "checksums": {writer.path.name: writer.checksums for writer in writers}}
    if padded:
        record["content"] = [content(item.height, item.width, spec["size"]) for item in items]
    write_json(folder / "features.json", {**record, "names": [item.name for item in items]}, checksum=True)


def _files(
    folder: Path, spec: Mapping[str, Any], settings: Settings, count: int
) -> dict[int, tuple[Path, str, tuple[int, ...]]]:
    """{level, or IMAGES: (path, type, shape)} of the arrays of `count` images."""
    files: dict[int, tuple[Path, str, tuple[int, ...]]] = {}
    for level in levels_of(spec):
        layer = spec["layers"][level - 1]
        files[level] = folder / layer["file"], settings.dtype, (count, *layer["shape"])
    if settings.images:
        files[IMAGES] = folder / IMAGES_FILE, "uint8", (count, *sides(spec["size"]), 3)
    return files


def spec_of(
    backbone: Backbone, bits: int = 16, normalise: Normalise | None = None, levels: Sequence[int] | None = None
) -> dict[str, Any]:
    """The spec of a backbone's features for a camera of `bits`, as in features.json; `levels` None for all."""
    settings = backbone.settings
    size = settings.crop or settings.resize
    shapes = [maps.shape[1:] for maps in backbone(np.zeros((1, *sides(size), 3), np.uint8))]
    preprocessing: dict[str, Any] = {
        "resize": settings.resize,
        "crop": settings.crop,
        "mean": settings.mean,
        "std": settings.std,
    }
    if settings.fit != "squeeze":
        preprocessing["fit"] = settings.fit
    if settings.tiles is not None:
        preprocessing["tiles"] = settings.tiles
    if normalise:
        preprocessing["normalise"] = normalise.to_dict()
    return {
        **backbone.record,
        "preprocessing": preprocessing,
        "bits": bits,
        "size": compact(size),
        "dtype": settings.dtype,
        "layers": [
            {"name": name, "file": f"level{level}.npy", "shape": shape}
            for level, (name, shape) in enumerate(zip(backbone.names, shapes, strict=True), start=1)
        ],
        **({"images": IMAGES_FILE} if settings.images else {}),
        **({"stored": list(levels)} if levels and len(levels) < len(shapes) else {}),
    }


def network_inputs(image: np.ndarray, settings: Settings, normalise: Normalise | None = None) -> np.ndarray:
    """The network's input of an (H, W, 3) uint8 image: (h, w, 3) uint8."""
    pixels = network_input(image, settings.resize, settings.crop, settings.fit)
    return normalise(pixels) if normalise else pixels


def as_stored(dtype: str, name: str) -> Callable[[Any], Any]:
    """A conversion of feature maps to the type in which they are stored.

    Args:
        dtype: float16 or float32.
        name: of the image, for the error.

    Returns:
        A function of a float32 tensor on any device. It raises AdshiftError if a value overflows, or is not finite.
    """

    def convert(maps: Any) -> Any:
        import torch

        kind = getattr(torch, dtype)
        ends = torch.stack(torch.aminmax(maps)).to(kind)  # rounding keeps the order: if these are finite, all are
        if not torch.isfinite(ends).all():
            raise AdshiftError(f"{name}: features overflow {dtype}", "set features.dtype: float32 and fit anew")
        return maps.to(kind)

    return convert


class RowWriter:
    """An array file (N, ...) that threads fill row by row, with a checksum of each.

    It is written, not memory-mapped: on a full disk a write raises, but access to a mapped page kills the process.
    """

    def __init__(self, path: Path, dtype: str, shape: tuple[int, ...]) -> None:
        mapped = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)
        self.path, self.dtype, self.checksums = path, mapped.dtype, [0] * len(mapped)
        self._start, self._step = int(mapped.offset), mapped[0].nbytes
        self._file = os.open(path, os.O_WRONLY)

    def write(self, start: int, values: np.ndarray, known: list[int] | None = None) -> None:
        """Write rows from `start` on: (n, ...) of the file's type; `known` are their checksums, if they were computed.

        Raises:
            OSError: the disk is full.
        """
        values = np.ascontiguousarray(values, self.dtype)
        self.checksums[start : start + len(values)] = known or [checksums.of(row) for row in values]
        data, offset = values.data.cast("B"), self._start + start * self._step
        while data:
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
