"""`make mutants`: plants small bugs in the core's modules, one at a time, and counts those that their tests notice.

mutmut does the work; `[tool.mutmut]` in pyproject.toml says in which modules and with which tests. This script runs it
from a clean state, sets aside the survivors that equivalent_mutants.toml argues to change nothing that anyone could
see, and writes docs/results/mutants.json, a record for each module. With names (`calibration tables`) it renews only
the records of these modules.

mutmut plants bugs in functions and methods: not in what a module defines outside of them, nor in properties.

Exit code 1: a module scores less than `WANTED`, or an argument is of a mutant that is dead or is no more.
"""

import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "docs" / "results" / "mutants.json"
ARGUED = ROOT / "tests" / "house" / "equivalent_mutants.toml"
WANTED = 0.95
# Enough for these modules; the others are held against all of `[tool.mutmut]`'s tests.
OWN_TESTS = {
    "image_level": ("evaluation",),
    "thresholds": ("evaluation",),
    "pixel_level": ("evaluation",),
    "scenarios": ("scenarios", "evaluation"),
    "calibration": ("calibration", "auto"),
    "package": ("package_parts", "package_by_hand"),
    "card": ("package_by_hand",),
    "splits": ("splits",),
    "split_file": ("splits", "tables"),
    "synthetic": ("shift_by_hand", "shift", "shrink"),
    "draws": ("shift_by_hand", "shift"),
    "tables": ("every_figure", "tables"),
    "table": ("every_figure", "tables"),
    "results": ("every_figure", "tables"),
    "published": ("every_figure", "tables"),
    "timings": ("every_figure", "tables"),
    "counts": ("calibration", "evaluation"),
}
# mutmut's settings come from pyproject.toml alone.
NARROWED = """
import sys
from mutmut.configuration import config
from mutmut.__main__ import _run
config().only_mutate = sys.argv[1:2]
config().pytest_add_cli_args_test_selection = sys.argv[2:] or config().pytest_add_cli_args_test_selection
_run((), 1)
"""
PACKAGES = ("mutmut", "pytest", "numpy", "pandas", "scikit-image")


def sources() -> dict[str, Path]:
    """Modules to plant bugs in, by their last name."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutmut"]
    return {Path(path).stem: Path(path) for path in settings["only_mutate"]}


def argued() -> dict[str, str]:
    """{mutant as `described`: why nobody could see it}."""
    entries = tomllib.loads(ARGUED.read_text(encoding="utf-8")).get("equivalent", [])
    return {mutant: entry["why"] for entry in entries for mutant in entry["mutants"]}


def described(name: str, path: Path) -> str:
    """A mutant by function and changed lines, which stay when others come or go: `calibrate: old -> new`."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    function = name.rpartition(".")[2].partition("__mutmut_")[0].removeprefix("x_").strip("xǁ").replace("ǁ", ".")
    lines = get_diff_for_mutant(name, path=path).splitlines()
    old, new = (
        " ".join(line[1:].strip() for line in lines if line.startswith(sign) and not line.startswith(sign * 3))
        for sign in "-+"
    )
    return f"{path.stem}.{function}: {old} -> {new}"


def git(*command: str) -> str:
    return subprocess.run(["git", *command], check=True, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def run(path: Path) -> None:
    """mutmut on one module, as its command does: in a process of its own, with the module's own tests if it has any."""
    shutil.rmtree(ROOT / "mutants", ignore_errors=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ADSHIFT_THREADS": "1"}
    environment.pop("PYTHONPATH", None)  # it could lead past the mutants
    tests = [str(next(Path("tests").rglob(f"test_{name}.py"))) for name in OWN_TESTS.get(path.stem, ())]
    subprocess.run([sys.executable, "-c", NARROWED, str(path), *tests], check=True, cwd=ROOT, env=environment)


def record(path: Path, reasons: dict[str, str]) -> dict[str, Any]:
    """What became of the mutants of a module."""
    from mutmut.mutation.data import SourceFileMutationData
    from mutmut.stats import status_by_exit_code

    found = SourceFileMutationData(path=path)
    found.load()
    outcomes = {name: status_by_exit_code[code] for name, code in found.exit_code_by_key.items()}
    counts = Counter(outcomes.values())
    alive = [described(name, path) for name, outcome in outcomes.items() if outcome in ("survived", "no tests")]
    equivalent = {mutant: reasons[mutant] for mutant in alive if mutant in reasons}
    unargued = [mutant for mutant in alive if mutant not in reasons]
    noticed = counts["killed"] + counts["timeout"]
    argued_of_them = len(alive) - len(unargued)
    return {
        "mutants": len(outcomes),
        "killed": counts["killed"],
        "timeouts": counts["timeout"],
        "argued": argued_of_them,
        "survived": len(outcomes) - noticed - argued_of_them,
        "score": round(noticed / max(len(outcomes) - argued_of_them, 1), 4),
        "score_without_arguments": round(noticed / max(len(outcomes), 1), 4),
        "survivors": unargued,
        "equivalent": equivalent,
        "commit": git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "src") else ""),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def write(known: dict[str, Path], new: dict[str, Any]) -> None:
    """Renew the records of these modules."""
    old = json.loads(RECORD.read_text())["modules"] if RECORD.exists() else {}
    records = {name: (old | new)[name] for name in known if name in old | new}
    RECORD.write_text(json.dumps({"command": "make mutants", "modules": records}, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    os.chdir(ROOT)
    known = sources()
    wanted = sys.argv[1:] or list(known)
    if unknown := set(wanted) - set(known):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    reasons, new = argued(), {}
    for name in wanted:
        run(known[name])
        new[name] = record(known[name], reasons)
        write(known, new)  # at once: the next module may take half an hour
    for name, found in new.items():
        counted = ", ".join(f"{found[key]} {key}" for key in ("mutants", "killed", "timeouts", "argued", "survived"))
        print(f"{name}: {found['score']:.1%} ({counted})")
        print("\n".join(f"  survived: {mutant}" for mutant in found["survivors"]))
    seen = {mutant for found in new.values() for mutant in found["equivalent"]}
    stale = [mutant for mutant in reasons if mutant.partition(".")[0] in new and mutant not in seen]
    print("\n".join(f"argued, but dead or gone: {mutant}" for mutant in stale))
    return 1 if stale or any(found["score"] < WANTED for found in new.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
