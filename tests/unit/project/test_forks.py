"""Stages as forks: what they see, and how they end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import ROOT

STAGE = """
import json, os, signal, sys
from pathlib import Path

seen = {"words": sys.argv, "folder": os.getcwd(), "mine": os.environ.get("MINE"), "home": "HOME" in os.environ,
        "first": sys.path[0], "main": __name__}
Path(f"{sys.argv[1]}.json").write_text(json.dumps(seen))
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "raises":
    raise ValueError("in a fork")
sys.exit(int(sys.argv[2]))
"""
CALLS = """
import json, os, sys
from concurrent.futures import ThreadPoolExecutor
from adshift.project import forks

forks._server.set_forkserver_preload([])
calls = [["stages/one.py", *words] for words in json.loads(sys.argv[1])]
environment = {"PATH": os.environ["PATH"], "MINE": "yes"}
if __name__ == "__main__":
    with ThreadPoolExecutor(6) as pool:
        print(json.dumps(list(pool.map(lambda words: forks.run(words, environment, sys.argv[2]), calls))))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/one.py").write_text(STAGE)
    return tmp_path


def codes(folder: Path, *calls: list[str]) -> tuple[list[int], str]:
    """Exit codes of stages that six threads start, and what they said on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", CALLS, json.dumps(calls), str(folder)], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}, cwd=folder.parent, timeout=60,
    )  # fmt: skip
    return json.loads(done.stdout), done.stderr


def test_a_stage_sees_what_a_process_of_its_own_sees(folder: Path) -> None:
    assert codes(folder, ["plain", "0"]) == ([0], "")
    assert json.loads((folder / "plain.json").read_text()) == {
        "words": ["stages/one.py", "plain", "0"], "folder": str(folder), "mine": "yes", "home": False,
        "first": "stages", "main": "__main__",
    }  # fmt: skip


def test_each_ends_with_its_own_code(folder: Path) -> None:
    """Many at once, some within milliseconds of each other: no thread takes the code of another's stage."""
    calls = [[f"n{number}", str(number % 7)] for number in range(60)]
    assert codes(folder, *calls)[0] == [number % 7 for number in range(60)]


def test_a_signal_and_an_error_are_told(folder: Path) -> None:
    ended, said = codes(folder, ["killed", "0"], ["raises", "0"], ["plain", "3"])
    assert ended == [128 + 9, 1, 3]
    assert "ValueError: in a fork" in said


CARD = """
import importlib, os, sys

from adshift.project import forks

torch, _ = (importlib.import_module(name) for name in forks.IMPORTED)
if "count" in sys.argv:
    torch.cuda.device_count()
if os.fork() == 0:
    os._exit(torch.cuda._is_in_bad_fork())
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_fork_can_use_a_card() -> None:
    """CUDA refuses a fork of a process that has so much as counted the cards; torch remembers that without any."""

    def refused(*words: str) -> int:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        return subprocess.run([sys.executable, "-c", CARD, *words], check=False, env=environment).returncode

    assert refused() == 0
    import torch

    if torch.version.cuda:
        assert refused("count") == 1
