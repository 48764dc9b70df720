"""Images of rejected parts, kept in a folder up to a number and an age."""

import threading
import time
from contextlib import suppress
from pathlib import Path

from adshift.data.images import SUFFIXES

DAY = 86400.0
BETWEEN = 50  # images between two looks at the folder


class Rejects:
    """The folder. Files are called ID.SUFFIX, which nobody outside chooses.

    Attributes:
        problem: why an image could not be kept; empty if the last one was.
    """

    def __init__(self, folder: Path, kept: int, days: float) -> None:
        self.folder, self.kept, self.days, self.problem = folder, kept, days, ""
        self._lock, self._count = threading.Lock(), 0
        self.prune()

    def add(self, identity: str, data: bytes, name: str) -> None:
        """Keep an image; a full disk is a `problem`, since the verdict is in the journal already."""
        suffix = Path(name).suffix.lower()
        path = self.folder / f"{identity}{suffix if suffix in SUFFIXES else '.img'}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self.problem = ""
        except OSError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            self.problem = f"{self.folder}: {error.strerror}"
        with self._lock:
            self._count += 1
            due = self._count % BETWEEN == 0
        if due:
            self.prune()

    def prune(self) -> None:
        """Remove images beyond the number and the age."""
        with self._lock, suppress(OSError):
            dated = []
            for path in self.folder.iterdir():
                with suppress(OSError):
                    dated.append((path.stat().st_mtime, path))
            oldest = time.time() - self.days * DAY
            newest_first = sorted(dated, reverse=True)
            for rank, (age, path) in enumerate(newest_first):
                if rank >= self.kept or age < oldest:
                    with suppress(OSError):
                        path.unlink()
