"""What a changed knob costs on the sample set, as a share of a cold `dvc exp run`, and what a no-op `dvc repro` costs.

In a temporary clone of the last commit, with a DVC cache and a `src` of its own. Every knob starts from the same state:
the cold run's, committed. Here `ours` is the knob's run and `peer` the cold one.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from harness import HERE, Entry, at_most

KNOBS = {
    "patchcore.coreset=0.04": 0.20,
    "patchcore.neighbours=5": 0.15,
    "calibrate.steps=500": 0.06,
}  # each with the share of the cold run that it may take
IDLE = 2.5  # seconds
AUTHOR = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
          for what, value in (("NAME", "bench"), ("EMAIL", "bench@localhost"))}  # fmt: skip


class Clone:
    """A clone of this repository's last commit in `folder`."""

    def __init__(self, folder: Path) -> None:
        subprocess.run(["git", "clone", "--quiet", str(HERE.parent), str(folder)], check=True)
        self.folder = folder
        self.environment = {**os.environ, **AUTHOR, "PYTHONPATH": str(folder / "src"), "DVC_NO_ANALYTICS": "1"}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(self, *command: str) -> tuple[float, str]:
        """Seconds of a command, and what it said.

        Raises:
            RuntimeError: it failed.
        """
        start = time.perf_counter()
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True,
                              check=False)  # fmt: skip
        took = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-2000:]}")
        return took, done.stdout

    def commit(self) -> None:
        """The base state: what the cold run left."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--no-verify", "--allow-empty", "--message", "base")

    def restore(self) -> None:
        """Back to the base state, outputs from the cache."""
        self.run("git", "reset", "--quiet", "--hard")
        self.run("dvc", "checkout", "--quiet", "--force")


def run(knobs: dict[str, float] | None = None, overrides: Sequence[str] = (), rounds: int = 3) -> dict[str, Entry]:
    """Entries `knobs.KEY` and `knobs.idle`; the first knob's is `knobs`.

    Args:
        knobs: {change: share of the cold run that it may take}.
        overrides: other changes of params.yaml for the cold run, that make it smaller.
        rounds: of the no-op.
    """
    knobs = KNOBS if knobs is None else knobs
    entries: dict[str, Entry] = {}
    with tempfile.TemporaryDirectory() as name:
        clone = Clone(Path(name) / "adshift")
        settings = [part for change in overrides for part in ("--set-param", change)]
        cold, _ = clone.run("dvc", "exp", "run", *settings)
        clone.commit()
        for change, limit in knobs.items():
            took, said = clone.run("dvc", "exp", "run", "--set-param", change)
            stages = said.count("Running stage")
            key = change.split("=")[0]
            entries[f"knobs.{key}"] = _entry(took, cold, at_most("share of a cold run", took / cold, limit),
                                             change=change, stages=stages)  # fmt: skip
            clone.restore()
        idle, stages = [], 0
        for _ in range(rounds):
            took, said = clone.run("dvc", "repro")
            stages += said.count("Running stage")
            idle.append(took)
    took = median(idle)
    entries["knobs.idle"] = _entry(took, cold, at_most("seconds", took, IDLE), at_most("stages run", stages, 0),
                                   change="none")  # fmt: skip
    return {"knobs": entries.pop(f"knobs.{next(iter(knobs)).split('=')[0]}"), **entries}


def _entry(took: float, cold: float, *targets: dict[str, object], **facts: object) -> Entry:
    return {
        **facts, "of": "sample set", "ours": took, "peer": cold, "ratio": cold / took,
        "memory": {"ours": None, "peer": None}, "rounds": {"ours": 1, "peer": 1}, "targets": list(targets),
        "note": "the peer is a cold run of the whole pipeline",
    }  # fmt: skip
