"""Independent stages side by side. `dvc repro` runs one stage at a time, and most of a stage's time is its imports.

Each worker takes a share of the stages whose inputs are ready and gives it to a `dvc repro --single-item` of its own,
which skips what is fresh. DVC's locks keep each dvc.lock whole. A plain `dvc repro` at the end has the last word.
"""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

from adshift.errors import AdshiftError
from adshift.project import params, presets, repair
from adshift.runtime import versions


def repro(jobs: int) -> int:
    """Bring the pipeline up to date with up to `jobs` stages at once; returns the exit code of DVC.

    Raises:
        AdshiftError: `jobs` is not positive, or params.yaml is not as it should be.
    """
    if jobs < 1:
        raise AdshiftError(f"--jobs {jobs}", "at least 1")
    for line in repair.locks():
        print(line, file=sys.stderr)
    for line in presets.derive():
        print(line, file=sys.stderr)
    settings = params.load_all()  # DVC fills dvc.yaml from it before any stage can check it, and names no key
    if settings.features.weights:
        from adshift.project.checks import check_weights

        check_weights(settings.features)
    if lines := versions.changes():
        print(*lines, sep="\n", file=sys.stderr)
        command = ["dvc", "repro", "--force", "--single-item", "sources"]  # DVC does not see what is installed
        if code := subprocess.run(command, check=False).returncode:
            return code
    stale = jobs > 1 and subprocess.run(["dvc", "status", "--quiet"], check=False).returncode != 0
    failed = _side_by_side(jobs) if stale else 0
    return failed or subprocess.run(["dvc", "repro"], check=False).returncode


def _side_by_side(jobs: int) -> int:
    waiting = _inputs()
    done: set[str] = set()
    failures: list[int] = []
    changed = threading.Condition()
    # Threads change no byte, so each job may have its share of the processors.
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    environment = {"ADSHIFT_THREADS": str(threads), **os.environ}

    def take() -> list[str]:
        """The next share, or nothing when all is done or a stage failed. Waits while all that is left has to wait."""
        while waiting and not failures:
            ready = [name for name, inputs in waiting.items() if inputs <= done]
            if ready:
                # A stride, not a run: neighbours are alike, so that every share has its part of the slow method.
                share = ready[::jobs]
                for name in share:
                    del waiting[name]
                return share
            changed.wait()
        return []

    def worker() -> None:
        while True:
            with changed:
                share = take()
            if not share:
                return
            code = 1
            try:
                command = ["dvc", "--wait-for-lock", "repro", "--single-item", *share]
                code = subprocess.run(command, env=environment, check=False).returncode
            finally:
                with changed:
                    done.update(share)
                    if code:
                        failures.append(code)
                    changed.notify_all()

    with ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(worker) for _ in range(jobs)]:
            future.result()
    return failures[0] if failures else 0


def _inputs() -> dict[str, set[str]]:
    """{stage: the stages whose outputs it depends on}, file by file, in the order of each."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        index = Repo().index
        graph = index.graph
    except DvcException as error:
        raise AdshiftError(f"dvc.yaml: {error}", "mend it, or params.yaml, which it is filled from") from None
    return {stage.addressing: {other.addressing for other in graph.successors(stage)} for stage in index.stages}
