"""The provenance of figures: date, revision, hardware and versions."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "torch", "timm", "faiss-gpu", "dvc")


def provenance(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Date (UTC), git revision of the working directory (None outside of one), hardware, threads, versions."""
    from adshift.runtime.parallel import thread_count

    git = ["git", "describe", "--always", "--dirty"]
    revision = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": revision or None,
        "hardware": {"processor": _processor(), "cores": len(os.sched_getaffinity(0)), "memory_gib": round(memory, 1)},
        "threads": thread_count(),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
    }


def sentence(record: dict[str, Any]) -> str:
    """A provenance as one line of a page."""
    hardware = record["hardware"]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    return (
        f"{record['date'][:10]}, revision {record['revision']}; {hardware['processor']}, {hardware['cores']} cores, "
        f"{hardware['memory_gib']} GiB; {versions}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
