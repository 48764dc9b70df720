"""Stages as forks of one process that has imported torch and timm.

The imports take longer than most stages compute, and a fork already has them. multiprocessing's fork server does the
work. It starts with the first stage, and ends after the driver and the last stage. A stage ends by itself when the
driver or the fork server has ended (`adshift.runtime.signals`).
"""

import multiprocessing
import os
import runpy
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path

IMPORTED = ["torch", "timm"]

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(IMPORTED)
# Each start asks multiprocessing for the exit codes of all processes; two threads may not read the same one.
_turn = threading.Lock()


def run(words: Sequence[str], environment: Mapping[str, str], folder: str) -> int:
    """Run a stage's script in a fork, and wait for it.

    Args:
        words: the script and its arguments.
        environment: of the stage, which DVC has completed.
        folder: that it works in.

    Returns:
        Exit code; for a stage that a signal ended, 128 + its number, as a shell has it.
    """
    process = _server.Process(target=_stage, args=([*words], {**environment}, folder))
    with _turn:
        process.start()
    wait([process.sentinel])
    with _turn:
        process.join()
    code = process.exitcode or 0
    return code if code >= 0 else 128 - code


def _stage(words: list[str], environment: dict[str, str], folder: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv, sys.path[0] = words, str(Path(words[0]).parent)
    runpy.run_path(words[0], run_name="__main__")
