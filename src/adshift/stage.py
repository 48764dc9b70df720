"""What every stage script shares: errors without a traceback, outputs that appear whole or not at all, time kept."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adshift.errors import AdshiftError


def run(main: Callable[[], None]) -> None:
    """Run a stage: bad input ends it with a message and exit code 1, a signal with 128 + its number."""
    # SIGTERM unwinds the stack like Ctrl-C does, so that half-written outputs are removed.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        main()
    except AdshiftError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def remove(path: Path) -> None:
    """Remove a file or folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def output(path: Path | str) -> Iterator[Path]:
    """A temporary sibling to write to, renamed to `path` at the end and removed if the stage fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}{path.suffix}")
    try:
        yield temporary
        remove(path)
        temporary.rename(path)
    finally:
        remove(temporary)


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON with sorted keys, whole or not at all. NaN is refused: it is not JSON."""
    with output(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON file of the pipeline.

    Raises:
        AdshiftError: it is missing or damaged.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdshiftError(f"{path}: not readable ({error})", "run `dvc repro` again") from None


@contextmanager
def timed(path: Path | str, **facts: Any) -> Iterator[None]:
    """Write the wall time of the block, beside `facts`, as JSON: the one kind of output that differs between runs."""
    start = time.perf_counter()
    yield
    write_json(path, {**facts, "seconds": round(time.perf_counter() - start, 3)})
