"""How a stage ends before its time: within seconds of a signal, and when the DVC that started it is gone.

Python runs a signal's handler between two bytecodes of the main thread: not before a long kernel returns, nor while the
main thread waits for others. And a DVC that is killed leaves its stage running, which would write beside the next run.
So a thread of its own waits for both: it asks the main thread to unwind, and ends the process if that takes too long.
Compiled code that holds the interpreter's lock stops that thread too: a child process waits for DVC to end, and kills.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

GRACE = 0.8  # seconds that a stage has to unwind after a signal
LOOK = 0.2  # seconds between two looks at whether DVC lives
LAST = 1.5  # seconds after which an orphan that is still there is killed
SIGNALS = (signal.SIGTERM, signal.SIGINT)
SHELLS = {"sh", "bash", "dash", "ash", "zsh", "fish", "ksh", "busybox"}


def _status(pid: int) -> tuple[str, str, int]:
    """Name of a process, its state's letter and its parent's id; nothing and 0 where /proc does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", "", 0
    name, rest = text[text.index("(") + 1 :].rsplit(")", 1)
    state, parent = rest.split()[:2]
    return name, state, int(parent)


def alive(pid: int) -> bool:
    """Whether a process runs. One that has ended does not, even while its parent, or init, took no note of it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return _status(pid)[1] != "Z"


def _starters() -> tuple[int, ...]:
    """Ids of the parent and, while that is a shell that waits (`sh -c`, which DVC uses), of the one above it."""
    chain = [os.getppid()]
    while (status := _status(chain[-1]))[0] in SHELLS and status[2]:
        chain.append(status[2])
    return tuple(chain)


_CHAIN = _starters()  # when this module is imported, a tenth of a second after the start


def orphaned() -> bool:
    """Whether DVC started this process and is gone. What was started by hand may outlive its terminal."""
    if "DVC_STAGE" not in os.environ:
        return False
    last = _CHAIN[-1]
    adopted = last == 1 and b"dvc" not in _command(1)  # before we looked; in a container DVC itself may be the first
    return adopted or _starters()[: len(_CHAIN)] != _CHAIN


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b"dvc"  # not told: no reason to stop


def watch(abandon: Callable[[], None]) -> None:
    """End this process with 128 + its number `GRACE` after a signal at the latest, and when it is orphaned.

    The main thread unwinds as from Ctrl-C, so that half-written outputs are removed; further signals change nothing.

    Args:
        abandon: removes half-written outputs, called from the watching thread where the main one did not end in time.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def unwind(number: int, frame: FrameType | None) -> None:
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        sys.exit(128 + number)

    for number in SIGNALS:
        signal.signal(number, unwind)

    def look() -> None:
        while True:
            ready, _, _ = select.select([reader], [], [], LOOK)
            if ready:
                number = os.read(reader, 1)[0]
            elif orphaned():
                number = signal.SIGTERM
                os.kill(os.getpid(), number)
            else:
                continue
            if number in SIGNALS:
                time.sleep(GRACE)  # a main thread that unwinds ends the process meanwhile, and this thread with it
                abandon()
                os._exit(128 + number)

    if "DVC_STAGE" in os.environ:
        _last_resort()
    threading.Thread(target=look, name="guard", daemon=True).start()


def _last_resort() -> None:
    """Start a process that kills this one `LAST` after DVC's end, and ends with it. On Linux alone.

    The kernel's own notice (PR_SET_PDEATHSIG) would be of the parent's death, which may be a shell that outlives DVC,
    and under the interpreter's lock only a signal that leaves no time to unwind is obeyed.
    """
    try:
        stage, dvc = os.pidfd_open(os.getpid()), os.pidfd_open(_CHAIN[-1])
    except (AttributeError, OSError):
        return  # another system, or DVC is gone, which the thread sees
    if os.fork():
        os.close(stage)
        os.close(dvc)
        return
    try:
        for number in SIGNALS:  # meant for the stage, when the whole process group gets them
            signal.signal(number, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):  # who reads the stage's output waits for the stage alone
            os.dup2(nothing, stream)
        ended, _, _ = select.select([stage, dvc], [], [])
        if stage not in ended and not select.select([stage], [], [], LAST)[0]:
            signal.pidfd_send_signal(stage, signal.SIGKILL)
    finally:
        os._exit(0)  # never back into the stage's code
