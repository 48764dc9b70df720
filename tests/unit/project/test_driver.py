"""Stages run together in one DVC process: what DVC then says of the project, and what a failure or a kill leaves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import mini


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """A project whose stages `fit` are recorded to import the packages of the parameter, which it gives."""
    packages = getattr(request, "param", ())
    with mini.project(tmp_path, *packages):
        yield packages


# `fit` in processes of its own, or in forks of one that has imported torch.
BOTH = pytest.mark.parametrize("project", [(), ("torch",)], ids=["processes", "forks"], indirect=True)


def names() -> list[str]:
    return [line[0] for line in mini.log()]


@BOTH
def test_stages_run_in_order_and_dvc_has_nothing_left_to_do(project: object) -> None:
    done = mini.drive()
    assert done.returncode == 0, done.stderr
    assert (names()[0], sorted(names()[1:4]), names()[4]) == ("begin", ["a", "b", "c"], "end")
    assert {line[0] for line in mini.log() if line[4] == "True"} == (set(mini.ITEMS) if project else set())
    assert all(f"{name} speaks" in done.stdout for name in ("begin", *mini.ITEMS, "end"))
    assert mini.fresh()
    again = mini.drive()
    assert sorted(again.stdout.splitlines()) == sorted(f"Stage '{name}' didn't change, skipping" for name in mini.NAMES)
    ours = YAML(typ="safe").load(Path("dvc.lock"))
    Path("dvc.lock").unlink()
    mini.call("dvc", "repro", "--no-run-cache")
    assert YAML(typ="safe").load(Path("dvc.lock")) == ours


def test_outputs_that_are_gone_come_from_the_run_cache(project: object) -> None:
    mini.drive()
    Path("dvc.lock").unlink()
    for part in Path("out").glob("*/part"):
        part.unlink()
    done = mini.drive()
    assert done.stdout.count("is cached - skipping run") == 5
    assert len(mini.log()) == 5
    assert Path("out/a/part").read_text() == "made by a"
    assert mini.fresh()


def test_stages_share_the_processors(project: object) -> None:
    """One that runs alone has all of them, and of those that run together each has its part."""
    assert mini.drive(processors=6).returncode == 0
    threads = {line[0]: line[3] for line in mini.log()}
    assert threads["begin"] == threads["end"] == "6"
    assert threads["a"] == threads["b"] == "3"
    assert "None" not in threads.values()


def test_without_processors_to_share_the_environment_says(project: object) -> None:
    assert mini.drive(ADSHIFT_THREADS="5").returncode == 0
    assert {line[3] for line in mini.log()} == {"5"}


def test_a_failure_stops_what_comes_after_and_keeps_what_was_done(project: object) -> None:
    mini.order("fail", "b")
    done = mini.drive()
    assert done.returncode == 255
    assert "error: b: cannot be done\n  remedy: order it otherwise" in done.stderr
    assert "ERROR: failed to reproduce 'fit@b'" in done.stderr
    assert "Traceback" not in done.stderr
    assert "end" not in names()
    assert not Path("out/b").exists()
    Path("orders/fail-b").unlink()
    assert mini.drive().returncode == 0
    assert names().count("begin") == 1 and names().count("a") == 1


@pytest.mark.parametrize(
    ("project", "number"),
    [((), signal.SIGKILL), ((), signal.SIGTERM), ((), signal.SIGINT), (("torch",), signal.SIGKILL), (("torch",), None)],
    indirect=["project"],
)
def test_a_driver_that_is_killed_leaves_nothing_half_written(project: Path, number: int | None) -> None:
    """Or, for None, the fork server, which a machine short of memory may kill."""
    for name in mini.ITEMS:
        mini.order("sleep", name, 30)
    driver = subprocess.Popen(
        [sys.executable, "-m", "adshift.project.driver"], env=mini.environment(), stdin=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert driver.stdin
    driver.stdin.write(mini.asked())
    driver.stdin.close()
    deadline = time.monotonic() + 60
    while len(mini.log()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    stages = [int(line[2]) for line in mini.log()]
    if number is None:
        os.kill(int(Path(f"/proc/{stages[-1]}/stat").read_text().split()[3]), signal.SIGKILL)
    elif number == signal.SIGINT:  # a terminal sends it to all
        os.killpg(driver.pid, number)
    else:
        driver.send_signal(number)
    assert driver.wait(30)
    while any(Path(f"/proc/{pid}").exists() for pid in stages):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert sorted(path.name for path in Path("out").iterdir()) == ["begin"]
    for name in mini.ITEMS:
        Path("orders", f"sleep-{name}").unlink()
    assert mini.drive().returncode == 0
    assert mini.fresh()
    assert names().count("begin") == 1  # unwritten in dvc.lock perhaps, but in the run cache
