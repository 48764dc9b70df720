"""One bit of one file of each kind flipped, so that DVC does not see it: the stage that uses the file refuses it.

The file keeps its time and size, as one on a failing disk does, and `dvc status` calls it fresh. With all of them so,
their objects in the cache too, `adshift repair` and `dvc repro` must bring back what the undisturbed run has.
"""

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

from faults.kills import compare, size
from tiny import Project

# kind: (file, the command of a stage that uses it)
METHOD, NAME = "patchcore", "dots"
CASES = {
    "feature array": (f"data/features/clean/mvtec/{NAME}/level2.npy", "fit"),
    "features' description": (f"data/features/clean/mvtec/{NAME}/features.json", "fit"),
    "split": (f"data/split/mvtec/{NAME}.csv", "fit"),
    "settings": (f"data/settings/{METHOD}/fit.json", "fit"),
    "manifest": (f"data/clean/mvtec/{NAME}/manifest.csv", "split"),
    "shifted manifest": (f"data/shift/mvtec/{NAME}/manifest.csv", "embed"),
    "shifted image": (f"data/shift/mvtec/{NAME}/images/test/good/000.png", "embed"),
    "model": ("MODEL/model.safetensors", "score"),
    "model's description": ("MODEL/model.json", "score"),
    "validation scores": ("data/scores/val/mvtec/patchcore/**/*.npz", "calibrate"),
    "test scores": ("data/scores/test/mvtec/patchcore/**/*.npz", "evaluate"),
    "thresholds": (f"data/thresholds/mvtec/{METHOD}.json", "evaluate"),
    "evaluation": (f"data/evaluation/mvtec/image/{METHOD}.json", "aggregate"),
    "curve": (f"data/evaluation/mvtec/curves/{METHOD}/roc.csv", "aggregate"),
    "replicates": (f"data/evaluation/mvtec/bootstrap/{METHOD}.npz", "aggregate"),
    "ablation's bank": (f"data/ablation/mvtec/{NAME}/model.safetensors", "score_ablation"),
}


def inject(bench: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Each kind of file alone, then all at once in the workspace and in DVC's cache, and an object of a remote."""
    project = bench.copy("damaged")
    project.dvc("status", ok=False)  # DVC looks at every file of the copy once, as it did in the project
    entries, flipped = [], []
    for kind, (pattern, stage) in CASES.items():
        file = find(project, pattern)
        flipped += [file, _cached(project, file)]
        flip(file)
        done = project.run(*_command(project, stage).split(), ok=False)
        flip(file)
        said = done.stderr
        told = done.returncode == 1 and file.name in said and "Traceback" not in said and "  remedy: " in said
        entries.append(
            {"kind": kind, "file": str(file.relative_to(project.folder)), "said": said.strip(), "survived": told}
        )
        print(entries[-1], flush=True)
    for file in flipped:
        flip(file)
    unseen = project.run("dvc", "status", "--quiet", ok=False).returncode == 0
    removed = project.run("adshift", "repair").stdout.splitlines()
    project.dvc("repro")
    entry = {"kind": "all of them, in the cache too", "unseen_by_dvc": unseen, "removed": len(removed)}
    entry |= compare(bench.whole, project) | {"intact": whole(bench.whole, project)}
    entry["survived"] &= entry["intact"]
    entries += [entry, _remote(bench)]
    print(*entries[-2:], sep="\n", flush=True)
    shutil.rmtree(project.folder)
    return {"injected": len(entries), "survived": sum(bool(entry["survived"]) for entry in entries), "entries": entries}


def find(project: Project, pattern: str) -> Path:
    pattern = pattern.replace("MODEL", f"**/mvtec/{METHOD}/{NAME}/clean")
    return min(path for path in project.folder.glob(pattern) if ".dvc" not in path.parts)


def flip(file: Path) -> None:
    """One bit, seven eighths into the content (of features: a training image), times kept."""
    times, mode = file.stat(), file.stat().st_mode
    content = bytearray(file.read_bytes())
    content[len(content) * 7 // 8] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    file.chmod(mode)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def whole(reference: Project, project: Project) -> bool:
    """Whether every file of the outputs has the bytes of the undisturbed run, read and not looked up."""
    for name in ("data", "models", "metrics", "plots", "report"):
        for path in (reference.folder / name).rglob("*"):
            other = project.folder / path.relative_to(reference.folder)
            if path.is_file() and "timings" not in path.parts and other.read_bytes() != path.read_bytes():
                return False
    return True


def _command(project: Project, stage: str) -> str:
    """The command of a stage, of the item of `METHOD` and `NAME` on clean images where there are several."""
    items = {name: entry["cmd"] for name, entry in project.locked().items() if name.split("@")[0] == stage}
    wanted = {"embed": f"@{NAME}-shift", "fit": f"@{METHOD}-{NAME}-clean"}.get(stage, f"@{METHOD}")
    return str(next(command for name, command in items.items() if name == stage or wanted in name))


def _cached(project: Project, file: Path) -> Path:
    from hashlib import md5

    name = md5(file.read_bytes()).hexdigest()
    return project.folder / ".dvc/cache/files/md5" / name[:2] / name[2:]


def _remote(bench: Any) -> dict[str, Any]:
    """Pushed to the committed remote, flipped there, pulled into a clone: refused."""
    project, clone = bench.copy("pushed"), Project(bench.folder / "clone")
    store = bench.folder / "store"
    project.dvc("remote", "modify", "store", "url", str(store))
    project.commit("store")
    project.dvc("push")
    project.git("clone", "-q", str(project.folder), str(clone.folder))
    model = find(project, "MODEL/model.safetensors")
    pushed = store / _cached(project, model).relative_to(project.folder / ".dvc/cache")
    size_before = size(store)
    flip(pushed)
    done = clone.run("dvc", "pull", str(model.relative_to(project.folder).parent), ok=False)
    there = clone.folder / model.relative_to(project.folder)
    refused = done.returncode != 0 and not there.exists()
    for folder in (project.folder, clone.folder, store):
        shutil.rmtree(folder)
    return {"kind": "object of the remote", "told": refused, "survived": refused, "bytes_pushed": size_before,
            "said": (done.stdout + done.stderr).strip()[-300:]}  # fmt: skip
