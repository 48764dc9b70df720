"""Run stages at the same time in one DVC process, for `adshift repro` with --jobs or --cluster.

A `dvc repro` runs one stage at a time, and a process of it for each stage costs seconds. Here DVC's own code runs in
one thread at a time, under DVC's lock of the workspace, while the commands of other stages run. Each stage is treated
as by `dvc repro --single-item`: skipped if it has not changed, restored from the run cache if it ran before, else
run, hashed and put into the cache. dvc.lock is written now and then, for all stages that ended meanwhile, since
that takes longer than all else. What a killed driver has not written is restored from the run cache at the next call.
"""

import json
import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from adshift.project import forks
from adshift.project.cluster import handover
from adshift.project.paths import SOURCES
from adshift.runtime.files import read_json

FAILED = 255  # exit code, as DVC's
BRIEF = {"check", "check_network"}  # done within a second: the stages beside them get all processors
SHARE = 10  # dvc.lock is written once so many times the seconds have passed that the last writing took


class Driver:
    """The stages of one call.

    Args:
        repo: DVC's, which waits for locks.
        jobs: stages at once.
        here: of those, the stages that run on this machine.
        processors: that stages share by ADSHIFT_THREADS; 0 leaves each to its environment.
        cluster: whether a cluster runs the heavy stages.
    """

    def __init__(self, repo: Any, jobs: int, here: int, processors: int, cluster: bool) -> None:
        self.repo, self.jobs, self.processors, self.cluster = repo, jobs, processors, cluster
        self._here = threading.Semaphore(here)
        self._changed, self._turn = threading.Condition(), threading.Lock()
        self._waiting: dict[str, set[str]] = {}  # {stage: those that it depends on}
        self._running: set[str] = set()
        self._done: set[str] = set()
        self._unwritten: list[Any] = []
        self._write_from = 0.0
        self.failed = False

    def run(self, names: set[str]) -> bool:
        """Bring the stages of these names up to date, in the order of their dependencies; whether all are."""
        graph = self.repo.index.graph
        stages = {stage.addressing: stage for stage in self.repo.index.stages if stage.addressing in names}
        self._waiting = {
            name: {other.addressing for other in graph.successors(stage)} & names for name, stage in stages.items()
        }
        try:
            with ThreadPoolExecutor(self.jobs) as pool:
                workers = [pool.submit(self._work, stages) for _ in range(self.jobs)]
                try:
                    for worker in workers:
                        worker.result()
                except KeyboardInterrupt:  # the commands got it too, and the pool waits for them
                    self.failed = True
                    handover.abandon()
                    raise
        except KeyboardInterrupt:
            pass
        with self._alone():
            self._write()
        return not self.failed

    def _work(self, stages: Mapping[str, Any]) -> None:
        """Bring one stage after another up to date, until none is left or one has failed."""
        while name := self._take():
            sound = False
            try:
                sound = self._one(stages[name])
            finally:
                with self._changed:
                    self._running.remove(name)
                    self._done.add(name)
                    self.failed |= not sound
                    self._changed.notify_all()

    def _ready(self) -> list[str]:
        """Stages whose inputs are there."""
        return [name for name, inputs in self._waiting.items() if inputs <= self._done]

    def _take(self) -> str | None:
        """A ready stage; None if there is no further one. Waits until there is."""
        with self._changed:
            while self._waiting and not self.failed:
                for name in self._ready():
                    del self._waiting[name]
                    self._running.add(name)
                    return name
                self._changed.wait()
            return None

    def _threads(self) -> dict[str, str]:
        """The variable that gives a stage its share of the processors. The number of threads changes no byte."""
        if not self.processors:
            return {}
        with self._changed:
            together = sum(name not in BRIEF for name in (*self._running, *self._ready()))
        return {"ADSHIFT_THREADS": str(max(1, self.processors // min(self.jobs, max(1, together))))}

    def _one(self, stage: Any) -> bool:
        """Bring a stage up to date; whether that went well."""
        try:
            self._reproduce(stage)
        except Exception as error:  # DVC's, and those of its libraries
            say(f"ERROR: failed to reproduce '{stage.addressing}': {error}", sys.stderr)
            return False
        return True

    def _reproduce(self, stage: Any) -> None:
        from dvc.rwlock import rwlock
        from dvc.stage.cache import RunCacheNotFoundError

        reads, writes = ([one.fs_path for one in ones] for ones in (stage.deps, stage.outs))
        with self._alone():
            if not stage.changed():
                return say(f"Stage '{stage.addressing}' didn't change, skipping")
            locked = rwlock(self.repo.tmp_dir, self.repo.fs, " ".join(sys.argv[:2]), reads, writes, False)
            locked.__enter__()
        try:
            with self._alone():
                stage.remove_outs(ignore_remove=False, force=False)
                try:
                    self.repo.stage_cache.restore(stage)
                    restored = True
                except RunCacheNotFoundError:
                    stage.save_deps()
                    restored = False
            if restored:
                say(f"Stage '{stage.addressing}' is cached - skipping run, checking out outputs")
            else:
                self._command(stage)
            with self._alone():
                kept = all(out.use_cache or out.is_metric or out.is_plot for out in stage.outs)
                stage.save(run_cache=kept)
                stage.commit()
                self._unwritten.append(stage)
                if time.monotonic() >= self._write_from:
                    self._write()
            say(f"Stage '{stage.addressing}' ended")
        finally:
            with self._alone():
                locked.__exit__(None, None, None)

    def _command(self, stage: Any) -> None:
        """Run the command of a stage: in a process of its own, in a fork, or by the head of a cluster."""
        from dvc.stage.exceptions import StageCmdFailedError
        from dvc.stage.run import cmd_run, prepare_kwargs

        words = shlex.split(stage.cmd)[1:]  # without `python`
        heavy = bool(words) and PurePath(words[0]).stem in handover.HEAVY
        code = 0
        if self.cluster and heavy:
            say(f"Running stage '{stage.addressing}':")
            code = handover.ask(stage.addressing, words, prepare_kwargs(stage)["env"])
        else:
            with self._here:
                say(f"Running stage '{stage.addressing}':")
                threads = self._threads()
                if heavy and _imports_torch(stage):
                    code = forks.run(words, prepare_kwargs(stage, threads)["env"], stage.wdir)
                else:
                    cmd_run(stage, run_env=threads)
        if code:
            raise StageCmdFailedError(stage.cmd, code)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Within: this thread alone runs DVC's code, and DVC's other processes wait."""
        with self._turn, self.repo.lock:
            yield

    def _write(self) -> None:
        """Write the entries of dvc.lock."""
        start = time.monotonic()
        for file in {stage.dvcfile for stage in self._unwritten}:
            file.dump_stages([one for one in self._unwritten if one.dvcfile == file], update_pipeline=False)
        self._unwritten.clear()
        self._write_from = time.monotonic() + SHARE * (time.monotonic() - start)


def _imports_torch(stage: Any) -> bool:
    """Whether the code of a stage, or of its method, imports torch: what the stage `sources` recorded says so."""
    records = (Path(dep.fs_path) for dep in stage.deps if f"{SOURCES}/" in dep.fs_path)
    return any("torch" in read_json(record)["packages"] for record in records if record.suffix == ".json")


def say(line: str, file: Any = None) -> None:
    """Print a line for `adshift.project.board`."""
    print(line, file=file or sys.stdout, flush=True)


def main() -> None:
    """Read {jobs, here, processors, names} as JSON from standard input."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started it may ignore the signal
    asked = json.load(sys.stdin)
    sys.stdin.close()
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)
    with Repo(_wait_for_lock=True) as repo, repo.scm_context(quiet=True):
        driver = Driver(repo, asked["jobs"], asked["here"], asked["processors"], handover.VARIABLE in os.environ)
        sound = driver.run(set(asked["names"]))
    sys.exit(0 if sound else FAILED)


if __name__ == "__main__":
    main()
