"""Shapes of images, of the network's input, and of its content, the part that shows the image.

Notation: an image has H x W pixels. A size is a side in pixels, of a square, or a height and a width.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

Size = int | Sequence[int]

STEP = 32  # pixels: the stride of the deepest layer of most networks
MOST = 2048  # pixels per side that params.yaml allows
SQUARE = 1.2  # images with an aspect below this get the proposal of a square


def sides(size: Size) -> tuple[int, int]:
    """Height and width of a size."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def compact(size: Size) -> int | tuple[int, int]:
    """A size as records hold it: a square as its side, so that records of earlier versions stay the same."""
    height, width = sides(size)
    return height if height == width else (height, width)


def content(height: int, width: int, size: Size) -> tuple[int, int]:
    """Height and width in pixels of an H x W image that was scaled, its aspect kept, to fit into `size`."""
    rows, columns = sides(size)
    if rows * width <= columns * height:  # the height limits the scale
        return rows, max(1, round(width * rows / height))
    return max(1, round(height * columns / width)), columns


def positions(shown: Size, size: Size, grid: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a feature map or anomaly map whose centres lie within the content, at least one each.

    Args:
        shown: height and width of the content in pixels, at the top left of the input.
        size: of the network's input.
        grid: rows and columns of the map.
    """
    inside = zip(sides(shown), sides(size), grid, strict=True)
    rows, columns = (max(1, ceil(part * count / whole - 0.5)) for part, whole, count in inside)
    return rows, columns


@dataclass(frozen=True)
class Proposal:
    """A shape of the network's input for some images.

    Attributes:
        resize: for `features.resize`.
        aspect: median of width / height.
        cost: time of the network and number of feature positions, relative to the square.
    """

    resize: int | tuple[int, int]
    aspect: float
    cost: float

    def __str__(self) -> str:
        """The proposal as a line of text."""
        text = f"median aspect {self.aspect:.2f} (width to height)"
        if isinstance(self.resize, int):
            return f"{text}: features.resize {self.resize}"
        height, width = self.resize
        return (
            f"{text}: features.resize [{height}, {width}], which costs {self.cost:.1f} times the time and memory of a "
            f"square of {min(self.resize)}"
        )


def propose(shapes: Iterable[tuple[int, int]], side: int = 224) -> Proposal:
    """The shape of the network's input for the median aspect of some images, with the shorter side `side`.

    The longer side is a multiple of STEP pixels. Nearly square images keep the square, which costs least.

    Args:
        shapes: (H, W) of each image, at least one.
        side: of the square that `cost` refers to.
    """
    aspect = median(width / height for height, width in shapes)
    longer = min(round(side * max(aspect, 1 / aspect) / STEP) * STEP, MOST // STEP * STEP)
    if max(aspect, 1 / aspect) < SQUARE or longer <= side:
        return Proposal(side, aspect, 1.0)
    return Proposal((side, longer) if aspect > 1 else (longer, side), aspect, longer / side)
