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


@dataclass(frozen=True)
class Features:
    """Feature maps of some images, read when asked for.

    Attributes:
        names: N image names, in order.
        spec: how the maps were made: backbone, weights, preprocessing, layers, network input `size`.
        rows: per image, the arrays {level: (M, H, W, C)} it lies in and its row there.
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
        arrays = {}
        for level, layer in enumerate(spec["layers"], start=1):
            try:
                array = np.load(folder / layer["file"], mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise AdshiftError(f"{folder / layer['file']}: {error}", "run `dvc repro embed`") from None
            if array.shape != (len(names), *layer["shape"]):
                raise AdshiftError(f"{folder / layer['file']}: shape {array.shape}", "run `dvc repro embed`")
            arrays[level] = array
        return cls.of(names, arrays, spec)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, part: slice) -> "Features":
        return Features(self.names[part], self.spec, self.rows[part])

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
        levels = self.rows[0][0]
        if level not in levels:
            raise AdshiftError(
                f"level {level} of the features, which have {len(levels)}", "mend `layers` in params.yaml"
            )
        return np.stack([arrays[level][row] for arrays, row in self.rows]).astype(np.float32)


def stored(dataset: str, classes: Iterable[str], domain: str, part: Literal["train", "val", "test"]) -> Features:
    """Stored feature maps of the images that the split gives to `part`, classes pooled."""
    sets = []
    for name in classes:
        names = splits.images_of(splits.read(split_path(dataset, name)), part)
        sets.append(Features.open(features_path(dataset, name, domain)).select(names))
    return reduce(Features.__add__, sets)
