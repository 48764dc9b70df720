"""A disk that fills up in the middle of a run: a file-size limit, and a small tmpfs where mounting is allowed."""

import argparse
import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

from faults.damage import whole
from faults.kills import compare
from tiny import Project


def inject(bench: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Limits that different stages meet first."""
    entries = []
    for limit in (2_000, 20_000, 200_000):
        project = bench.fresh(f"limited-{limit}")
        done = subprocess.run(
            ["dvc", "repro"], cwd=project.folder, env=project.full_environment(), capture_output=True, text=True,
            check=False, preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1)),
        )  # fmt: skip
        entries.append(_judge(bench, project, f"files of {limit} bytes at most", done))
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
        done = project.run("dvc", "repro", ok=False)
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
