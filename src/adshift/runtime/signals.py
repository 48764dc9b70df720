"""The early end of a stage: within seconds of a signal, and after the DVC process that started it has exited.

Python runs signal handlers in the main thread, between two bytecodes: not during a long kernel, nor while that thread
waits for workers. And a killed DVC leaves its stage running, beside those of the next run. So a second thread waits for
both. It lets the main thread unwind, and ends the process if that takes longer than `GRACE`. Compiled code that holds
the interpreter's lock delays this thread too: an orphan then runs until the code returns, and `stage.output` discards
what it made.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from pathlib import Path
from types import FrameType

GRACE = 0.8  # seconds that the main thread has to unwind after a signal
LOOK = 0.2  # seconds between two checks that DVC still runs
SIGNALS = (signal.SIGTERM, signal.SIGINT)
SHELLS = {"sh", "bash", "dash", "ash", "zsh", "fish", "ksh", "busybox"}


def _status(pid: int) -> tuple[str, str, int]:
    """Name, state letter and parent's id of a process; empty and 0 if /proc does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", "", 0
    name, rest = text[text.index("(") + 1 :].rsplit(")", 1)
    state, parent = rest.split()[:2]
    return name, state, int(parent)


def alive(pid: int) -> bool:
    """Whether a process runs. A zombie, which has ended but was not waited for, does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return _status(pid)[1] != "Z"


def _starters() -> tuple[int, ...]:
    """Ids of the parent and, while that is a shell (DVC runs a stage through `sh -c`), of the process above it."""
    chain = [os.getppid()]
    while (status := _status(chain[-1]))[0] in SHELLS and status[2]:
        chain.append(status[2])
    return tuple(chain)


_CHAIN = _starters()  # when this module is imported, a tenth of a second after the start


def orphaned() -> bool:
    """Whether DVC started this process and has exited. A stage started by hand may outlive its terminal."""
    if "DVC_STAGE" not in os.environ:
        return False
    driver = parent_process()  # of a fork (`adshift.project.forks`), whose own parent is the fork server
    if driver and not driver.is_alive():
        return True
    last = _CHAIN[-1]
    # DVC may have exited before this module was imported. In a container, DVC or a Dask worker may be process 1.
    adopted = last == 1 and not any(starter in _command(1) for starter in (b"dvc", b"dask"))
    return adopted or _starters()[: len(_CHAIN)] != _CHAIN


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b"dvc"  # unknown: no reason to stop


@contextmanager
def watch(abandon: Callable[[], None]) -> Iterator[None]:
    """Within: a signal, or DVC's exit, ends this process with 128 + the signal's number, after `GRACE` at the latest.

    The main thread unwinds, so that unfinished outputs are removed; further signals change nothing. Afterwards the
    handlers, the wakeup descriptor and the threads are as they were before.

    Args:
        abandon: removes unfinished outputs; called by the watching thread if the main one did not unwind in time.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    unwound = threading.Event()

    def look() -> None:
        while not unwound.is_set():
            ready, _, _ = select.select([reader], [], [], LOOK)
            if ready:
                number = os.read(reader, 1)[0]
            elif orphaned():
                number = signal.SIGTERM
                os.kill(os.getpid(), number)
            else:
                continue
            if number in SIGNALS and not unwound.wait(GRACE):
                abandon()
                os._exit(128 + number)

    with unwinding(SIGNALS):
        previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        thread = threading.Thread(target=look, name="guard", daemon=True)
        thread.start()
        try:
            yield
        finally:
            unwound.set()
            signal.set_wakeup_fd(previous)
            os.write(writer, b"\0")  # wakes the thread
            thread.join()
            os.close(reader)
            os.close(writer)


@contextmanager
def unwinding(signals: Iterable[int]) -> Iterator[None]:
    """Within: the first of these signals raises SystemExit in the main thread, further ones are ignored."""

    def unwind(number: int, frame: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        sys.exit(128 + number)

    before = {number: signal.getsignal(number) for number in signals}
    try:
        for number in before:
            signal.signal(number, unwind)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
