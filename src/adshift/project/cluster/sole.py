"""One head a workspace: DVC's locks do not see processes of other machines."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from adshift.errors import AdshiftError
from adshift.runtime import signals

FILE = Path(".dvc/tmp/adshift-head.json")  # {host, pid, since}


@contextmanager
def head(cluster: bool) -> Iterator[None]:
    """Within: this process is the workspace's head, if it uses a `cluster`; others are refused.

    Raises:
        AdshiftError: another head is at work.
    """
    _refuse_another()
    if not cluster:
        yield
        return
    FILE.parent.mkdir(parents=True, exist_ok=True)
    since = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with FILE.open("x", encoding="utf-8") as file:  # atomic on NFS too
            json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": since}, file)
    except FileExistsError:
        raise AdshiftError("another head has just begun in this workspace", "wait for it") from None
    try:
        yield
    finally:
        FILE.unlink(missing_ok=True)


def _refuse_another() -> None:
    """Refuse to work beside another head; the file of one that was killed on this machine is removed."""
    try:
        other = json.loads(FILE.read_text(encoding="utf-8"))
        host, pid, since = str(other["host"]), int(other["pid"]), str(other["since"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        host, pid, since = "unknown", 0, "unknown"
    if host == socket.gethostname() and not signals.alive(pid):
        FILE.unlink(missing_ok=True)
        return
    raise AdshiftError(
        f"another `adshift repro --cluster` is at work in this workspace: on {host}, process {pid}, since {since}",
        f"wait for it; if it was killed, remove {FILE}",
    )
