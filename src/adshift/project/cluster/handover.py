"""The other side of a cluster's head: whoever is to run a stage hands its command line to the head, and waits.

`adshift repro --cluster` (the head) listens on a Unix socket, named by ADSHIFT_CLUSTER. A heavy stage's name, arguments
and environment go there as one JSON line; the head has a worker run them, and answers with lines of output and, last,
an exit code. The driver asks for the stages that it runs. In an experiment, which DVC runs, the process that DVC
started asks for itself. This module needs the standard library alone.
"""

import json
import os
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from adshift.errors import AdshiftError

VARIABLE = "ADSHIFT_CLUSTER"  # path of the head's socket
OWN = {VARIABLE, "ADSHIFT_THREADS"}  # what a worker decides itself

# Stages that go to a worker, and GiB of memory that each needs there. All others are done within seconds.
HEAVY = {
    "shift": 1, "embed": 2, "harden": 2, "normalise": 2, "fit": 2, "lever": 2, "score": 2, "ablate": 2,
    "paste": 2, "score_ablation": 2,
}  # fmt: skip
NETWORK = {"embed", "harden", "normalise", "paste"}  # of them, those that run a network: they want a card


_open: set[socket.socket] = set()  # connections that wait for an answer
_abandoned = threading.Event()


def handed_over() -> int | None:
    """Run this process's command line on a worker; its exit code, or None where it is to run here.

    Raises:
        AdshiftError: the head has gone, or could not have it run.
    """
    stage = os.environ.get("DVC_STAGE")
    if VARIABLE not in os.environ or not stage or Path(sys.argv[0]).stem not in HEAVY:
        return None
    return ask(stage, sys.argv, os.environ)


def ask(stage: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Have the head run a command on a worker, and print its output; its exit code.

    Args:
        stage: its name.
        command: the script and its arguments.
        environment: of which a worker gets what means the same there.

    Raises:
        AdshiftError: the head has gone, or could not have it run.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(os.environ[VARIABLE])
        except OSError as error:
            raise _gone(error.strerror) from None
        _open.add(connection)
        if _abandoned.is_set():
            abandon()
        shared = {key: value for key, value in environment.items() if _shared(key)}
        request = {"stage": stage, "command": [*command], "environment": shared, "folder": str(Path.cwd())}
        try:
            with connection.makefile("rw", encoding="utf-8") as lines:
                lines.write(json.dumps(request) + "\n")
                lines.flush()
                for line in lines:
                    answer = json.loads(line)
                    if "error" in answer:
                        raise AdshiftError(answer["error"], answer["remedy"])
                    if "code" in answer:
                        return int(answer["code"])
                    print(answer["text"], file=sys.stderr if answer["complaint"] else sys.stdout, flush=True)
        except OSError as error:
            raise _gone(error.strerror) from None
        finally:
            _open.discard(connection)
    raise _gone("it closed the connection")


def abandon() -> None:
    """Let all that wait for an answer end; the head then cancels what they asked for."""
    _abandoned.set()
    for connection in list(_open):
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _shared(key: str) -> bool:
    """Whether a variable means the same on a worker."""
    return key not in OWN and (key.startswith(("ADSHIFT_", "DVC_")) or key == "PYTHONPATH")


def _gone(why: str | None) -> AdshiftError:
    return AdshiftError(f"the head of the cluster does not answer ({why})", "run `adshift repro --cluster` again")
