"""What `adshift repro` prints, from the output of a DVC that only speaks."""

import os
import sys
import time
from pathlib import Path

import pytest

from adshift.errors import AdshiftError
from adshift.project import board, jobs
from adshift.project.board import Board, addresses

STAGES = {
    "check": set(), "split": {"check"}, "pipeline/dvc.yaml:fit@padim-nut-clean": {"split"},
    "pipeline/dvc.yaml:fit@padim-bolt-clean": {"split"}, "report": {"pipeline/dvc.yaml:fit@padim-nut-clean"},
}  # fmt: skip


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a command `dvc` on the path that prints these lines, with `sleep N` among them, and ends with this code."""

    def install(*lines: str, code: int = 0) -> None:
        body = "\n".join(
            f"time.sleep({line.split()[1]})"
            if line.startswith("sleep ")
            else f"print({line!r}, flush=True, file=sys.{'stderr' if line.startswith('ERROR') else 'stdout'})"
            for line in lines
        )
        script = tmp_path / "dvc"
        script.write_text(f"#!{sys.executable}\nimport sys, time\n{body}\nsys.exit({code})\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    return install


RAN = [
    "Running stage 'pipeline/dvc.yaml:fit@padim-nut-clean':", "> python stages/fit.py padim nut clean", "sleep 0.2",
    "warning: few images", "Updating lock file 'pipeline/dvc.lock'", "",
    "To track the changes with git, run:", "", "\tgit add dvc.lock", "", "To enable auto staging, run:", "",
    "\tdvc config core.autostage true",
]  # fmt: skip


def test_one_line_a_stage(says, capfd) -> None:
    says(
        "Stage 'check' didn't change, skipping",
        *RAN,
        "Stage 'report' is cached - skipping run, checking out outputs",
        "Updating lock file 'dvc.lock'",
        "Use `dvc push` to send your updates to remote storage.",
    )
    with Board(12) as shown:
        assert shown.dvc("repro") == 0
        assert shown.ran
    lines = capfd.readouterr().out.splitlines()
    assert lines[:2] == [" 1/12  check  unchanged", "warning: few images"]
    number, name, seconds, unit = lines[2].split()
    assert (number, name, unit) == ("2/12", "fit@padim-nut-clean", "s")
    assert 0.2 <= float(seconds) < 60
    assert lines[3:] == [" 3/12  report  cached"]


def test_stages_that_run_together_end_by_name(says, tmp_path: Path, capfd) -> None:
    says(
        "Running stage 'fit@a':", "Running stage 'fit@b':", "Stage 'check' didn't change, skipping", "sleep 0.3",
        "Stage 'fit@b' ended", "Stage 'report' is cached - skipping run, checking out outputs", "sleep 0.3",
        "Stage 'fit@a' ended", "Running stage 'fit@c':",
    )  # fmt: skip
    (tmp_path / "dvc").rename(tmp_path / "driver")
    with Board(5) as shown:
        assert shown._run([str(tmp_path / "driver")], given="ignored") == 0
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    assert [(line[0], line[1]) for line in lines] == [
        ("1/5", "check"), ("2/5", "fit@b"), ("3/5", "report"), ("4/5", "fit@a")
    ]  # fmt: skip
    assert 0.3 <= float(lines[1][2]) < float(lines[3][2])


def test_a_stage_is_told_once_and_an_unchanged_run_ran_nothing(says, capfd) -> None:
    says("Stage 'check' didn't change, skipping", "Data and pipelines are up to date.")
    with Board(1) as shown:
        shown.dvc("repro")
        shown.dvc("repro")
        assert not shown.ran
    assert capfd.readouterr().out == "1/1  check  unchanged\n"


def test_a_stage_that_fails_has_no_line_and_its_error_passes_through(says, capfd) -> None:
    says("Running stage 'check':", "> python stages/check.py", "error: classes: nut not found",
         "ERROR: failed to reproduce 'check'", code=255)  # fmt: skip
    with Board(1) as shown:
        assert shown.dvc("repro") == 255
    said = capfd.readouterr()
    assert said.out == "error: classes: nut not found\n"
    assert said.err == "ERROR: failed to reproduce 'check'\n"


def test_a_long_stage_is_told_now_and_then(says, capfd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "QUIET", 0.2)
    says("Running stage 'check':", "sleep 1.5", "Updating lock file 'dvc.lock'")
    with Board(1) as shown:
        shown.dvc("repro")
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1].startswith("1/1  check  ")
    assert 1 <= sum(line.startswith("still running: check (") for line in lines) <= 7


def test_names_without_the_file_are_enough() -> None:
    known = list(STAGES)
    assert addresses(["fit@padim-nut-clean"], known) == ["pipeline/dvc.yaml:fit@padim-nut-clean"]
    assert addresses(["pipeline/dvc.yaml:fit@padim-nut-clean", "fit@padim-nut-clean"], known) == [known[2]]
    assert addresses(["fit"], known) == known[2:4]
    with pytest.raises(AdshiftError, match="no stage fti"):
        addresses(["check", "fti"], known)


def test_a_stage_needs_what_it_depends_on_directly_or_not() -> None:
    assert list(jobs._needed(STAGES, ["report"])) == [
        "check",
        "split",
        "pipeline/dvc.yaml:fit@padim-nut-clean",
        "report",
    ]
    assert list(jobs._needed(STAGES, ["split"])) == ["check", "split"]


def test_progress_in_a_pipe_is_a_line_now_and_then(capfd, monkeypatch: pytest.MonkeyPatch) -> None:
    from adshift.runtime import parallel

    monkeypatch.setattr(parallel, "SECONDS_PER_LINE", 0.05)
    items = list(parallel.progress((time.sleep(0.03) or i for i in range(4)), what="embed", total=4))
    assert items == [0, 1, 2, 3]
    assert 1 <= capfd.readouterr().err.count("embed: ") <= 3
    with parallel.silent():
        assert list(parallel.progress(iter([1]), what="embed")) == [1]
