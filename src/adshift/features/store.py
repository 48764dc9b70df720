"""Stored feature maps of a frozen backbone: one memory-mapped array per layer, and lazy selections of images.

Every image of every layer has a checksum in features.json. It is checked when a row is first read, so that no file is
read only for the check.

Notation: N images, H x W positions, C channels of a layer; level 1 is the shallowest layer kept.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from adshift.data.shapes import positions, sides
from adshift.errors import AdshiftError
from adshift.features.settings import Options
from adshift.runtime import checksums
from adshift.runtime.files import read_json

IMAGES, CONTENT = 0, -1  # keys beside the levels: the network's inputs, and the size of their content
# Pixels per side that params.yaml allows, and numbers of channels and layers that no network exceeds.
LARGEST, MOST_CHANNELS, MOST_LAYERS = 2048, 65536, 100


class Rows:
    """A memory-mapped array. Each row is checked when it is first read.

    Attributes:
        file: of the array.
        array: (N, ...).
        expected: checksum of each row; None if none were stored.
    """

    def __init__(self, file: Path, array: np.ndarray, expected: Sequence[int] | None) -> None:
        self.file, self.array, self.expected = file, array, expected
        self._seen = bytearray(len(array))

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, row: int) -> np.ndarray:
        """A row.

        Raises:
            AdshiftError: its bytes differ from those that were written.
        """
        values: np.ndarray = self.array[row]
        if self.expected is not None and not self._seen[row]:
            if checksums.of(np.ascontiguousarray(values)) != self.expected[row]:
                raise AdshiftError(f"{self.file}: damaged in row {row}", checksums.REMEDY)
            self._seen[row] = 1
        return values


@dataclass(frozen=True)
class Features:
    """Feature maps of some images, read on demand.

    Attributes:
        names: N image names, in order.
        spec: of the maps: backbone, weights, preprocessing, layers, network input `size`.
        rows: per image, its arrays or `Rows` {level: (M, H, W, C)} and its row in them. The key IMAGES has the
            network's inputs, (M, h, w, 3) uint8, if they are stored; CONTENT has height and width in pixels of the part
            of the input that shows the image, (M, 2), if the rest is padding.
    """

    names: tuple[str, ...]
    spec: Mapping[str, Any]
    rows: tuple[tuple[Mapping[int, np.ndarray | Rows], int], ...]

    @classmethod
    def of(cls, names: Iterable[str], arrays: Mapping[int, np.ndarray | Rows], spec: Mapping[str, Any]) -> "Features":
        """All rows of in-memory or memory-mapped arrays {level: (N, H, W, C)}."""
        names = tuple(names)
        if any(len(array) != len(names) for array in arrays.values()):
            raise ValueError(f"{len(names)} names, arrays of {[len(array) for array in arrays.values()]} rows")
        return cls(names, spec, tuple((arrays, row) for row in range(len(names))))

    @classmethod
    def open(cls, folder: Path) -> "Features":
        """Open a stored set, memory-mapped.

        Raises:
            AdshiftError: a file is missing, damaged or of another shape than recorded.
        """
        spec = read_json(folder / "features.json")
        try:
            names, expected = spec.pop("names"), spec.pop("checksums", {})
            content = _content(spec.pop("content", None), len(names), spec["size"])
            check_spec(spec)
            kept = {level: spec["layers"][level - 1] for level in levels_of(spec)}
            files = {level: (layer["file"], layer["shape"]) for level, layer in kept.items()}
            if "images" in spec:
                files[IMAGES] = spec["images"], (*sides(spec["size"]), 3)
            if wrong := [file for file, _ in files.values() if PurePath(file).name != file]:
                raise ValueError(f"{wrong[0]!a} is no name of a file in this folder")
            if not all(isinstance(name, str) for name in names):
                raise ValueError("names that are no text")
            if any(len(sums) != len(names) for sums in expected.values()):
                raise ValueError("checksums of other images")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            message = f"{folder / 'features.json'}: not how features were made ({error!r})"
            raise AdshiftError(message, checksums.REMEDY) from None
        arrays: dict[int, np.ndarray | Rows] = {} if content is None else {CONTENT: content}
        for level, (file, shape) in files.items():
            try:
                array = np.load(folder / file, mmap_mode="r", allow_pickle=False)
            except Exception as error:  # NumPy parses the header as a Python literal, which raises many kinds of errors
                raise AdshiftError(f"{folder / file}: not readable ({error})", checksums.REMEDY) from None
            expected_type = spec.get("dtype", array.dtype) if level else np.uint8
            known = array.dtype in (np.uint8, np.float16, np.float32)
            if array.shape != (len(names), *shape) or array.dtype != expected_type or not known:
                raise AdshiftError(f"{folder / file}: {array.dtype} {array.shape}, not as written", checksums.REMEDY)
            arrays[level] = Rows(folder / file, array, expected.get(file))
        return cls.of(names, arrays, spec)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, part: slice) -> "Features":
        return Features(self.names[part], self.spec, self.rows[part])

    def take(self, indices: Iterable[int]) -> "Features":
        """The images at these indices, in this order."""
        indices = tuple(indices)
        return Features(tuple(self.names[i] for i in indices), self.spec, tuple(self.rows[i] for i in indices))

    def __add__(self, other: "Features") -> "Features":
        """Both sets of images as one, for a unified model."""
        if self.spec != other.spec:
            raise AdshiftError("features of two classes were made by different networks", "run `dvc repro`")
        return Features(self.names + other.names, self.spec, self.rows + other.rows)

    def select(self, names: Iterable[str]) -> "Features":
        """The images of these names, in this order.

        Raises:
            AdshiftError: a name is not among them.
        """
        index_of = {name: index for index, name in enumerate(self.names)}
        names = tuple(names)
        missing = [name for name in names if name not in index_of]
        if missing:
            raise AdshiftError(f"no features of {missing[0]} ({len(missing)} images)", "run `dvc repro`")
        return Features(names, self.spec, tuple(self.rows[index_of[name]] for name in names))

    def maps(self, level: int) -> np.ndarray:
        """Feature maps of one layer: (N, H, W, C) float32, in memory.

        Raises:
            AdshiftError: the level does not exist.
        """
        if level < 1 or level not in self.rows[0][0]:
            if "stored" in self.spec and 1 <= level <= len(self.spec["layers"]):
                message = f"level {level} of the features is not stored, only {self.spec['stored']}"
                raise AdshiftError(message, "set features.store: all, or let a method of `methods` use it")
            count = len(self.rows[0][0].keys() - {IMAGES, CONTENT})
            raise AdshiftError(f"level {level} of the features, which have {count}", "correct `layers` in params.yaml")
        return np.stack([arrays[level][row] for arrays, row in self.rows]).astype(np.float32)

    def images(self) -> np.ndarray:
        """The network's inputs: (N, h, w, 3) uint8 RGB, in memory.

        Raises:
            AdshiftError: they were not stored.
        """
        if IMAGES not in self.rows[0][0]:
            raise AdshiftError("the features were stored without the images", "set features.images: true")
        return np.stack([arrays[IMAGES][row] for arrays, row in self.rows])

    @property
    def padded(self) -> bool:
        """Whether the inputs may hold padding beside the images."""
        return bool(self.rows) and CONTENT in self.rows[0][0]

    def content(self) -> np.ndarray:
        """Height and width in pixels of the part, at the top left, of each input that shows the image: (N, 2) int64."""
        whole = np.array(sides(self.spec["size"]))
        return np.array([arrays[CONTENT][row] if CONTENT in arrays else whole for arrays, row in self.rows])

    def shown(self, grid: Sequence[int]) -> list[tuple[int, int]]:
        """For each image, numbers of rows and columns of maps (H, W) = `grid` without padding, from the top left."""
        if not self.padded:
            return [(grid[0], grid[1])] * len(self)
        return [positions(one.tolist(), self.spec["size"], grid) for one in self.content()]


def levels_of(spec: Mapping[str, Any]) -> list[int]:
    """The levels that are stored, ascending: all, unless the spec names some."""
    return list(spec.get("stored", range(1, len(spec["layers"]) + 1)))


def check_spec(spec: Mapping[str, Any]) -> None:
    """Refuse a spec that no network can have, before memory is allocated for it.

    Raises:
        KeyError, TypeError, ValueError: a part is missing, or a size is out of range.
    """
    size, layers, backbone = spec["size"], spec["layers"], spec.get("backbone", "")
    if not all(_whole(side, LARGEST) for side in sides(size)):
        raise ValueError(f"size {size!r}: expected 1 to {LARGEST} pixels")
    if not re.fullmatch(r"[\w.-]*", backbone):  # timm would load some names from a hub and run their code
        raise ValueError(f"backbone {backbone!a}: expected letters, digits and _ . -")
    TypeAdapter(Options).validate_python(spec.get("options", {}), strict=True)
    if type(spec.get("bits", 16)) is not int or not 8 <= spec.get("bits", 16) <= 16:
        raise ValueError(f"bits {spec['bits']!r}: expected 8 to 16")
    if not isinstance(layers, list) or not 1 <= len(layers) <= MOST_LAYERS:
        raise ValueError(f"layers: expected a list of 1 to {MOST_LAYERS}")
    stored = levels_of(spec)
    if not stored or stored != sorted(set(stored)) or not all(_whole(level, len(layers)) for level in stored):
        raise ValueError(f"stored {stored}: expected levels of {len(layers)} layers")
    for layer in layers:
        height, width, channels = layer["shape"]
        if not (_whole(height, LARGEST) and _whole(width, LARGEST) and _whole(channels, MOST_CHANNELS)):
            raise ValueError(f"a layer of shape {layer['shape']}")


def _content(values: Any, count: int, size: Any) -> np.ndarray | None:
    """The content sizes of padded inputs in features.json, checked: (N, 2).

    Raises:
        TypeError, ValueError: their number differs from that of the images, or one is larger than the input.
    """
    if values is None:
        return None
    content = np.array(values)
    if content.shape != (count, 2) or content.dtype != np.int64 or (content < 1).any() or (content > sides(size)).any():
        raise ValueError("content that does not fit the inputs")
    return content


def _whole(value: Any, most: int) -> bool:
    return type(value) is int and 1 <= value <= most
