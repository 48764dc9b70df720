"""What a changed knob costs on the sample set, as a share of a cold `dvc exp run`, and what a no-op `dvc repro` costs.

In temporary clones of the last commit, one a round, each with a DVC cache and a `src` of its own. Every knob starts
from the same state: the cold run's, committed. Here `ours` is the knob's run and `peer` the cold one; the share is the
median of the rounds' (`all`).
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from harness import HERE, Entry, at_most

KNOBS = {
    "patchcore.coreset=0.04": 0.20,
    "patchcore.neighbours=5": 0.15,
    "calibrate.steps=500": 0.06,
}  # each with the share of the cold run that it may take
IDLE = 2.5  # seconds
RAN = "Running stage"  # what DVC says of each
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

    def experiment(self, *changes: str) -> tuple[float, int]:
        """Seconds of a `dvc exp run` with these changes, and how many stages it ran."""
        took, said = self.run("dvc", "exp", "run", *(part for change in changes for part in ("--set-param", change)))
        return took, said.count(RAN)

    def commit(self) -> None:
        """The base state: what the cold run left."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--no-verify", "--allow-empty", "--message", "base")

    def restore(self) -> None:
        """Back to the base state, outputs from the cache."""
        self.run("git", "reset", "--quiet", "--hard")
        self.run("dvc", "checkout", "--quiet", "--force")


def run(knobs: dict[str, float] | None = None, overrides: Sequence[str] = (), rounds: int = 3, idle: int = 3
        ) -> dict[str, Entry]:  # fmt: skip
    """Entries `knobs.KEY` and `knobs.idle`; the first knob's is `knobs`.

    Args:
        knobs: {change: share of the cold run that it may take}.
        overrides: other changes of params.yaml for the cold run, that make it smaller.
        rounds: of everything, each in a clone of its own.
        idle: no-ops a round.
    """
    knobs = KNOBS if knobs is None else knobs
    found = [_round(knobs, overrides, idle) for _ in range(rounds)]
    cold = [one["cold"][0] for one in found]
    entries: dict[str, Entry] = {}
    for change, limit in knobs.items():
        took, stages = [one[change][0] for one in found], found[0][change][1]
        shares = [knob / whole for knob, whole in zip(took, cold, strict=True)]
        target = at_most("share of a cold run", median(shares), limit)
        entries[f"knobs.{change.split('=')[0]}"] = _entry(took, cold, target, change=change, stages=stages, all=shares)
    took, stages = [one["idle"][0] for one in found], sum(one["idle"][1] for one in found)
    entries["knobs.idle"] = _entry(took, cold, at_most("seconds", median(took), IDLE), at_most("stages run", stages, 0),
                                   change="none")  # fmt: skip
    return {"knobs": entries.pop(f"knobs.{next(iter(knobs)).split('=')[0]}"), **entries}


def _round(knobs: Iterable[str], overrides: Sequence[str], idle: int) -> dict[str, tuple[float, int]]:
    """{change, `cold` or `idle`: seconds, stages run}."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        clone = Clone(Path(name) / "adshift")
        found["cold"] = clone.experiment(*overrides)
        clone.commit()
        for change in knobs:
            found[change] = clone.experiment(change)
            clone.restore()
        nothing = [clone.run("dvc", "repro") for _ in range(idle)]
    found["idle"] = median(took for took, _ in nothing), sum(said.count(RAN) for _, said in nothing)
    return found


def _entry(took: Sequence[float], cold: Sequence[float], *targets: dict[str, object], **facts: object) -> Entry:
    ours, peer = median(took), median(cold)
    return {
        **facts, "of": "sample set", "ours": ours, "peer": peer, "ratio": peer / ours,
        "memory": {"ours": None, "peer": None}, "rounds": {"ours": len(took), "peer": len(cold)},
        "targets": list(targets), "note": "the peer is a cold run of the whole pipeline",
    }  # fmt: skip
