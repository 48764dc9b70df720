"""A disk that fills up in the middle of a run: a file-size limit, and a small tmpfs where mounting is allowed."""

import argparse
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from faults.damage import whole
from faults.kills import compare
from tiny import Project

CASES = (  # a change, and how many KiB a file may have that a stage writes after it
    ({"calibrate__steps": 20}, 1),
    ({"seed": 7}, 3),
    ({"patchcore__coreset": 0.3}, 20),
)


def inject(bench: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Limits that thresholds, shifted images and a model meet, and a small disk."""
    entries = []
    for change, limit in CASES:
        project = bench.copy(f"limited-{limit}")
        project.change(**change)
        shell = project.folder / ".dvc" / "tmp" / "limited"
        shell.write_text(f'#!/bin/bash\nulimit -f {limit}\nexec /bin/bash "$@"\n')
        shell.chmod(0o755)
        # DVC starts stages through SHELL. Python 3.11 itself keeps half a .pyc on a full disk.
        project.environment = {"SHELL": str(shell), "PYTHONDONTWRITEBYTECODE": "1"}
        done = project.run("dvc", "repro", ok=False)
        project.environment = {}
        project.git("checkout", "-q", "params.yaml")
        entries.append(_judge(bench, project, f"files of {limit} KiB at most", done))
    if os.geteuid() == 0:
        entries += _tmpfs(bench)
    return {"injected": len(entries), "survived": sum(bool(entry["survived"]) for entry in entries), "entries": entries}


def _tmpfs(bench: Any) -> list[dict[str, Any]]:
    """Outputs on a tmpfs of a few megabytes; none where it cannot be mounted."""
    project = bench.fresh("small-disk")
    data = project.folder / "data"
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(data)], check=False)
    if mounted.returncode:
        return []
    try:
        done = project.run("dvc", "repro", ok=False)  # data/ alone is small: compiled modules lie elsewhere
        subprocess.run(["mount", "-o", "remount,size=200m", str(data)], check=True)
        return [_judge(bench, project, "a disk of 3 MB", done)]
    finally:
        subprocess.run(["umount", str(data)], check=True)


def _judge(bench: Any, project: Project, kind: str, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Whether it was told, left nothing, and a run with room enough completes."""
    said = done.stdout + done.stderr
    left = [str(path) for path in Path(project.folder).rglob(".*.tmp-*") if ".dvc" not in path.parts]
    line = next((line for line in said.splitlines() if "could not be written" in line), "")
    by_dvc = "" if line else next((line for line in said.splitlines() if line.startswith("ERROR")), "")
    repaired = project.run("adshift", "repair").stdout.strip()
    project.dvc("repro")
    entry = {"kind": kind, "said": line, "said_by_dvc": by_dvc, "left": left, "repaired": repaired}
    entry |= compare(bench.whole, project) | {"intact": whole(bench.whole, project)}
    entry["survived"] &= done.returncode != 0 and bool(line or by_dvc) and not left and entry["intact"]
    entry["survived"] &= "Traceback" not in said
    shutil.rmtree(project.folder, ignore_errors=True)
    print(entry, flush=True)
    return entry
