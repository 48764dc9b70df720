"""Files that appear whole or not at all, and JSON with a checksum."""

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from adshift.errors import AdshiftError
from adshift.runtime import checksums, signals

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_unfinished: list[Path] = []  # temporary siblings being written, the outermost first


def remove(path: Path) -> None:
    """Remove a file or folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def output(path: Path | str) -> Iterator[Path]:
    """A temporary sibling to write to, renamed to `path` at the end and removed if the stage fails.

    Temporary siblings of killed processes are removed first. If the DVC process that started this stage has exited, the
    output is discarded.

    Raises:
        AdshiftError: the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f"{_prefix(path)}{os.getpid()}{path.suffix}")
    outermost = not _unfinished
    _unfinished.append(temporary)
    try:
        yield temporary
        if signals.orphaned():
            sys.exit(128 + signal.SIGTERM)
        _put(temporary, path)
    except OSError as error:
        if outermost and error.errno in FULL:
            raise AdshiftError(
                f"{path}: could not be written, {os.strerror(error.errno)}; what was there before is unharmed",
                "make room (`dvc gc --workspace` frees what no commit of this workspace needs), then run it again",
            ) from None
        raise
    finally:
        try:
            remove(temporary)
        finally:
            _unfinished.remove(temporary)


def _prefix(path: Path) -> str:
    return f".{path.name}.tmp-"


def _put(temporary: Path, path: Path) -> None:
    """Rename: atomically if both are files; an old folder is renamed away first."""
    aside = None
    if path.is_dir() or (temporary.is_dir() and path.is_symlink()):
        aside = temporary.with_name(f"{_prefix(path)}{os.getpid()}-old")
        path.rename(aside)
    temporary.replace(path)
    if aside:
        remove(aside)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary siblings of processes that have ended, or that had this process's id before."""
    prefix = _prefix(path)
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(prefix)]
    for name in names:
        digits = name.removeprefix(prefix).removesuffix("-old").split(".")[0]
        if digits.isdigit() and (int(digits) == os.getpid() or not signals.alive(int(digits))):
            remove(path.parent / name)


def abandon() -> None:
    """Remove half-written outputs, even while other threads still write to them."""
    for _ in range(5):
        for temporary in _unfinished[:1]:
            shutil.rmtree(temporary, ignore_errors=True)
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_json(path: Path | str, value: Any, *, checksum: bool = False) -> None:
    """Write JSON with sorted keys, whole or not at all. NaN is refused: it is not JSON.

    Args:
        path: of the file.
        value: what to write.
        checksum: whether to add a checksum of the rest to the object, which `read_json` checks and removes.
    """
    if checksum:
        value = json.loads(json.dumps(value, allow_nan=False))  # as it will be read
        value[checksums.KEY] = checksums.of_json(value)
    with output(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path | str, remedy: str = checksums.REMEDY) -> Any:
    """Read a JSON file of the pipeline, without its checksum if it has one.

    Raises:
        AdshiftError: it is missing or damaged.
    """
    try:
        return checksums.open_json(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise AdshiftError(f"{path}: not readable ({error})", remedy) from None
