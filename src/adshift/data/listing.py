"""Listings of a data set's images on disk, without opening them. The adapters in `datasets/` return them.

Names are compared in Unicode's normal form NFC, since a file system may return the other one. Files that are no images
by name are passed over and counted, as are hidden files and those of operating systems and storage servers. An image in
a format that is not read here is a problem: passing over it would silently lose a sample.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adshift.data.class_names import same
from adshift.data.image_files import kind_passed_over
from adshift.data.images import SUFFIXES
from adshift.data.manifest import GOOD, UNLABELLED
from adshift.errors import AdshiftError

UNREAD = (".avif", ".cr2", ".cr3", ".dng", ".exr", ".gif", ".heic", ".heif", ".jp2", ".nef", ".npy", ".raw", ".svg")
KINDS_SHOWN = 8


@dataclass(frozen=True)
class Candidate:
    """An image on disk that has not been opened yet.

    Attributes:
        part: `train`, `val` or `test`, as in the data set; without one, normal images are in train, others in test.
        defect: its type, `GOOD` for a normal image, `UNLABELLED` for an unknown one.
        image: its path.
        mask: path of its mask; None for a normal image, and for a defect without a mask.
        key: identifies it within its part and defect, without a slash; empty for the file's stem.
        listed: further columns of the list that names it.
    """

    part: str
    defect: str
    image: Path
    mask: Path | None = None
    key: str = ""
    listed: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        return f"{self.part}/{self.defect}/{same(self.key or self.image.stem)}"


@dataclass
class Listing:
    """The files of a class.

    Attributes:
        images: candidates.
        problems: one line per mistake, which names the file.
        passed: {file or folder that was passed over: its kind}.
        marked: {mask: the image that it belongs to}.
    """

    images: list[Candidate] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    passed: dict[Path, str] = field(default_factory=dict)
    marked: dict[Path, Path] = field(default_factory=dict)

    def mask_of(self, image: Path, masks: Mapping[str, Path], names: Iterable[str]) -> Path | None:
        """The first of `names` among the masks; a mask of two images is a problem."""
        mask = next((masks[name] for name in names if name in masks), None)
        if mask and self.marked.setdefault(mask, image) != image:
            self.problems.append(f"{mask}: may be the mask of {self.marked[mask]} or of {image}; rename one")
        return mask

    def files_in(self, folder: Path, suffixes: Sequence[str] = SUFFIXES) -> dict[str, Path]:
        """Images of `suffixes` directly in a folder by stem, sorted; none if it is not there.

        Two files of one stem, an image that is not read here and a folder among the images are problems.
        """
        paths: dict[str, Path] = {}
        for path in self._visible(folder):
            if path.is_dir():
                self.problems.append(f"{path}: a folder among the images; images lie directly in {folder}")
            elif self._is_image(path) and path.suffix.lower() in suffixes:
                self._keep(paths, same(path.stem), path)
        return paths

    def files_below(self, folder: Path, without: Iterable[Path] = ()) -> dict[str, Path]:
        """Images in a folder and all folders in it, by their path in it without the suffix, sorted.

        Args:
            folder: where to look; none are found if it is not there.
            without: folders that are left out.
        """
        paths: dict[str, Path] = {}
        left_out = set(without)
        for path in self._below(folder, left_out, set()):
            if self._is_image(path):
                self._keep(paths, same(path.relative_to(folder).with_suffix("").as_posix()), path)
        return paths

    def _below(self, folder: Path, left_out: set[Path], seen: set[Path]) -> Iterator[Path]:
        seen.add(folder.resolve())  # a link may lead to a folder above
        for path in self._visible(folder):
            if not path.is_dir():
                yield path
            elif path not in left_out and path.resolve() not in seen:
                yield from self._below(path, left_out, seen)

    def _visible(self, folder: Path) -> Iterator[Path]:
        for path in entries_of(folder):
            if kind := kind_passed_over(path.name, folder=False):
                self.passed[path] = kind
            else:
                yield path

    def _is_image(self, path: Path) -> bool:
        suffix = path.suffix.lower()
        if suffix in UNREAD:
            self.problems.append(f"{path}: not an image that is read here ({' '.join(SUFFIXES)})")
        elif suffix not in SUFFIXES:
            self.passed[path] = suffix or "without suffix"
        return suffix in SUFFIXES

    def _keep(self, paths: dict[str, Path], key: str, path: Path) -> None:
        if key in paths:
            self.problems.append(f"{path}: has the same stem as {paths[key].name}; rename one")
        else:
            paths[key] = path

    def of_part(self, part: str) -> list[Candidate]:
        """The normal images of a part."""
        return [one for one in self.images if one.part == part and one.defect == GOOD]

    def defective(self) -> list[Candidate]:
        """The images that are known to be defective."""
        return [one for one in self.images if one.defect not in (GOOD, UNLABELLED)]


def summary(passed: Iterable[str]) -> str:
    """A line about the files passed over, from their kinds; empty if there are none."""
    kinds = Counter(passed)
    ordered = sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = [f"{count} {kind}" for kind, count in ordered[:KINDS_SHOWN]]
    if more := len(kinds) - len(shown):
        shown.append(f"{more} more kinds")
    return f"passed over, no images by name: {kinds.total()} ({', '.join(shown)})" if shown else ""


def not_there(paths: Iterable[Path | None], listed_in: Path) -> list[str]:
    """Problems: files that a list of the data set names and that are missing."""
    return [f"{path}: is not there, but listed in {listed_in}" for path in paths if path and not path.is_file()]


def folders_in(folder: Path) -> list[Path]:
    """The visible folders in a folder, sorted; none if it is not there."""
    return [path for path in entries_of(folder) if path.is_dir() and not kind_passed_over(path.name, folder=False)]


def entries_of(folder: Path) -> list[Path]:
    """The entries of a folder, sorted; none if it does not exist.

    Raises:
        AdshiftError: it cannot be read.
    """
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise AdshiftError(f"{folder}: cannot be read ({error.strerror})", "change its permissions") from None


def as_it_lies(path: Path) -> Path:
    """A path from a list in the file system's spelling, each part of which may have either normal form."""
    if path.exists():
        return path
    real = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        spellings = [real / part, *(real / unicodedata.normalize(form, part) for form in ("NFC", "NFD"))]
        real = next((one for one in spellings if one.exists()), spellings[0])
    return real
