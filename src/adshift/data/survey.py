"""Counts of a data set before any work, for messages and warnings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from adshift.data import datasets, listing
from adshift.data.images import shape_of
from adshift.data.listing import Listing
from adshift.data.manifest import UNLABELLED
from adshift.data.settings import Folder
from adshift.data.shapes import Proposal, Size, propose, sides
from adshift.errors import AdshiftError

SHRUNK = 2.0  # the least factor that a message is worth
MEASURED = 200  # images whose size is read, evenly spread


@dataclass(frozen=True)
class Survey:
    """The counts of a data set.

    Attributes:
        listings: {class: listing}; empty for a generated data set.
        counts: images of all classes: `train`, `val` and `good` (normal ones for testing), `defective`, `masks`,
            `unlabelled`.
        classes: number of classes.
        shapes: (H, W) of some images, in pixels.
    """

    listings: Mapping[str, Listing]
    counts: Counter[str]
    classes: int
    shapes: tuple[tuple[int, int], ...] = ()

    def line(self) -> str:
        """A line of text such as `1 class: 260 train, 88 good, 52 defective with 52 masks, 1408 x 512`."""
        count = self.counts
        parts = [f"{count['train']} train" if count["good"] else f"{count['train']} good to split"]
        parts += [f"{count[kind]} {kind}" for kind in ("val", "good") if count[kind]]
        parts += [f"{count['defective']} defective" + f" with {count['masks']} masks" * bool(count["defective"])]
        parts += [f"{count['unlabelled']} unlabelled"] * bool(count["unlabelled"])
        parts += [_sizes(self.shapes)] if self.shapes else []
        return f"{self.classes} class{'es' * (self.classes != 1)}: {', '.join(parts)}"

    def proposal(self) -> Proposal | None:
        """The shape of the network's input that suits these images; None if no shape is known."""
        return propose(self.shapes) if self.shapes else None

    def shrinking(self, resize: Size) -> str:
        """A line that says by how much the images are shrunk; empty if by less than `SHRUNK`.

        Args:
            resize: of the network's input, before the crop.
        """
        by = [max(given / kept for given, kept in zip(shape, sides(resize), strict=True)) for shape in self.shapes]
        if not by or (factor := median(by)) < SHRUNK:
            return ""
        return (
            f"images are shrunk {factor:.1f} times, so small defects may be lost: a larger features.resize keeps them, "
            "and costs time and memory by its area"
        )

    def passed(self) -> str:
        """A line about the files passed over; empty if there are none."""
        return listing.summary(
            {path: kind for one in self.listings.values() for path, kind in one.passed.items()}.values()
        )


def survey(name: str, root: str, classes: Sequence[str], folder: Folder | None = None) -> Survey:
    """Count the images of a data set. Opens only some images, to read their sizes.

    Raises:
        AdshiftError: as `datasets.check`.
    """
    if made := datasets.made(name, root, classes, folder):
        train, good, bad = (len(classes) * count for count in made)
        return Survey({}, Counter(train=train, good=good, defective=bad, masks=bad), len(classes))
    listings = datasets.listings(name, root, classes, folder)
    counts = Counter[str]()
    for one in listings.values():
        defective = one.defective()
        counts += Counter(
            train=len(one.of_part("train")), val=len(one.of_part("val")), good=len(one.of_part("test")),
            defective=len(defective), masks=sum(image.mask is not None for image in defective),
            unlabelled=sum(image.defect == UNLABELLED for image in one.images),
        )  # fmt: skip
    return Survey(
        listings, counts, len(classes), _measured([image.image for one in listings.values() for image in one.images])
    )


def _measured(paths: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    """Shapes of some images. Images that cannot be opened are left out; the scan of all images reports them."""
    measured = []
    for path in paths[:: max(1, len(paths) // MEASURED)]:
        with suppress(AdshiftError):
            measured.append(shape_of(path))
    return tuple(measured)


def _sizes(shapes: Sequence[tuple[int, int]]) -> str:
    """Width and height, or their ranges."""
    ends = [(min(side), max(side)) for side in zip(*shapes, strict=True)]
    return " x ".join(f"{low}" if low == high else f"{low} to {high}" for low, high in reversed(ends))
