"""The command ends with an answer's exit code only for an answer: whatever nobody foresaw ends with 2 and one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adshift import cli
from adshift.project import repair

ERRORS = {
    "a mistake of ours": (ValueError("of\nshapes \x1b[2J"), r"ValueError: of shapes \x1b[2J"),
    "no memory": (MemoryError(), "MemoryError:"),
    "too deep": (RecursionError("maximum recursion depth"), "RecursionError: maximum recursion depth"),
    "the system": (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
}


def ended(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["adshift", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
    return int(end.value.code or 0), capsys.readouterr().err


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("ADSHIFT_DEBUG", raising=False)
    return monkeypatch


def fail_with(patch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail() -> list[str]:
        raise error

    patch.setattr(repair, "repair", fail)


@pytest.mark.parametrize("name", ERRORS)
def test_what_nobody_foresaw(failing: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str) -> None:
    error, says = ERRORS[name]
    fail_with(failing, error)
    code, told = ended(capsys, "repair")
    assert code == 2
    assert told.startswith(f"error: not foreseen: {says}") and told.endswith("report it, with what --debug shows\n")
    assert told.count("\n") == 1


@pytest.mark.parametrize("words", [("--debug", "repair"), ("repair", "--debug"), ("repair",)])
def test_the_traceback_is_shown_when_asked(
    failing: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    fail_with(failing, ValueError("x"))
    if "--debug" not in words:
        failing.setenv("ADSHIFT_DEBUG", "1")
    code, told = ended(capsys, *words)
    assert code == 2
    assert "Traceback (most recent call last)" in told and "in fail" in told
    assert told.endswith("report it, with what --debug shows\n")


def test_who_interrupts_gets_130(failing: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail_with(failing, KeyboardInterrupt())
    assert ended(capsys, "repair") == (130, "")


PROGRAM = """
import sys
from adshift import cli
from adshift.project import repair
def work():
    {}
repair.repair = work
sys.argv = ["adshift", "repair"]
cli.main()
"""


def process(body: str, tmp_path: Path, **streams: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "ADSHIFT_DEBUG"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body)], check=False, cwd=tmp_path, env=environment, text=True,
        stderr=subprocess.PIPE, **streams,
    )  # fmt: skip


def test_as_a_shell_sees_it(tmp_path: Path) -> None:
    done = process("raise ValueError('x')", tmp_path, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: not foreseen: ValueError: x; please report it, with what --debug shows\n"


def test_a_reader_that_left(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = process("return ['a line']", tmp_path, stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (2, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_an_output_that_is_full(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = process("return ['a line']", tmp_path, stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith("error: not foreseen: OSError: [Errno 28]") and done.stderr.count("\n") == 1
