"""Image files of given files, folders and patterns, for `predict`, `recalibrate`, `drift` and int8's calibration.

A folder stands for all images below it. Symbolic links to folders are followed, and each real folder is read once, so
that a loop of links ends. A folder that cannot be read is a `Closed` entry and is always reported. Files that are no
images by name, and the kinds of `kind_passed_over`, are counted; the scan of a data set passes over the same files.
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
# Files of operating systems and storage servers beside images: thumbnails, trash, copies of the files' attributes.
SYSTEMS = re.compile(
    r"@eaDir|@__thumb|@Recycle|@tmp|#recycle|#snapshot|\$RECYCLE\.BIN|__MACOSX|lost\+found|System Volume Information|"
    r"Thumbs\.db|desktop\.ini|.*~",
    re.IGNORECASE,
)
SHOWN = 8  # kinds of files passed over, in one line


@dataclass(frozen=True)
class Closed:
    """A folder or link that cannot be read. There may be images behind it.

    Attributes:
        path: of the folder or link.
        error: the reason and the remedy.
    """

    path: str
    error: AdshiftError

    @classmethod
    def of(cls, path: str, error: OSError) -> "Closed":
        message = f"{path}: cannot be looked at ({error.strerror or error})"
        return cls(path, AdshiftError(message, "change its permissions or the link, or leave it out"))


Entry = str | Closed


class Search:
    """A search for images in several sources.

    Attributes:
        passed: number of files passed over, by suffix; hidden files and folders are `HIDDEN`.
    """

    def __init__(self) -> None:
        self.passed: Counter[str] = Counter()

    def at(self, sources: Iterable[str], lines: Iterable[str] = ()) -> Iterator[Entry]:
        """Images of the sources, in order: files, all images below folders, patterns, `-` for `lines`.

        Any other source is returned as a path, so that reading it fails with its name.
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
        """A line about the files passed over; empty if there are none."""
        kinds = [f"{count} {kind}" for kind, count in self.passed.most_common(SHOWN)]
        if more := len(self.passed) - len(kinds):
            kinds.append(f"{more} more kinds")
        return f"passed over, no images by name: {self.passed.total()} ({', '.join(kinds)})" if kinds else ""


def kind_passed_over(name: str, *, folder: bool) -> str:
    """The kind of a file or folder that cannot belong to a set of images by its name; empty if it can.

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
    """The paths whose bytes differ from those of all earlier ones; a warning names the others.

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
    """The entries of one source. Each real folder is read once, and each file given once."""

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
        """All images that match a pattern, or are below folders that match it."""
        parts = Path(pattern).parts
        plain = next(number for number, part in enumerate(parts) if has_magic(part))
        yield from self._matches(str(Path(*parts[:plain])) if plain else "", parts[plain:], set())

    def _matches(self, top: str, parts: tuple[str, ...], through: set[tuple[int, int]]) -> Iterator[Entry]:
        """Entries of the folder `top` that match `parts`; `through` are the folders that a leading `**` has visited."""
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
                continue  # a full name, or a pattern for hidden files, selects it
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
        """Whether a file or folder is passed over. It is counted once."""
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
    """Whether a part of a pattern matches a name; as in a shell, hidden names need a part that begins with a dot."""
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
    """Whether it is a folder, or a link to one; and the `Closed` entry if this cannot be determined.

    Images by name and missing files get no `Closed` entry: reading them raises the error.
    """
    try:
        return stat.S_ISDIR(os.stat(path).st_mode), None  # noqa: PTH116
    except OSError as error:
        gone = isinstance(error, FileNotFoundError | NotADirectoryError) and not os.path.islink(path)  # noqa: PTH114
        return False, None if gone or _is_image(path) else Closed.of(path, error)
