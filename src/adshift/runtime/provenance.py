"""When, with what and on what a figure was measured, and what has changed since."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adshift.errors import AdshiftError

CODE = ("src/", "stages/", "data/sources")  # a change of code is no change of parameters or data
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


def sentence(found: dict[str, Any]) -> str:
    """The same as one line of a page."""
    hardware, versions = found["hardware"], ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return (
        f"{found['date'][:10]}, revision {found['revision']}; {hardware['processor']}, {hardware['cores']} cores, "
        f"{hardware['memory_gib']} GiB; {versions}"
    )


def changed_since(stage: str) -> list[str]:
    """Parameters and data that are no longer those which a stage's outputs came from, in the words of DVC's records.

    All stages before it are looked at: a run that was interrupted may have renewed some of them. Files that are not
    here, as in a clone without `dvc pull`, and changes of code do not count.

    Raises:
        AdshiftError: this is no DVC project, params.yaml or a dvc.lock cannot be read, or another DVC is at work.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo

    from adshift.project import params

    params.load_all()  # DVC names no key
    try:
        with Repo() as repo:
            found = repo.status(targets=[stage], with_deps=True)
    except NotDvcRepoError:
        raise AdshiftError(f"{Path.cwd()}: no DVC project", "go to the folder of params.yaml") from None
    except LockError:
        raise AdshiftError("another DVC is at work here", "wait until it has ended, then run it again") from None
    except DvcException as error:
        raise AdshiftError(f"DVC cannot tell: {error}", "`dvc status` says more; `adshift repair`") from None
    keys, paths, commands = set[str](), set[str](), set[str]()
    for name, entries in found.items():
        for entry in entries:
            if isinstance(entry, str):  # "changed command": it holds the seed and the data set's name
                commands.add(f"{entry.removeprefix('changed ')} of {name}")
                continue
            for path, how in (pair for group in entry.values() for pair in group.items()):
                if isinstance(how, dict):
                    keys |= set(how)
                elif how in ("modified", "new") and not path.startswith(CODE):  # not: deleted, not in cache
                    paths.add(path)
    return [*sorted(keys), *sorted(paths), *sorted(commands)]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
