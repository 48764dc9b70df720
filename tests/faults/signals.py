"""SIGINT and SIGTERM to every kind of stage, at moments spread over its work: when it ends, and what it leaves."""

import argparse
import random
import shutil
import signal
import subprocess
import time
from typing import Any

from faults.damage import whole

LIMIT = 2.0  # seconds


def inject(bench: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Both signals, one item a kind of stage."""
    project = bench.copy("signalled")
    commands = {name.split("@")[0]: stage["cmd"] for name, stage in project.locked().items()}
    draw, entries = random.Random(0), []
    for kind, command in commands.items():
        for number in (signal.SIGINT, signal.SIGTERM):
            running = subprocess.Popen(
                command.split(), cwd=project.folder, env=project.full_environment(), stderr=subprocess.PIPE, text=True
            )
            time.sleep(draw.uniform(0.3, 4))
            ended, start = running.poll() is not None, time.monotonic()
            running.send_signal(number)
            running.communicate()
            entry = {
                "kind": f"{kind}, {number.name}",
                "seconds": round(time.monotonic() - start, 2),
                "rc": running.returncode,
            }
            left = [str(path) for path in project.folder.rglob(".*.tmp-*") if ".dvc" not in path.parts]
            if not ended:
                entries.append({**entry, "left": left, "survived": entry["seconds"] < LIMIT and not left})
                print(entries[-1], flush=True)
    intact = whole(bench.whole, project)
    entries.append({"kind": "all outputs afterwards", "survived": intact})
    shutil.rmtree(project.folder)
    return {"injected": len(entries), "survived": sum(bool(entry["survived"]) for entry in entries), "entries": entries}
