"""The stage's side of a cluster: the process that DVC started hands its command line to the head, and waits.

`adshift repro --cluster` (the head) listens on a Unix socket, named by ADSHIFT_CLUSTER. A heavy stage sends one JSON
line with its name, arguments and environment; the head has a worker run them, and answers with lines of output and,
last, an exit code. This module needs the standard library alone: a stage that waits loads nothing.
"""

import json
import os
import socket
import sys
from pathlib import Path

from adshift.errors import AdshiftError

VARIABLE = "ADSHIFT_CLUSTER"  # path of the head's socket
OWN = {VARIABLE, "ADSHIFT_THREADS"}  # what a worker decides itself

# Stages that go to a worker, and GiB of memory that each needs there. All others are done within seconds.
HEAVY = {
    "shift": 1, "embed": 2, "harden": 2, "normalise": 2, "fit": 2, "lever": 2, "score": 2, "ablate": 2,
    "score_ablation": 2,
}  # fmt: skip
NETWORK = {"embed", "harden", "normalise"}  # of them, those that run a network: they want a card


def handed_over() -> int | None:
    """Run this process's command line on a worker; its exit code, or None where it is to run here.

    Raises:
        AdshiftError: the head has gone, or could not have it run.
    """
    path, stage = os.environ.get(VARIABLE), os.environ.get("DVC_STAGE")
    if not path or not stage or Path(sys.argv[0]).stem not in HEAVY:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(path)
        except OSError as error:
            raise _gone(error.strerror) from None
        shared = {key: value for key, value in os.environ.items() if _shared(key)}
        request = {"stage": stage, "command": sys.argv, "environment": shared, "folder": str(Path.cwd())}
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
    raise _gone("it closed the connection")


def _shared(key: str) -> bool:
    """Whether a variable means the same on a worker."""
    return key not in OWN and (key.startswith(("ADSHIFT_", "DVC_")) or key == "PYTHONPATH")


def _gone(why: str | None) -> AdshiftError:
    return AdshiftError(f"the head of the cluster does not answer ({why})", "run `adshift repro --cluster` again")
