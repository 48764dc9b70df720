"""`adshift repro`: run independent stages at the same time, and print one line per stage.

`dvc repro` runs one stage at a time, and imports take most of the time of a stage. Here each worker takes a share of
the stages whose inputs are ready and runs it with its own `dvc repro --single-item`, which skips fresh stages. DVC's
locks keep each dvc.lock whole. A plain `dvc repro` at the end decides whether everything is up to date.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from adshift.errors import AdshiftError
from adshift.project import params, presets, repair
from adshift.project.board import Board, addresses
from adshift.runtime import versions

HINT = "to keep this state: git add -A && git commit; to share the outputs: dvc push"


def repro(jobs: int, names: Sequence[str] = ()) -> int:
    """Bring the pipeline up to date with up to `jobs` stages at once.

    Args:
        jobs: stages at once, at least 1.
        names: stages to run, with their dependencies: `fit@padim-nut-clean`, or `fit` for all its items; empty for all.

    Returns:
        DVC's exit code.

    Raises:
        AdshiftError: `jobs` is not positive, params.yaml is not valid, or a stage is unknown.
    """
    if jobs < 1:
        raise AdshiftError(f"--jobs {jobs}", "at least 1")
    params.check_folder()
    for line in repair.locks():
        print(line, file=sys.stderr)
    for line in presets.derive():
        print(line, file=sys.stderr)
    settings = params.load_all()  # DVC reads it for dvc.yaml before the stage `check` runs, and its errors name no key
    if settings.features.weights:
        from adshift.project.checks import check_weights

        check_weights(settings.features)
    params.check_git()
    waiting = _inputs()
    targets = addresses(names, list(waiting))
    if targets:
        waiting = _needed(waiting, targets)
    with Board(len(waiting)) as board:
        if lines := versions.changes():
            print(*lines, sep="\n", file=sys.stderr)
            # DVC does not track installed packages.
            if code := board.dvc("repro", "--force", "--single-item", "sources"):
                return code
        stale = jobs > 1 and subprocess.run(["dvc", "status", "--quiet", *targets], check=False).returncode != 0
        code = (_side_by_side(jobs, waiting, board) if stale else 0) or board.dvc("repro", *targets)
    if code == 0 and board.ran:
        print(HINT)
    return code


def _needed(inputs: dict[str, set[str]], targets: Sequence[str]) -> dict[str, set[str]]:
    """The targets and their direct and indirect dependencies, with their inputs."""
    needed: set[str] = set()
    more = list(targets)
    while more:
        if (name := more.pop()) not in needed:
            needed.add(name)
            more += inputs[name]
    return {name: others for name, others in inputs.items() if name in needed}


def _side_by_side(jobs: int, waiting: dict[str, set[str]], board: Board) -> int:
    waiting = dict(waiting)
    done: set[str] = set()
    failures: list[int] = []
    changed = threading.Condition()
    # The number of threads changes no byte, so each job gets its share of the processors.
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    environment = {"ADSHIFT_THREADS": str(threads), **os.environ}

    def take() -> list[str]:
        """The next share; empty if all stages are done or one failed. Waits until a stage is ready."""
        while waiting and not failures:
            ready = [name for name, inputs in waiting.items() if inputs <= done]
            if ready:
                # Every n-th stage, since neighbors are alike: each share then has some stages of the slow method.
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
                code = board.dvc("--wait-for-lock", "repro", "--single-item", *share, environment=environment)
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
        raise AdshiftError(f"dvc.yaml: {error}", "correct it, or params.yaml, whose values it uses") from None
    return {stage.addressing: {other.addressing for other in graph.successors(stage)} for stage in index.stages}
