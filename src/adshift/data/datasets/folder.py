"""Anybody's folders of images: some of normal ones, maybe some of defective ones, maybe their masks; flat or nested.

    ROOT/NORMAL/**/STEM.png
    ROOT/DEFECTIVE/**/STEM.png         the kind of defect is the first folder below, or else the folder itself
    ROOT/MASKS/**/STEM.png             or STEM_mask.png, in the same folders below as the image, or in none

`dataset.folder` in params.yaml names these folders, relative to the root. One class is in the root itself, if
`class_name` gives it a name; else each folder in the root is a class and holds such folders.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from adshift.data.listing import Candidate, Listing, folders_in
from adshift.data.manifest import GOOD
from adshift.data.settings import Folder

LAYOUT = "the folders of dataset.folder, with images of which normal ones at least are there"
EMPTY_MASKS = False
WHOLE = False


@dataclass(frozen=True)
class Adapter:
    """The data set for one setting of `dataset.folder`."""

    settings: Folder
    LAYOUT: str = LAYOUT
    EMPTY_MASKS: bool = EMPTY_MASKS
    WHOLE: bool = WHOLE

    def classes_under(self, root: Path) -> list[str]:
        """The one class if it has a name, else the folders in the root that hold normal images."""
        if self.settings.class_name:
            return [self.settings.class_name] if any((root / one).is_dir() for one in self.settings.normal) else []
        bases = folders_in(root)
        return [base.name for base in bases if any((base / one).is_dir() for one in self.settings.normal)]

    def candidates(self, root: Path, name: str) -> Listing:
        """Images of a class; a mask where there is one for a defective image."""
        listing, base = Listing(), root if self.settings.class_name else root / name
        defective = [base / one for one in self.settings.defective]
        truth = [] if self.settings.masks is None else [base / self.settings.masks]
        masks = listing.files_below(truth[0]) if truth else {}
        known: set[str] = set()
        for folder, relative, image, key in self._images(listing, base, self.settings.normal, [*defective, *truth]):
            known |= {*_mask_names(folder, relative)}  # black masks of normal images say nothing
            listing.images.append(Candidate("train", GOOD, image, key=key))
        for folder, relative, image, key in self._images(listing, base, self.settings.defective, truth):
            kind = relative.parts[0] if len(relative.parts) > 1 else folder.resolve().name
            mask = listing.mask_of(image, masks, _mask_names(folder, relative))
            listing.images.append(Candidate("test", "defective" if kind == GOOD else kind, image, mask, key))
        lone = [mask for relative, mask in masks.items() if relative not in known and mask not in listing.marked]
        listing.problems += [f"{mask}: is a mask without its image" for mask in lone]
        return listing

    def _images(
        self, listing: Listing, base: Path, folders: Sequence[str], without: Sequence[Path]
    ) -> Iterator[tuple[Path, PurePosixPath, Path, str]]:
        """(folder, path below it without suffix, image, key) of all images in some of the class's folders."""
        for folder in (base / one for one in folders):
            for relative, image in listing.files_below(folder, [one for one in without if one != folder]).items():
                # The path in the folder tells images apart; with several folders, the path in the class's folder does.
                parts = PurePosixPath(relative).parts
                key = "_".join(parts if len(folders) == 1 else (*folder.relative_to(base).parts, *parts))
                yield folder, PurePosixPath(relative), image, key


def adapter(settings: Folder) -> Adapter:
    """The data set as params.yaml describes it."""
    return Adapter(settings)


def _mask_names(folder: Path, relative: PurePosixPath) -> list[str]:
    """What the mask of an image may be called in the folder of the masks, without its suffix, the likeliest first."""
    candidates = (PurePosixPath(folder.name) / relative, relative, PurePosixPath(relative.name))
    return [f"{one}{end}" for one in candidates for end in ("_mask", "")]
