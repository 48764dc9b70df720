"""The prediction of an image, and its position in the image.

Notation: H x W pixels of an image, S side of the network's input in pixels, or its height and width.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from adshift.data.shapes import Size, sides


@dataclass(frozen=True)
class Geometry:
    """Position of an anomaly map in the image: it covers the centre of the image squeezed to `resize` (`geometry.fit`).

    This holds for padded inputs too: detectors remove the padding from their maps.

    Attributes:
        height, width: of the image, in pixels.
        resize: size that the image was squeezed to.
        size: S, size of the crop; equal to `resize` without a crop.
    """

    height: int
    width: int
    resize: Size
    size: Size

    @property
    def start(self) -> tuple[int, int]:
        """First row and column of the crop in the squeezed image."""
        (high, wide), (rows, columns) = sides(self.resize), sides(self.size)
        return round((high - rows) / 2), round((wide - columns) / 2)

    @property
    def step(self) -> tuple[float, float]:
        """Height and width of a pixel of the squeezed image, in pixels of the image."""
        high, wide = sides(self.resize)
        return self.height / high, self.width / wide

    def box(self, top: int, left: int, bottom: int, right: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) in the image's pixels, ends excluded, of rows and columns of the map."""
        (down, across), (first_row, first_column) = self.step, self.start
        return (
            math.floor((left + first_column) * across),
            math.floor((top + first_row) * down),
            min(math.ceil((right + first_column) * across), self.width),
            min(math.ceil((bottom + first_row) * down), self.height),
        )

    def enlarge(self, values: np.ndarray, height: int = 0, width: int = 0) -> np.ndarray:
        """A mask or map of size S enlarged to the image; outside the crop it is false, or the smallest value.

        Args:
            values: bool (nearest) or float32 (bilinear).
            height, width: of the result; the image's if not given.
        """
        mask = values.dtype == bool
        (top, left), (rows, columns) = self.start, sides(self.size)
        whole = np.full(sides(self.resize), False if mask else values.min(), dtype=values.dtype)
        whole[top : top + rows, left : left + columns] = values
        picture = Image.fromarray(whole.astype(np.uint8) if mask else whole.astype(np.float32))
        method = Image.Resampling.NEAREST if mask else Image.Resampling.BILINEAR
        return np.asarray(picture.resize((width or self.width, height or self.height), method)).astype(values.dtype)


@dataclass(frozen=True, eq=False)
class Input:
    """An image as the network sees it.

    Attributes:
        name: its path, or a name in place of one.
        pixels: (S, S, 3) uint8 RGB.
        geometry: position of its map in the image.
        seconds: for reading.
        note: why its values are unlikely for the model's camera; empty if they are plausible.
    """

    name: str
    pixels: np.ndarray
    geometry: Geometry
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Region:
    """A connected anomalous part of an image.

    Attributes:
        box: (left, top, right, bottom) in the image's pixels, right and bottom excluded.
        area: in the image's pixels.
        peak: largest value of the anomaly map in it.
    """

    box: tuple[int, int, int, int]
    area: float
    peak: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction of an image.

    Attributes:
        name: the image's path, or `image K` if it has none.
        score: raw, the larger the more anomalous.
        threshold: score from which on an image is anomalous.
        anomalous: the verdict.
        anomaly_map: (S, S) float32, of the whole image or its centre: `geometry`.
        map_threshold: value of the map from which on a pixel is anomalous, see `Model.map_threshold`.
        seconds: for reading, and its share of the time of network and scoring for its batch.
        regions: of `mask`, largest peak first; none for a normal image.
        geometry: position of the map in the image.
        note: why the image's values are unlikely for the model's camera; empty if they are plausible.
        features: (D,) float32, feature maps averaged over positions, comparable to `Model.reference`.
    """

    name: str
    score: float
    threshold: float
    anomalous: bool
    anomaly_map: np.ndarray
    map_threshold: float
    seconds: float
    regions: tuple[Region, ...]
    geometry: Geometry
    note: str = ""
    features: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    def mask(self) -> np.ndarray:
        """(H, W) bool, true for anomalous pixels; all false for a normal image."""
        return self.geometry.enlarge(mask_of(self.anomaly_map, self.map_threshold, self.anomalous))


def mask_of(anomaly_map: np.ndarray, limit: float, anomalous: bool) -> np.ndarray:
    """(S, S) bool: where the map reaches `limit`.

    A normal image has no such pixel, an anomalous one at least its peak: the mask never contradicts the verdict.
    """
    if not anomalous:
        return np.zeros(anomaly_map.shape, dtype=bool)
    return anomaly_map >= min(limit, float(anomaly_map.max()))


def regions_of(anomaly_map: np.ndarray, limit: float, anomalous: bool, geometry: Geometry) -> tuple[Region, ...]:
    """Connected regions, largest peak first. Pixels that touch at a corner are connected."""
    if not anomalous:
        return ()
    labels = components(mask_of(anomaly_map, limit, anomalous))
    pixel = geometry.width * geometry.height / math.prod(sides(geometry.resize))
    rows, columns = np.nonzero(labels)
    order = np.argsort(labels[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    starts = np.flatnonzero(np.diff(labels[rows, columns], prepend=0))
    regions = []
    for down, across in zip(np.split(rows, starts[1:]), np.split(columns, starts[1:]), strict=True):
        box = geometry.box(int(down[0]), int(across.min()), int(down[-1]) + 1, int(across.max()) + 1)
        regions.append(Region(box, float(len(down)) * pixel, float(anomaly_map[down, across].max())))
    return tuple(sorted(regions, key=lambda region: (-region.peak, region.box)))


def components(mask: np.ndarray) -> np.ndarray:
    """Connected components of an (H, W) bool mask, by its rows' runs: (H, W) int32, 0 outside, equal in a component."""
    height, width = mask.shape
    changes = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(changes == 1)
    ends = np.nonzero(changes == -1)[1]
    parents = list(range(len(rows)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = run = parents[parents[run]]
        return run

    first = np.searchsorted(rows, np.arange(height + 1)).tolist()
    for row in range(1, height):
        above, below = first[row - 1], first[row]
        while above < first[row] and below < first[row + 1]:
            if starts[above] <= ends[below] and starts[below] <= ends[above]:  # they overlap, or touch at a corner
                parents[root(below)] = root(above)
            above, below = (above + 1, below) if ends[above] < ends[below] else (above, below + 1)
    ids = np.array([root(run) + 1 for run in range(len(rows))], np.int32)
    labels = np.zeros((height, width), np.int32)
    labels[mask] = np.repeat(ids, ends - starts)
    return labels
