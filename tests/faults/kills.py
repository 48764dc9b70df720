"""`kill -9` of a stage, of dvc and of the whole process group, at moments spread over a run.

One project runs from nothing and is killed again and again, going on from where it was. After each kill a copy of it is
brought to completion by `dvc repro` alone and compared with an undisturbed run, output by output.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from adshift.project import repair
from adshift.runtime import signals
from tiny import Project, plain

KINDS = ("stage", "dvc", "group")
SHELLS = ("/bin/bash", "/bin/sh")  # bash lets the stage take its place; dash waits between DVC and the stage
ORPHAN = 2.0  # seconds that the orphan of a killed dvc may live, unless compiled code holds the interpreter's lock
REMEDY = ("adshift", "repair")


def inject(bench: Any, args: argparse.Namespace) -> dict[str, Any]:
    """`args.kills` kills, kinds in turn."""
    reference, fresh, count = bench.whole, bench.fresh("killed"), args.kills
    stages = len(fresh.dvc("stage", "list", "--all", "--name-only").splitlines())
    draw = random.Random(0)
    entries: list[dict[str, Any]] = []
    for number in range(count):
        moment = (number + draw.random()) * stages / count  # in stages done; the fraction is time within one
        entry = _kill(fresh, KINDS[number % len(KINDS)], SHELLS[number // len(KINDS) % len(SHELLS)], moment)
        copy = Project(bench.folder / f"kill-{number}", fresh.threads)
        shutil.copytree(fresh.folder, copy.folder, symlinks=True)
        start = time.monotonic()
        entry["remedies"] = _complete(copy)
        entry["seconds_to_complete"] = round(time.monotonic() - start, 1)
        entry |= compare(reference, copy)
        entry["survived"] &= entry["orphan_stopped"] and not entry["orphan_wrote"]
        entries.append(entry)
        print(f"kill {number + 1}/{count}: {entry}", flush=True)
        shutil.rmtree(copy.folder)
        if entry["remedies"]:
            _mend(fresh)
    return {
        "injected": len(entries),
        "survived": sum(bool(entry["survived"]) for entry in entries),
        "late_orphans": sum(entry["orphan_seconds"] > ORPHAN for entry in entries),
        "entries": entries,
    }


def compare(reference: Project, project: Project) -> dict[str, Any]:
    """How a completed project differs from the undisturbed one, and what temporary files it holds."""
    wanted, found = reference.hashes(), project.hashes()
    differing = sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
    left = [str(path.relative_to(project.folder)) for path in project.folder.rglob(".*.tmp-*")]
    clean = project.run("dvc", "status", "--quiet", ok=False).returncode == 0
    return {
        "differing": differing,
        "bytes_lost": sum(size(reference.folder / path) for path in differing),
        "leftovers": left,
        "survived": not differing and not left and clean,
    }


def size(path: Path) -> int:
    """Bytes of a file, or of all in a folder."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files)


def _complete(project: Project) -> list[str]:
    """`dvc repro`; what DVC cannot read after it was killed in the middle of writing is corrected first, and told."""
    done = project.run("dvc", "repro", ok=False)
    if done.returncode == 0:
        return []
    said = (done.stdout + done.stderr).strip().splitlines()[-6:]
    told = _mend(project)
    project.dvc("repro")
    return [*told, *said]


def _mend(project: Project) -> list[str]:
    return project.run(*REMEDY).stdout.strip().splitlines()


def _kill(project: Project, kind: str, shell: str, moment: float) -> dict[str, Any]:
    """Start `dvc repro`, kill when so many stages are done in all; tells where."""
    environment = {**project.full_environment(), "SHELL": shell}
    log = project.folder / ".dvc" / "tmp" / "run.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        running = subprocess.Popen(
            ["dvc", "repro"], cwd=project.folder, env=environment, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    while running.poll() is None and _done(project, log) < int(moment):
        time.sleep(0.05)
    time.sleep(1.5 * (moment % 1))
    stages = _stages(running.pid)
    while kind == "stage" and not stages and running.poll() is None:
        time.sleep(0.02)
        stages = _stages(running.pid)
    at = [line for line in log.read_text().splitlines() if line.startswith("Running stage")][-1:]
    entry = {
        "kind": kind,
        "shell": shell,
        "moment": round(moment, 2),
        "at": plain(at[0].split("'")[1]) if at else "start",
        "in_stage": bool(stages),
    }
    if kind == "group":
        os.killpg(running.pid, signal.SIGKILL)
    elif kind == "dvc":
        running.kill()
    else:
        for stage in stages:
            stage.kill()
    running.wait()
    start, before = time.monotonic(), _outputs(project)
    # Until they have ended: psutil would wait until an init has noticed, which some do once in two seconds.
    while (alive := any(signals.alive(stage.pid) for stage in stages)) and time.monotonic() - start < 60:
        time.sleep(0.02)
    entry["orphan_seconds"] = round(time.monotonic() - start, 1)
    entry["orphan_stopped"] = not alive
    after = _outputs(project)
    entry["orphan_wrote"] = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    return entry


def _outputs(project: Project) -> dict[str, tuple[int, int]]:
    """{output: its file's number and time}; what is still being written, under a temporary name, is none."""
    found = {}
    for top in ("data", "models", "metrics", "plots", "report", "timings"):
        for path in (project.folder / top).rglob("*"):
            with suppress(FileNotFoundError):  # removed meanwhile
                if ".tmp-" not in str(path.relative_to(project.folder)) and path.is_file():
                    found[str(path.relative_to(project.folder))] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


def _stages(dvc: int) -> list[psutil.Process]:
    """Stage scripts below a dvc."""
    found = []
    try:
        for child in psutil.Process(dvc).children(recursive=True):
            if any(part.startswith("stages/") for part in child.cmdline()):
                found.append(child)
    except psutil.Error:
        pass
    return found


def _done(project: Project, log: Path) -> int:
    """Stages in the files dvc.lock, and those that this run found fresh."""
    locks = [project.folder / lock for lock in repair.LOCKS]
    lines = [line for lock in locks if lock.is_file() for line in lock.open()]
    return sum(line.startswith("  ") and line[2] != " " and line.rstrip().endswith(":") for line in lines)
