"""Long checks of what docs/reliability.md promises, on a tiny run in a temporary clone; `make faults`.

    python tests/faults/run.py [--only kills signals damage disk same together limits] [--kills 30] [--images 100000]

Each part's figures replace those of its last run in docs/results/faults.json; the exit code is 1 if a fault did harm.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "support"), str(ROOT / "benchmarks")]

from harness import provenance  # noqa: E402

from tiny import CLASSES, Project, write_tree  # noqa: E402

RESULTS = ROOT / "docs" / "results" / "faults.json"
PARTS = ("kills", "signals", "damage", "disk", "same", "together", "limits")


class Bench:
    """The tiny project that never ran, and its undisturbed run, made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._whole: Project | None = None

    def fresh(self, name: str) -> Project:
        """A project that is set up and has not run."""
        project = Project(self.folder / name)
        write_tree(project.folder / "photos")
        project.copy()
        project.run("adshift", "preset", "mvtec", "--data-root", "photos")
        project.change(
            dataset__root="photos",  # relative, so that the manifests of runs elsewhere are equal
            # Detectors that start quickly, small images: faults are of the pipeline.
            classes=list(CLASSES[:1]), methods=["patchcore", "padim_diagonal"], patchcore__coreset=0.1,
            features__resize=72, features__crop=64, evaluate__bootstrap=100,
        )  # fmt: skip
        project.commit("tiny")
        return project

    @property
    def whole(self) -> Project:
        """The undisturbed run; leave it as it is."""
        if self._whole is None:
            self._whole = self.fresh("whole")
            self._whole.dvc("repro")
            self._whole.commit("run")
        return self._whole

    def copy(self, name: str) -> Project:
        """A copy of the undisturbed run."""
        target = Project(self.folder / name)
        shutil.copytree(self.whole.folder, target.folder, symlinks=True)
        return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--images", type=int, default=100_000, help="of the limits")
    parser.add_argument("--embedded", type=int, default=5_000, help="of these, embedded")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adshift-faults-") as folder:
        bench = Bench(Path(folder))
        harm = False
        for part in args.only:
            start = time.monotonic()
            result = import_module(f"faults.{part}").inject(bench, args)
            result["minutes"] = round((time.monotonic() - start) / 60, 1)
            result["bytes_lost"] = sum(entry.get("bytes_lost", 0) for entry in result["entries"])
            found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            found[part] = {**provenance(), **result}
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
            harm |= result["survived"] < result["injected"]
            print(f"{part}: {result['survived']} of {result['injected']} survived, {result['minutes']} min", flush=True)
    sys.exit(int(harm))


if __name__ == "__main__":
    main()
