"""Feature maps of a frozen backbone: on disk one memory-mapped array a layer, in hand a lazy selection of images.

Notation: N images, H x W positions, C channels of a layer; level 1 is the shallowest layer kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np

from adshift import splits
from adshift.errors import AdshiftError
from adshift.scenarios import features_path, split_path
from adshift.stage import read_json

IMAGES = "images.npy"  # the network's input, where features.images keeps it


@dataclass(frozen=True)
class Features:
    """Feature maps of some images, read when asked for.

    Attributes:
        names: N image names, in order.
        spec: how the maps were made: backbone, weights, preprocessing, layers, network input `size`.
        rows: per image, the arrays {level: (M, H, W, C)} it lies in and its row there; level 0 is the images
            themselves, (M, S, S, 3) uint8, where they are kept.
    """

    names: tuple[str, ...]
    spec: Mapping[str, Any]
    rows: tuple[tuple[Mapping[int, np.ndarray], int], ...]

    @classmethod
    def of(cls, names: Iterable[str], arrays: Mapping[int, np.ndarray], spec: Mapping[str, Any]) -> "Features":
        """All rows of in-memory or memory-mapped arrays {level: (N, H, W, C)}."""
        names = tuple(names)
        if any(len(array) != len(names) for array in arrays.values()):
            raise ValueError(f"{len(names)} names, arrays of {[len(array) for array in arrays.values()]} rows")
        return cls(names, spec, tuple((arrays, row) for row in range(len(names))))

    @classmethod
    def open(cls, folder: Path) -> "Features":
        """A stored set, memory-mapped.

        Raises:
            AdshiftError: a file is missing, damaged or of another shape than recorded.
        """
        spec = read_json(folder / "features.json")
        names = spec.pop("names")
        files = {level: (layer["file"], layer["shape"]) for level, layer in enumerate(spec["layers"], start=1)}
        if "images" in spec:
            files[0] = spec["images"], (spec["size"], spec["size"], 3)
        arrays = {}
        for level, (file, shape) in files.items():
            try:
                array = np.load(folder / file, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise AdshiftError(f"{folder / file}: {error}", "run `dvc repro embed`") from None
            if array.shape != (len(names), *shape):
                raise AdshiftError(f"{folder / file}: shape {array.shape}", "run `dvc repro embed`")
            arrays[level] = array
        return cls.of(names, arrays, spec)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, part: slice) -> "Features":
        return Features(self.names[part], self.spec, self.rows[part])

    def take(self, places: Iterable[int]) -> "Features":
        """The images at these places, in this order."""
        places = tuple(places)
        return Features(tuple(self.names[i] for i in places), self.spec, tuple(self.rows[i] for i in places))

    def __add__(self, other: "Features") -> "Features":
        """Both sets of images in one, for a unified model."""
        if self.spec != other.spec:
            raise AdshiftError("features of two classes were made by different networks", "run `dvc repro embed`")
        return Features(self.names + other.names, self.spec, self.rows + other.rows)

    def select(self, names: Iterable[str]) -> "Features":
        """The images of these names, in this order.

        Raises:
            AdshiftError: a name is not among them.
        """
        place = {name: index for index, name in enumerate(self.names)}
        names = tuple(names)
        missing = [name for name in names if name not in place]
        if missing:
            raise AdshiftError(f"no features of {missing[0]} ({len(missing)} images)", "run `dvc repro embed`")
        return Features(names, self.spec, tuple(self.rows[place[name]] for name in names))

    def maps(self, level: int) -> np.ndarray:
        """Feature maps of one layer: (N, H, W, C) float32, in memory.

        Raises:
            AdshiftError: there is no such level.
        """
        if level < 1 or level not in self.rows[0][0]:
            count = len(self.rows[0][0].keys() - {0})
            raise AdshiftError(f"level {level} of the features, which have {count}", "mend `layers` in params.yaml")
        return np.stack([arrays[level][row] for arrays, row in self.rows]).astype(np.float32)

    def images(self) -> np.ndarray:
        """The network's inputs: (N, S, S, 3) uint8 RGB, in memory.

        Raises:
            AdshiftError: they were not kept.
        """
        if 0 not in self.rows[0][0]:
            raise AdshiftError("the features were stored without the images", "set features.images: true")
        return np.stack([arrays[0][row] for arrays, row in self.rows])


def stored(dataset: str, classes: Iterable[str], domain: str, part: Literal["train", "val", "test"]) -> Features:
    """Stored feature maps of the images that the split gives to `part`, classes pooled."""
    sets = []
    for name in classes:
        names = splits.images_of(splits.read(split_path(dataset, name), domain), part)
        sets.append(Features.open(features_path(dataset, name, domain)).select(names))
    return reduce(Features.__add__, sets)
