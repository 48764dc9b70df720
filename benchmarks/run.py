"""Run the benchmarks, print one table, write benchmarks/results/latest.json.

python benchmarks/run.py [NAME]      make bench [ONLY=NAME]

A benchmark is a file bench_NAME.py with `run() -> dict` that holds at least `ours` and `peer` (seconds, both measured
in that run) and `ratio` (peer / ours); `memory` says what `ours` and `peer` needed.
"""

import json
import os
import platform
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "latest.json"
PACKAGES = ("numpy", "numba", "torch", "timm", "anomalib", "faiss-gpu", "scikit-learn", "dvc")


def hardware() -> dict[str, Any]:
    """Processor, cores that may be used, memory in GiB."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"processor": model, "cores": len(os.sched_getaffinity(0)), "memory_gib": round(memory, 1)}


def main() -> None:
    names = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    if only and only not in names:
        sys.exit(f"error: no benchmark {only}\n  remedy: choose from {', '.join(names)}")
    sys.path.insert(0, str(HERE))
    os.chdir(HERE.parent)
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"benchmarks": {}}
    print(f"{'benchmark':<16}{'ours, s':>12}{'peer, s':>12}{'peer / ours':>14}")
    for name in [only] if only else names:
        found = import_module(f"bench_{name}").run()
        results["benchmarks"][name] = {**found, "hardware": hardware(), "python": platform.python_version(),
                                       "versions": {package: version(package) for package in PACKAGES}}  # fmt: skip
        print(f"{name:<16}{found['ours']:>12.3f}{found['peer']:>12.3f}{found['ratio']:>14.1f}", flush=True)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
