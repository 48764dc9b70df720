"""Image files at the places that someone names: what `predict`, `recalibrate`, `drift` and int8's calibration look at.

A folder means all that lies below it: symbolic links to folders are followed, and each real folder is read once, so
that a loop of links ends. What cannot be looked at is a `Closed` place, never passed over in silence. Files that are no
images by name, and what `kind_passed_over` names, are counted; the scan of a data set passes over the same.
"""

import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import has_magic
from pathlib import Path

from adshift.data.images import SUFFIXES, sha256
from adshift.errors import AdshiftError, shown, warn

HIDDEN, SYSTEM, FOLDER = "hidden", "of the system", "folder named like an image"
# What operating systems and storage boxes leave beside images: thumbnails, trash, copies of the files' attributes.
SYSTEMS = re.compile(
    r"@eaDir|@__thumb|@Recycle|@tmp|#recycle|#snapshot|\$RECYCLE\.BIN|__MACOSX|lost\+found|System Volume Information|"
    r"Thumbs\.db|desktop\.ini|.*~",
    re.IGNORECASE,
)
SHOWN = 8  # kinds of files passed over, in one line


@dataclass(frozen=True)
class Closed:
    """A folder or link that cannot be looked at: an image may lie behind it.

    Attributes:
        path: as it was found.
        error: why, and the remedy.
    """

    path: str
    error: AdshiftError

    @classmethod
    def of(cls, path: str, error: OSError) -> "Closed":
        message = f"{path}: cannot be looked at ({error.strerror or error})"
        return cls(path, AdshiftError(message, "change its permissions or the link, or leave it out"))


Entry = str | Closed


class Search:
    """A search at several places.

    Attributes:
        passed: how many files were passed over, by suffix; hidden files and folders are `HIDDEN`.
    """

    def __init__(self) -> None:
        self.passed: Counter[str] = Counter()

    def at(self, sources: Iterable[str], lines: Iterable[str] = ()) -> Iterator[Entry]:
        """Images in order: files as they are, folders to the bottom, patterns, `-` for `lines`.

        What is neither file, folder nor pattern is passed on, to fail by its name.
        """
        for source in sources:
            if source == "-":
                yield from filter(None, (line.rstrip("\r\n") for line in lines))
            elif os.path.isdir(source):  # noqa: PTH112  (false for a name that is too long, where Path's own raises)
                yield from _in_order(_Walk(self.passed).folder(source))
            elif has_magic(source) and not os.path.lexists(source):
                yield from _in_order(_Walk(self.passed).pattern(source)) or [source]
            else:
                yield source

    def summary(self) -> str:
        """What was passed over, in a line; empty if nothing was."""
        kinds = [f"{count} {kind}" for kind, count in self.passed.most_common(SHOWN)]
        if more := len(self.passed) - len(kinds):
            kinds.append(f"{more} more kinds")
        return f"passed over, no images by name: {self.passed.total()} ({', '.join(kinds)})" if kinds else ""


def kind_passed_over(name: str, *, folder: bool) -> str:
    """Why a file or folder of this name is no part of a set of images: its kind; empty where it may be one.

    Args:
        name: without the folders above it.
        folder: whether it is a folder.
    """
    if name.startswith("."):
        return HIDDEN
    if SYSTEMS.fullmatch(name):
        return SYSTEM
    return FOLDER if folder and _is_image(name) else ""


def images(sources: Iterable[str]) -> list[Path]:
    """Images of these files, folders and patterns, each once, sorted, for work that needs all of them.

    Of files with the same bytes the first counts. A line on standard error says what was passed over.

    Raises:
        AdshiftError: a source is missing or cannot be read, or there is no image.
    """
    search, sources = Search(), list(sources)
    entries = list(search.at(sources))
    remedy = "give an image, a folder or a pattern"
    for one in entries:
        if isinstance(one, Closed):
            raise one.error
    paths = sorted({Path(one) for one in entries if isinstance(one, str)})
    if missing := [path for path in paths if not os.path.exists(path)]:  # noqa: PTH110
        raise AdshiftError(f"{missing[0]}: not there", remedy)
    if not paths:
        passed = f"; {search.summary()}" if search.passed else ""
        raise AdshiftError(f"{' '.join(sources)}: no image that is read here ({' '.join(SUFFIXES)}){passed}", remedy)
    if search.passed:
        print(shown(search.summary()), file=sys.stderr)
    return distinct(paths)


def distinct(paths: Iterable[Path]) -> list[Path]:
    """The paths without those whose bytes an earlier one has, which are warned of: one image twice is one image.

    Raises:
        AdshiftError: a file cannot be read.
    """
    first: dict[str, Path] = {}
    again = [(path, first[digest]) for path in paths if first.setdefault(digest := sha256(path), path) != path]
    if again:
        path, same = again[0]
        warn(f"{len(again)} images are copies of others and do not count (first: {path} is {same})")
    return list(first.values())


def _in_order(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda one: one.path if isinstance(one, Closed) else one)


class _Walk:
    """What lies at one place. Each real folder is read to the bottom once, each file given once."""

    def __init__(self, passed: Counter[str]) -> None:
        self.passed = passed
        self.read: set[tuple[int, int]] = set()  # folders, by device and inode
        self.given: set[tuple[tuple[int, int], str]] = set()  # files given or passed over, by folder and name

    def folder(self, path: str) -> Iterator[Entry]:
        """All images below a folder."""
        waiting = [path]
        while waiting:
            top = waiting.pop()
            try:
                key = _key(top)
                names = [] if key in self.read else _entries(top)
            except OSError as error:
                yield Closed.of(top, error)
                continue
            self.read.add(key)
            for name in names:
                path = os.path.join(top, name)  # noqa: PTH118
                if self._passed_over(name, key, folder=False):
                    continue
                is_folder, closed = _looked_at(path)
                if is_folder and self._passed_over(name, key, folder=True):
                    continue
                if is_folder:
                    waiting.append(path)
                elif closed:
                    yield closed
                else:
                    yield from self._file(path, name, key)

    def pattern(self, pattern: str) -> Iterator[Entry]:
        """All images that a pattern names, or that lie below the folders that it names."""
        parts = Path(pattern).parts
        plain = next(number for number, part in enumerate(parts) if has_magic(part))
        yield from self._matches(str(Path(*parts[:plain])) if plain else "", parts[plain:], set())

    def _matches(self, top: str, parts: tuple[str, ...], through: set[tuple[int, int]]) -> Iterator[Entry]:
        """What `parts` name in the folder `top`; `through` are the folders that the `**` at their front led to."""
        part, rest = parts[0], parts[1:]
        try:
            key = _key(top or os.curdir)
            names = _entries(top or os.curdir) if has_magic(part) else [part]
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            yield Closed.of(top, error)
            return
        anywhere = part == "**"
        if anywhere and not rest:
            yield from self.folder(top or os.curdir)
            return
        if anywhere and key in through:
            return
        if anywhere:
            through.add(key)
            yield from self._matches(top, rest, set())
        for name in (one for one in names if one == part or _names(part, one)):
            path = os.path.join(top, name)  # noqa: PTH118
            is_folder, closed = _looked_at(path)
            if not (name == part or name.startswith(".")) and self._passed_over(name, key, folder=is_folder):
                continue  # what someone names in full, or by a pattern for hidden files, is looked at
            if closed:
                yield closed
            elif is_folder and anywhere:
                yield from self._matches(path, parts, through)
            elif is_folder and rest:
                yield from self._matches(path, rest, set())
            elif is_folder:
                yield from self.folder(path)
            elif not rest and os.path.lexists(path):
                yield from self._file(path, name, key)

    def _passed_over(self, name: str, folder_above: tuple[int, int], *, folder: bool) -> bool:
        """Whether a file or folder is passed over; it is counted once."""
        kind = kind_passed_over(name, folder=folder)
        if kind and (folder_above, name) not in self.given:
            self.given.add((folder_above, name))
            self.passed[kind] += 1
        return bool(kind)

    def _file(self, path: str, name: str, folder: tuple[int, int]) -> Iterator[Entry]:
        if (folder, name) in self.given:
            return
        self.given.add((folder, name))
        if _is_image(name):
            yield path
        else:
            self.passed[Path(name).suffix.lower() or "without suffix"] += 1


def _names(part: str, name: str) -> bool:
    """Whether a pattern's part names an entry: a hidden one only if it begins with a dot itself, as in a shell."""
    return fnmatch(name, part) and (part.startswith(".") or not name.startswith("."))


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _key(folder: str) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _entries(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)


def _looked_at(path: str) -> tuple[bool, Closed | None]:
    """Whether it is a folder, or a link to one; and why that cannot be told.

    Not so of an image by name, which its reader tells, nor of what is not there.
    """
    try:
        return stat.S_ISDIR(os.stat(path).st_mode), None  # noqa: PTH116
    except OSError as error:
        gone = isinstance(error, FileNotFoundError | NotADirectoryError) and not os.path.islink(path)  # noqa: PTH114
        return False, None if gone or _is_image(path) else Closed.of(path, error)
