"""The same bytes under other circumstances: path, threads, locale, time zone, order of directories."""

import argparse
import shutil
from typing import Any

from faults.kills import compare

# os.scandir, os.listdir and what pathlib makes of them, in reverse order
REVERSED = """
import os
listdir, scandir = os.listdir, os.scandir

class Reversed(list):
    def __enter__(self): return self
    def __exit__(self, *about): pass
    def __iter__(self): self.at = list.__iter__(self); return self.at
    def __next__(self): return next(self.at)
    def close(self): pass

def backwards(*path):
    with scandir(*path) as entries:
        found = Reversed(sorted(entries, key=lambda entry: entry.name, reverse=True))
    iter(found)
    return found

os.listdir = lambda *path: sorted(listdir(*path), reverse=True)
os.scandir = backwards
"""


def inject(bench: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Each circumstance in a checkout of its own, at another path than the undisturbed run's (two threads)."""
    entries = []
    for kind, threads, environment in (
        ("one thread, of BLAS too, a longer path", 1, {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}),
        ("LC_ALL, TZ, PYTHONHASHSEED", 2, {"LC_ALL": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "7"}),
        ("directories backwards", 2, {"PYTHONPATH": "backwards:src"}),
    ):
        project = bench.fresh(f"{'deep/' * 5 * (threads == 1)}same-{len(entries)}")
        (project.folder / "backwards").mkdir()
        (project.folder / "backwards" / "sitecustomize.py").write_text(REVERSED)
        project.threads, project.environment = threads, environment
        project.dvc("repro")
        project.environment = {}
        entries.append({"kind": kind, **compare(bench.whole, project)})
        print(entries[-1], flush=True)
        shutil.rmtree(project.folder)
    return {"injected": len(entries), "survived": sum(bool(entry["survived"]) for entry in entries), "entries": entries}
