"""Run experiments with DVC's queue: finished ones are kept, missing ones are queued, failures are reported.

DVC's queue lives in .dvc/tmp/exps and survives whoever waits for it. Its worker is a process of its own; each
experiment runs in a temporary checkout with the shared cache, so a stage that an earlier one ran is restored.
"""

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from adshift.errors import AdshiftError
from adshift.studies.declare import Experiment

TARGET = "aggregate"  # the tables; the pictures and the page are left out
LOST = 15  # checks after which an experiment without a state and a commit counts as lost: its worker was killed
READS, PAUSE = 10, 0.2  # attempts to read DVC's queue, and seconds between them
DEAD = 3  # checks without an answer after which the worker counts as dead
QUEUED, RUNNING, FAILED = "Queued", "Running", "Failed"


class Queue(Protocol):
    """The part of DVC that `run` uses."""

    def finished(self) -> dict[str, str]: ...
    def states(self) -> dict[str, str]: ...
    def put(self, experiment: Experiment) -> None: ...
    def start(self, jobs: int) -> None: ...
    def working(self) -> bool: ...
    def kill(self, names: Iterable[str]) -> None: ...
    def stop(self) -> None: ...
    def log(self, name: str) -> str: ...


class DvcQueue:
    """DVC's queue in the repository of the working directory.

    Args:
        environment: further variables of the workers that are started, such as a cluster's.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.environment = environment or {}

    def finished(self) -> dict[str, str]:
        """{experiment: its commit} of all that came to an end, from whichever commit they started."""
        lines = _run("git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines()
        pairs = [line.split(" ", 1) for line in lines]
        # refs/exps/AB/CDEF.../NAME; DVC's own stand at refs/exps/WORD...
        refs = [(commit, ref.split("/")) for commit, ref in pairs]
        return {ref[-1]: commit for commit, ref in refs if len(ref) == 5 and len(ref[2]) == 2}

    def states(self) -> dict[str, str]:
        """{experiment: Running, Queued, Failed or Success}, the first of these where one was queued repeatedly."""
        states: dict[str, str] = {}
        for entry in self._entries():
            states.setdefault(entry["name"], entry["status"])
        return states

    def put(self, experiment: Experiment) -> None:
        """Queue an experiment: params.yaml with its changes."""
        for entry in self._entries():
            if entry["name"] == experiment.name and entry["status"] == FAILED:
                _run("dvc", "queue", "remove", entry["rev"])
        changes = [f"{key}={_override(value)}" for key, value in experiment.changes.items()]
        pairs = [argument for change in changes for argument in ("-S", change)]
        _run("dvc", "exp", "run", "--queue", "--name", experiment.name, *pairs, TARGET)

    def start(self, jobs: int) -> None:
        """Start up to `jobs` workers; those that run already count."""
        threads = max(1, len(os.sched_getaffinity(0)) // jobs)
        # `src` of the experiment's own checkout: an edit made meanwhile must not reach a stage that runs later.
        path = os.pathsep.join(filter(None, ["src", os.environ.get("PYTHONPATH")]))
        environment = {"ADSHIFT_THREADS": str(threads), **os.environ, "PYTHONPATH": path, **self.environment}
        _run("dvc", "queue", "start", "--jobs", str(jobs), environment=environment)

    def working(self) -> bool:
        """Whether a worker answers, within a second."""
        from dvc.repo import Repo

        with Repo() as repo:
            return bool(repo.experiments.celery_queue.worker_status())

    def stop(self) -> None:
        """Let the workers end after what they run; what is queued stays queued."""
        _run("dvc", "queue", "stop", check=False)

    def kill(self, names: Iterable[str]) -> None:
        """Interrupt those that run, or are said to since their worker died: they count as failed."""
        running = [name for name, state in self.states().items() if state == RUNNING and name in set(names)]
        if running:
            _run("dvc", "queue", "kill", *running, check=False)

    def log(self, name: str) -> str:
        """The output of the experiment's last run."""
        revisions = [entry["rev"] for entry in self._entries() if entry["name"] == name]
        return _run("dvc", "queue", "logs", revisions[0], check=False) if revisions else ""

    def _entries(self) -> list[dict[str, Any]]:
        from dvc.repo import Repo

        left = READS
        while True:
            try:
                with Repo() as repo:
                    entries: list[dict[str, Any]] = repo.experiments.celery_queue.status()
                    return entries
            except json.JSONDecodeError:  # a file that another process of DVC is writing
                left -= 1
                if not left:
                    raise
                time.sleep(PAUSE)


def _override(value: Any) -> str:
    """A value in the grammar of DVC's `--set-param` (Hydra's overrides).

    A string stands in single quotes, in which a backslash is itself unless it precedes a quote.
    """
    if isinstance(value, str):
        escaped = re.sub(r"(\\*)'", lambda match: 2 * match[1] + r"\'", value)
        return "'" + re.sub(r"\\+$", lambda match: 2 * match[0], escaped) + "'"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_override(one)}" for key, one in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(map(_override, value)) + "]"
    return json.dumps(value)


def _run(*command: str, check: bool = True, environment: dict[str, str] | None = None) -> str:
    # In a session of its own, so that Ctrl-C reaches us alone and we end things in order; into files, since a worker
    # that the command leaves behind would keep a pipe open.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run(command, check=False, stdout=out, stderr=err, env=environment, start_new_session=True)
        out.seek(0)
        err.seek(0)
        printed, complaints = out.read(), err.read()
    if check and done.returncode:
        last_lines = (complaints or printed).strip().splitlines()[-5:]
        raise AdshiftError(" ".join([*command[:3], "failed:", *last_lines]), "run it yourself to see more")
    return printed


def run(
    experiments: Sequence[Experiment], queue: Queue, jobs: int, tell: Callable[[str, int], None], wait: float = 2.0
) -> dict[str, str]:
    """Run the missing ones of `experiments` and wait. After an interrupt the queue stops, and a later call continues.

    Args:
        experiments: some may be one and the same.
        queue: DVC's.
        jobs: experiments at once.
        tell: is given a line for each experiment that ends, and how many did; the same of what is found at the start.
        wait: seconds between two looks.

    Returns:
        {experiment that failed: last lines of what it printed}.

    Raises:
        AdshiftError: `jobs` is not positive, or DVC refuses to queue one.
    """
    if jobs < 1:
        raise AdshiftError(f"--jobs {jobs}", "at least 1")
    every = {experiment.name: experiment for experiment in experiments}
    finished = queue.finished()
    left = {name: experiment for name, experiment in every.items() if name not in finished}
    tell(f"{len(every) - len(left)} of {len(every)} experiments are done", len(every) - len(left))
    if not left:
        return {}
    try:
        states = queue.states()
        if RUNNING in (states.get(name) for name in left) and not any(queue.working() for _ in range(DEAD)):
            queue.kill(left)
            states = queue.states()
        for name, experiment in left.items():
            if states.get(name) not in (QUEUED, RUNNING):
                queue.put(experiment)
        return _wait(left, len(every), queue, jobs, tell, wait)
    except BaseException:
        tell("stopping; what is done stays, the same command goes on from here", len(every) - len(left))
        queue.stop()
        queue.kill(left)
        raise


def _wait(
    left: dict[str, Experiment], total: int, queue: Queue, jobs: int, tell: Callable[[str, int], None], wait: float
) -> dict[str, str]:
    failures: dict[str, str] = {}
    silent = 0
    unseen = dict.fromkeys(left, 0)
    queue.start(jobs)
    while left:
        time.sleep(wait)
        states, finished = queue.states(), queue.finished()
        for name, experiment in list(left.items()):
            state = states.get(name)
            unseen[name] = 0 if state in (QUEUED, RUNNING) else unseen[name] + 1
            if name in finished:
                outcome = "done"
            elif state == FAILED or unseen[name] > LOST:
                failures[name] = "\n".join(queue.log(name).strip().splitlines()[-12:])
                outcome = "failed"
            else:
                continue
            del left[name]
            log = "\n    ".join(["", *failures[name].splitlines()]) if outcome == "failed" else ""
            ended = total - len(left)
            tell(f"[{ended}/{total}] {outcome}: {experiment} ({name}){log}", ended)
        waiting = any(states.get(name) in (QUEUED, RUNNING) for name in left)
        silent = 0 if not waiting or queue.working() else silent + 1
        if silent:  # a worker ends when its queue is empty, or was killed
            if silent > DEAD:
                queue.kill(left)
            queue.start(jobs)
    return failures
