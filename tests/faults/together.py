"""Two at once in one workspace: right results, or a clean refusal by DVC's lock."""

import argparse
import shutil
import subprocess
import time
from typing import Any

from adshift.project import repair
from faults.kills import compare
from tiny import Project


def inject(bench: Any, args: argparse.Namespace) -> dict[str, Any]:
    entries = [_two_repros(bench), _jobs(bench), _experiment_beside(bench), _queue(bench)]
    return {"injected": len(entries), "survived": sum(bool(entry["survived"]) for entry in entries), "entries": entries}


def _start(project: Project, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=project.folder, env=project.full_environment(), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def _end(running: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    said = [one.communicate()[0] for one in running]
    return [
        {
            "rc": one.returncode,
            "said": text.strip()[-300:] if one.returncode else "",
            "traceback": "Traceback" in text,
        }
        for one, text in zip(running, said, strict=True)
    ]


def _judged(
    bench: Any, project: Project, kind: str, ended: list[dict[str, Any]], completed: bool = True
) -> dict[str, Any]:
    if completed:
        project.dvc("repro")
    entry = {"kind": kind, "ended": ended, **compare(bench.whole, project)}
    entry["survived"] &= not any(one["traceback"] for one in ended)
    shutil.rmtree(project.folder)
    print(entry, flush=True)
    return entry


def _two_repros(bench: Any) -> dict[str, Any]:
    project = bench.fresh("two")
    first = _start(project, "dvc", "repro")
    time.sleep(1)
    return _judged(bench, project, "two dvc repro at once", _end([first, _start(project, "dvc", "repro")]))


def _jobs(bench: Any) -> dict[str, Any]:
    project = bench.fresh("jobs")
    ended = _end([_start(project, "adshift", "repro", "--jobs", "2")])
    return _judged(bench, project, "adshift repro --jobs 2", ended, completed=False)


def _experiment_beside(bench: Any) -> dict[str, Any]:
    """An experiment in a temporary checkout, while the workspace runs another value."""
    project = bench.copy("beside")
    project.change(calibrate__steps=20)
    repro = _start(project, "dvc", "repro")
    time.sleep(1)
    ended = _end([repro, _start(project, "dvc", "exp", "run", "--temp", "-S", "calibrate.steps=30")])
    project.git("checkout", "-q", "params.yaml", *map(str, repair.LOCKS), "metrics/summary.json")
    project.dvc("checkout", "-q", "--force")
    return _judged(bench, project, "an experiment beside a repro", ended)


def _queue(bench: Any) -> dict[str, Any]:
    project = bench.copy("queue")
    for steps in (20, 30):
        project.dvc("exp", "run", "--queue", "-S", f"calibrate.steps={steps}")
    project.environment = {"PYTHONPATH": "src"}
    project.dvc("queue", "start", "-j", "2")
    deadline = time.monotonic() + 400
    states: list[str] = []
    while time.monotonic() < deadline:
        time.sleep(3)
        states = [line.split()[-1] for line in project.dvc("queue", "status").splitlines() if len(line.split()) > 4][:2]
        lines = [line for line in project.dvc("queue", "status").splitlines() if "Success" in line or "Failed" in line]
        if len(lines) == 2:
            states = ["Success" if "Success" in line else "Failed" for line in lines]
            break
    project.dvc("queue", "stop", "--kill", ok=False)
    project.environment = {}
    entry = _judged(bench, project, "dvc queue start -j 2", [{"rc": 0, "said": " ".join(states), "traceback": False}])
    entry["survived"] &= states == ["Success", "Success"]
    return entry
