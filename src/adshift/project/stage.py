"""Shared by all stage scripts: errors without a traceback, an orderly end after a signal, a cluster, and timing."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adshift.errors import AdshiftError, warnings_shown
from adshift.project.cluster import handover
from adshift.runtime import device, signals, versions
from adshift.runtime.files import abandon, write_json


def run(main: Callable[[], None], *, watched: bool = True) -> None:
    """Run a stage, here or on a worker. Bad input ends it with a message and code 1, a signal with 128 + its number.

    Args:
        main: the stage.
        watched: whether it ends within seconds of a signal, and when the DVC that started it ends (`guard`). Otherwise
            SIGTERM and Ctrl-C unwind the stack, which can take any time.
    """
    with warnings_shown(), signals.watch(abandon) if watched else signals.unwinding([signal.SIGTERM]):
        try:
            if code := handover.handed_over():
                sys.exit(code)
            if code is None:
                versions.check(f"stages/{Path(sys.argv[0]).stem}")
                main()
        except AdshiftError as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            sys.exit(130)


@contextmanager
def timed(path: Path | str, **facts: Any) -> Iterator[None]:
    """Write wall time and device of the block, and `facts`, as JSON: the only outputs that differ between runs."""
    start = time.perf_counter()
    yield
    write_json(path, {**facts, "device": device.used(), "seconds": round(time.perf_counter() - start, 3)})
