"""What runs on a worker. The head sends this module with each task, so a worker needs Dask alone to answer.

It imports nothing of adshift, whose version there may be another: `probe` finds out.
"""

import importlib.metadata
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

LOOK = 0.2  # seconds between two checks that the task is still wanted
GRACE = 3.0  # seconds that a stage has to end after SIGTERM
CHUNK = 2**22  # bytes read at a time


def probe(folder: str, nonce: str, packages: Sequence[str], search: str | None) -> dict[str, Any]:
    """What a worker sees.

    Args:
        folder: the project's.
        nonce: a file that the head has just written in it.
        packages: whose versions are compared.
        search: PYTHONPATH of the head.

    Returns:
        `host`, `versions`, and `problem`: why it cannot run stages, empty if it can.
    """
    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "none"
    problem = ""
    if not Path(folder).is_dir():
        problem = f"has no folder {folder}"
    elif not Path(folder, nonce).is_file():
        problem = f"has another folder {folder} than the head, not a shared one"
    else:
        environment = {**os.environ, **({"PYTHONPATH": search} if search else {})}
        command = [sys.executable, "-c", "import adshift"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            problem = f"cannot import adshift ({done.stderr.strip().splitlines()[-1]})"
    return {"host": socket.gethostname(), "versions": versions, "problem": problem}


def run(
    command: Sequence[str], environment: Mapping[str, str], folder: str, outputs: Sequence[str], topic: str
) -> tuple[int, dict[str, tuple[int, int]]]:
    """Run a stage's command line, and send its lines of output as events of `topic`.

    The stage ends if the task is cancelled, or the worker closes. If the worker is killed the stage ends by itself,
    since DVC_STAGE is set: `adshift.runtime.signals`.

    Args:
        command: the script and its arguments.
        environment: of the head, which DVC has completed.
        folder: of the project.
        outputs: paths that it writes.
        topic: of the events.

    Returns:
        Exit code, and {file of the outputs: (bytes, CRC-32)}; no files after a failure.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    threads = os.environ.get("ADSHIFT_THREADS") or str(max(1, len(os.sched_getaffinity(0)) // worker.state.nthreads))
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, env={**os.environ, **environment, "ADSHIFT_THREADS": threads},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        errors="replace", start_new_session=True,
    )  # fmt: skip

    def send(lines: IO[str], complaint: bool) -> None:
        for line in lines:
            worker.log_event(topic, {"text": line.rstrip("\n"), "complaint": complaint})

    assert process.stdout and process.stderr
    senders = [threading.Thread(target=send, args=pair) for pair in ((process.stdout, False), (process.stderr, True))]
    for sender in senders:
        sender.start()
    try:
        while process.poll() is None:
            if not _wanted(worker, key):
                return 128 + signal.SIGTERM, {}
            time.sleep(LOOK / 4)
    finally:
        _end(process)
        for sender in senders:
            sender.join()
    return process.returncode, {} if process.returncode else checksums(folder, outputs)


def _wanted(worker: Any, key: Any) -> bool:
    task = worker.state.tasks.get(key)
    return task is not None and task.state == "executing" and worker.status.name == "running"


def _end(process: "subprocess.Popen[str]") -> None:
    """End the stage, and what it started."""
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.killpg(process.pid, number)
        try:
            process.wait(GRACE)
            return
        except subprocess.TimeoutExpired:
            continue


def checksums(folder: str, outputs: Sequence[str]) -> dict[str, tuple[int, int]]:
    """{file of the outputs: (bytes, CRC-32)}, paths relative to `folder`; missing ones are left out."""
    sums = {}
    for output in outputs:
        path = Path(folder, output)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                sums[file.relative_to(folder).as_posix()] = _checksum(file)
    return sums


def _checksum(file: Path) -> tuple[int, int]:
    size = value = 0
    with file.open("rb") as content:
        while part := content.read(CHUNK):
            size, value = size + len(part), zlib.crc32(part, value)
    return size, value
