"""One byte of one file of each kind flipped, so that DVC does not see it: the stage that uses the file refuses it.

The file keeps its time and size, as one on a failing disk does, and `dvc status` calls it fresh. Then `adshift repair`
and `dvc repro` must bring back what the undisturbed run has.
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
SCORE = f"stages/score.py --method {METHOD} --model {NAME} --domain clean"
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
    "evaluation": (f"data/evaluation/mvtec/{METHOD}/image.json", "aggregate"),
    "curve": (f"data/evaluation/mvtec/{METHOD}/roc.csv", "aggregate"),
    "replicates": (f"data/evaluation/mvtec/{METHOD}/bootstrap.npz", "aggregate"),
    "ablation's bank": (f"data/ablation/mvtec/{NAME}/model.safetensors", "score_ablation"),
}


def inject(bench: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Every kind of file, in the workspace and in DVC's cache, and an object of a remote."""
    project = bench.copy("damaged")
    project.dvc("status", ok=False)  # DVC looks at every file of the copy once, as it did in the project
    entries = []
    for kind, (pattern, stage) in CASES.items():
        file = find(project, pattern)
        cached = _cached(project, file)
        flip(file)
        unseen = project.run("dvc", "status", "--quiet", ok=False).returncode == 0
        done = project.run("dvc", "repro", "--force", "--single-item", _item(project, stage), ok=False)
        said = done.stdout + done.stderr
        told = done.returncode != 0 and file.name in said and "Traceback" not in said and "adshift repair" in said
        told |= (
            "changed since the manifest" in said and file.name in said
        )  # images are named with the manifest's remedy
        flip(cached)  # now both are bad: nothing is left to restore from
        repaired = project.run("adshift", "repair").stdout
        project.dvc("repro")
        entry = {"kind": kind, "unseen_by_dvc": unseen, "told": told, "removed": len(repaired.splitlines())}
        entry |= compare(bench.whole, project) | {"intact": whole(bench.whole, project)}
        entry["survived"] &= told and entry["intact"]
        if not entry["survived"]:
            entry["said"] = said[-600:]
        entries.append(entry)
        print(entry, flush=True)
    entries.append(_remote(bench))
    print(entries[-1], flush=True)
    shutil.rmtree(project.folder)
    return {"injected": len(entries), "survived": sum(bool(entry["survived"]) for entry in entries), "entries": entries}


def find(project: Project, pattern: str) -> Path:
    pattern = pattern.replace("MODEL", f"**/mvtec/{METHOD}/{NAME}/clean")
    return min(path for path in project.folder.glob(pattern) if ".dvc" not in path.parts)


def flip(file: Path) -> None:
    """One bit in the middle of the content, times kept."""
    times, mode = file.stat(), file.stat().st_mode
    content = bytearray(file.read_bytes())
    content[len(content) * 5 // 8] ^= 1
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


def _item(project: Project, stage: str) -> str:
    names = project.dvc("stage", "list", "--name-only").split()
    words = {"fit": f"{METHOD}-{NAME}-clean", "embed": f"{NAME}-shift"}.get(stage, METHOD)
    items = [name for name in names if name.split("@")[0] == stage and (words in name or "@" not in name)]
    items = items or [name for name in names if name.split("@")[0] == stage and NAME in name and METHOD in name]
    return items[0]


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
