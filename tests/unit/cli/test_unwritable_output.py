"""Terminals that lack a character, and pipes that close, end no verdict with the code of another."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from adshift import cli
def work(args):
    for number in range({lines}):
        print(f"gr\\u00f6\\u00dfe-\\u25cf {{number}}", flush=True)
        print("told", file=sys.stderr, flush=True)
    sys.exit(0)
cli._main = lambda: work(None)
sys.argv = ["adshift"]
cli.main()
"""


def command(lines: int) -> list[str]:
    return [sys.executable, "-c", SCRIPT.format(lines=lines)]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_name_that_the_encoding_lacks_is_escaped(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(command(1), env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"\\u25cf 0" in done.stdout
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("both", [False, True])
def test_a_pipe_that_closes_ends_without_a_traceback(tmp_path: Path, both: bool) -> None:
    told = tmp_path / "stderr"
    with told.open("wb") as errors:
        process = subprocess.Popen(
            command(20_000), stdout=subprocess.PIPE, stderr=subprocess.STDOUT if both else errors
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 2
    assert told.read_bytes().count(b"Traceback") == 0
    assert told.read_bytes().count(b"Exception ignored") == 0
