"""Images from a watched folder: each is taken when its writer is done, when its size and time stay the same."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from adshift.data.image_files import kind_passed_over
from adshift.data.images import SUFFIXES, read_bytes
from adshift.deploy.serve.engine import BusyError, Engine, RefusedError
from adshift.deploy.serve.settings import Watch
from adshift.errors import AdshiftError

SETTLED = 0.4  # seconds in which a file must not change
AGAIN = 2.0  # seconds after which the folder is looked at though nothing was told: networks' folders tell nothing
DONE, FAILED = "done", "failed"  # folders that images are moved to


class Watcher:
    """The thread of a watched folder.

    Attributes:
        problem: why no image is taken; empty if the folder is there and the queue has room.
        taken, failed: images that were judged, and that could not be.
    """

    def __init__(self, engine: Engine, name: str, watch: Watch) -> None:
        """`name` is the model's."""
        self.problem, self.taken, self.failed = "", 0, 0
        self._engine, self._name, self._watch = engine, name, watch
        self._end = threading.Event()
        self._marks: dict[
            Path, tuple[str, float]
        ] = {}  # of files that may still be written: mark, time of the last change
        self._threads = [threading.Thread(target=work, name="watch", daemon=True) for work in (self._run, self._listen)]
        self._wake = threading.Event()
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Take no more."""
        self._end.set()
        self._wake.set()

    def join(self, until: float) -> None:
        """Wait for the image that is being judged, at most until a time of `time.monotonic`."""
        self._threads[0].join(max(0.0, until - time.monotonic()))

    def _listen(self) -> None:
        """Wake the other thread when something changes in the folder."""
        import watchfiles

        while not self._end.is_set():
            if not self._watch.folder.is_dir():
                self._end.wait(AGAIN)
                continue
            with suppress(OSError, RuntimeError):  # the folder disappears
                for _ in watchfiles.watch(
                    self._watch.folder, stop_event=self._end, recursive=False, rust_timeout=1000, debounce=50, step=20,
                    raise_interrupt=False, yield_on_timeout=True,
                ):  # fmt: skip
                    self._wake.set()
                    if not self._watch.folder.is_dir():
                        break

    def _run(self) -> None:
        while not self._end.is_set():
            self._wake.clear()
            try:
                for path in self._settled():
                    if self._end.is_set():
                        return
                    self._take(path)
            except BusyError as busy:
                self.problem = str(busy)
                self._end.wait(0.2)
                continue
            except (AdshiftError, OSError) as error:
                self.problem = f"{self._watch.folder}: {error}"[:300]
                self._end.wait(AGAIN)
                continue
            self._wake.wait(SETTLED / 2 if self._marks else AGAIN)

    def _settled(self) -> Iterator[Path]:
        """Images whose writers are done, oldest first."""
        now, settled = time.monotonic(), []
        for path in self._watch.folder.iterdir():
            if path.suffix.lower() not in SUFFIXES or kind_passed_over(path.name, folder=False) or not path.is_file():
                continue
            status = path.stat()
            mark = f"{status.st_size} {status.st_mtime_ns}"
            if not self._watch.move and self._engine.journal.taken(str(path), mark):
                continue
            if self._marks.get(path, ("", 0.0))[0] != mark:
                self._marks[path] = mark, now
            elif now - self._marks[path][1] >= SETTLED:
                settled.append((status.st_mtime_ns, path))
        self.problem = ""
        for _, path in sorted(settled):
            yield path

    def _take(self, path: Path) -> None:
        mark = self._marks[path][0]
        try:
            with self._engine.accepted():
                self._engine.judge(self._name, read_bytes(path), path.name, "watch")
            failure = False
        except RefusedError:
            failure = True
        self.taken, self.failed = self.taken + (not failure), self.failed + failure
        del self._marks[path]
        if self._watch.move:
            self._move(path, FAILED if failure else DONE)
        else:
            self._engine.journal.take(str(path), mark)

    def _move(self, path: Path, folder: str) -> None:
        target = path.parent / folder
        target.mkdir(exist_ok=True)
        new, number = target / path.name, 1
        while new.exists():
            new, number = target / f"{path.stem}-{number}{path.suffix}", number + 1
        path.rename(new)
