"""The output of `adshift repro`: one line per stage, made from the output of the DVC commands that it starts.

A line has the stage's number, its name and its seconds, or `cached` (outputs restored from DVC's run cache) or
`unchanged`. All other output of stages and DVC is passed on. DVC's hints about git come once, at the end.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, Any

from tqdm import tqdm

from adshift.errors import AdshiftError

PIPELINE = "pipeline/dvc.yaml:"  # DVC's prefix of stages in that file
UNCHANGED = "unchanged"
QUIET = 30.0  # without a terminal, a line names the running stages after so many seconds without one

_RUNNING = re.compile(r"Running stage '(.+)':$")
_CACHED = re.compile(r"Stage '(.+)' is cached - skipping run, checking out outputs$")
_UNCHANGED = re.compile(r"Stage '(.+)' didn't change, skipping$")
_ENDED = re.compile(r"(?:Updating|Generating) lock file '.+'$|Stage '(?P<name>.+)' ended$")  # the driver names it
_DROPPED = re.compile(
    r"$|> |To track the changes with git, run:|To enable auto staging, run:|\tgit add |\tdvc config core\.autostage "
    r"|Use `dvc push` |Data and pipelines are up to date\.$"
)


def bare(address: str) -> str:
    """A stage's name without the file that it is in: `fit@padim-nut-clean`."""
    return address.removeprefix(PIPELINE)


def addresses(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """DVC's addresses of stages, given by full names, or by the name before `@` for all items of a stage.

    Raises:
        AdshiftError: no stage has this name.
    """
    by_name = {bare(address): address for address in known}
    chosen: list[str] = []
    for name in map(bare, names):
        items = [address for other, address in by_name.items() if name in (other, other.partition("@")[0])]
        if not items:
            stages = ", ".join(dict.fromkeys(other.partition("@")[0] for other in by_name))
            item = next((other for other in by_name if "@" in other), "none")
            raise AdshiftError(f"no stage {name}", f"choose from {stages}, or an item such as {item}")
        chosen += items
    return list(dict.fromkeys(chosen))


class Board:
    """Prints the lines of one `adshift repro`, and on a terminal a bar of all stages below them.

    Attributes:
        total: stages that may run.
        ran: whether a stage ran or was restored.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.ran = False
        self._lock = threading.Lock()
        self._reported: set[str] = set()
        self._running: dict[str, float] = {}
        self._spoke = time.monotonic()
        self._ended = threading.Event()
        self._bar = tqdm(total=total, unit="stage", disable=None, leave=False, file=sys.stderr)
        self._watch = threading.Thread(target=self._heartbeat, daemon=True)

    def __enter__(self) -> "Board":
        self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._watch.join()
        self._bar.close()

    def dvc(self, *command: str) -> int:
        """Run `dvc` with these arguments, print its output, and return its exit code."""
        return self._run(["dvc", *command])

    def drive(self, asked: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> int:
        """Run `adshift.project.driver`, print its output, and return its exit code.

        Args:
            asked: what it reads.
            environment: variables beside this process's.
        """
        return self._run([sys.executable, "-m", "adshift.project.driver"], environment, json.dumps(asked))

    def _run(self, command: Sequence[str], environment: Mapping[str, str] | None = None, given: str = "") -> int:
        # stderr is a pipe too, so that the bars of stages do not overwrite this one.
        process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        with suppress(BrokenPipeError), process.stdin as file:
            file.write(given)
        complaints = threading.Thread(target=self._copy, args=(process.stderr,), daemon=True)
        complaints.start()
        try:
            with process.stdout as lines:
                self._follow(lines, several=command[0] != "dvc")
        finally:
            code = process.wait()
            complaints.join()
        return code

    def _copy(self, lines: IO[str]) -> None:
        with lines:
            for line in map(str.rstrip, lines):
                self.write(line, sys.stderr)

    def _follow(self, lines: IO[str], several: bool) -> None:
        """Report the stages of which lines speak; of `several` that run together, a line says which has ended."""
        for line in map(str.rstrip, lines):
            running, cached, unchanged, ended = (
                pattern.match(line) for pattern in (_RUNNING, _CACHED, _UNCHANGED, _ENDED)
            )
            if ended and ended["name"]:
                self._end(ended["name"])
            elif not several and (running or cached or unchanged or ended):
                for name in list(self._running):
                    self._end(name)
            if running:
                with self._lock:
                    self._running[running[1]] = time.monotonic()
                    self._bar.set_postfix_str(", ".join(map(bare, self._running)))
            elif cached:
                self._report(cached[1], "cached")
            elif unchanged:
                self._report(unchanged[1], UNCHANGED)
            elif not ended and not _DROPPED.match(line):
                self.write(line)
        with self._lock:  # a failed stage has no line: DVC's error names it
            self._running.clear()

    def _end(self, address: str) -> None:
        with self._lock:
            start = self._running.pop(address, None)
        if start is not None:
            self._report(address, f"{time.monotonic() - start:.1f} s")

    def _report(self, address: str, outcome: str) -> None:
        with self._lock:
            if address in self._reported:
                return
            self._reported.add(address)
            self.ran |= outcome != UNCHANGED
            number = len(self._reported)
            self._bar.update()
        self.write(f"{number:>{len(str(self.total))}}/{self.total}  {bare(address)}  {outcome}")

    def write(self, line: str, file: IO[str] | None = None) -> None:
        """Print a line above the bar, to stdout if no file is given."""
        with self._lock:
            self._spoke = time.monotonic()
            with tqdm.external_write_mode(file=file or sys.stdout):
                print(line, file=file or sys.stdout, flush=True)

    def _heartbeat(self) -> None:
        while not self._ended.wait(QUIET / 10):
            now = time.monotonic()
            with self._lock:
                silent, running = now - self._spoke, {bare(name): now - at for name, at in self._running.items()}
            if running and silent >= QUIET and self._bar.disable:
                stages = ", ".join(f"{name} ({seconds:.0f} s)" for name, seconds in running.items())
                self.write(f"still running: {stages}")
