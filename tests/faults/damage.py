"""Flipped bits: each file of a finished run, with a new time and with the old one, which DVC does not see.

With a new time: `dvc repro` makes the file again or says what is wrong, and records no hash of a damaged output. With
the old one: the stage that uses a file of each kind refuses it; a stage with `persist` that runs again for another
reason carries no damage over; `adshift repair` finds every file; after it, `dvc repro` brings back what the undisturbed
run has, with the objects in DVC's cache damaged too.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from adshift.project import repair
from faults.kills import compare, size
from tiny import PIPELINE, Project, flip

MADE_AGAIN, TOLD = "made again", "told"
KEPT = "data/kept"  # rows of an earlier run, no output: checked when they are used, and made again
WORKERS = 3  # copies of the project in which files are damaged side by side

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


def dvc(project: Project, *arguments: str) -> tuple[int, str]:
    """Exit code and words of `dvc ARGUMENTS`, in a copy of this process: DVC is imported once, not at each command."""
    import dvc.cli
    import dvc.commands.repro
    import dvc.repo.reproduce

    with tempfile.TemporaryFile() as said:
        sys.stdout.flush()
        sys.stderr.flush()
        if not (child := os.fork()):
            code = 255
            try:
                os.chdir(project.folder)
                os.environ.update(project.full_environment())
                for stream in (1, 2):
                    os.dup2(said.fileno(), stream)
                code = dvc.cli.main(list(arguments))
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        return code, said.read().decode(errors="replace")


Run = Callable[..., tuple[int, str]]


def inject(bench: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Each kind of file alone, all at once in the workspace and in DVC's cache, an object of a remote; every file."""
    project = bench.copy("damaged")
    project.dvc("status", ok=False)  # DVC looks at every file of the copy once, as it did in the project
    entries, flipped = [], []
    shutil.rmtree(project.folder / KEPT)  # a kept row stands for its image, which is then not read
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
    entries += [_every_file_seen(bench), *_every_file_unseen(bench)]
    injected = sum(entry.get("files", 1) for entry in entries)
    survived = sum(entry.get("files_survived", int(entry["survived"])) for entry in entries)
    return {"injected": injected, "survived": survived, "entries": entries}


def _every_file_seen(bench: Any) -> dict[str, Any]:
    """Each file below data/ and models/ alone, with a new time."""
    names = every_file(bench.whole)
    with ProcessPoolExecutor(WORKERS, get_context("fork")) as pool:
        parts = list(pool.map(_share_seen, [bench] * WORKERS, (names[start::WORKERS] for start in range(WORKERS))))
    outcomes = {name: outcome for part in parts for name, outcome in part.items()}
    counts = Counter(outcomes.values())
    entry = {
        "kind": "each file alone, with a new time, then `dvc repro`",
        "files": len(names),
        "files_survived": counts[MADE_AGAIN] + counts[TOLD],
        "outcomes": dict(counts),
        "harmed": {name: outcome for name, outcome in outcomes.items() if outcome not in (MADE_AGAIN, TOLD)},
        "survived": counts[MADE_AGAIN] + counts[TOLD] == len(names),
    }
    print(entry, flush=True)
    return entry


def _share_seen(bench: Any, names: list[str]) -> dict[str, str]:
    """{file: what came of it}, in a copy of the project; a new one after what left it another."""
    outcomes: dict[str, str] = {}
    project = None
    for name in names:
        if project is None:
            project = bench.copy(f"seen-{os.getpid()}")
            project.dvc("status", ok=False)
        outcomes[name] = reproduce_damaged(project, name)
        if outcomes[name] != MADE_AGAIN:
            print(outcomes[name], name, flush=True)
            shutil.rmtree(project.folder)
            project = None
    if project is not None:
        shutil.rmtree(project.folder)
    return outcomes


def _every_file_unseen(bench: Any) -> list[dict[str, Any]]:
    """All of them with the old time: not carried over by a stage that runs again, and found by `adshift repair`."""
    project = bench.copy("unseen")
    project.dvc("status", ok=False)
    entries = []
    for stage, outs in persistent(project).items():
        carried = carried_over(project, stage, outs)
        kind = f"all outputs of {stage} with the old time, then `dvc repro --force --single-item {stage}`"
        entry = {"kind": kind, "files": len(outs), "files_survived": len(outs) - len(carried), "harmed": carried}
        entries.append(entry | {"survived": not carried})
        print(entries[-1], flush=True)
    names = every_file(project)
    for name in names:
        flip(project.folder / name)
    locks, (code, said) = _locks(project), dvc(project, "repro")
    unseen = code == 0 and not project.ran(said) and _locks(project) == locks
    removed = {line.split(": ")[0] for line in project.run("adshift", "repair").stdout.splitlines()}
    found = [name for name in names if name in removed]
    project.dvc("repro")
    entry = {"kind": "every file with the old time", "unseen_by_dvc": unseen, "files": len(names),
             "files_survived": len(found), "harmed": sorted({*names} - {*found})}  # fmt: skip
    entry |= compare(bench.whole, project) | {"intact": whole(bench.whole, project)}
    entry["survived"] &= entry["intact"] and not entry["harmed"]
    shutil.rmtree(project.folder)
    print(entry, flush=True)
    return [*entries, entry]


def every_file(project: Project) -> list[str]:
    """Files below data/ and models/, as paths in the project, but for `KEPT`."""
    paths = (path for name in ("data", "models") for path in (project.folder / name).rglob("*") if path.is_file())
    names = (str(path.relative_to(project.folder)) for path in paths)
    return sorted(name for name in names if not name.startswith(f"{KEPT}/"))


def reproduce_damaged(project: Project, name: str, run: Run = dvc) -> str:
    """Flip a bit of a file, its time too, and run the stage that it is an output of: what came of it.

    That stage alone: DVC leaves the others in peace when its outputs get the hashes that they had, which is looked at.
    """
    file, locks = project.folder / name, _locks(project)
    sound, hashes = file.read_bytes(), project.hashes()
    flip(file, seen=True)
    code, said = run(project, "repro", "--single-item", _owner(project, name))
    if code:
        return TOLD if file.name in said and "  remedy: " in said and "Traceback" not in said else "failed"
    if _locks(project) != locks and project.hashes() != hashes:
        return "recorded"
    return MADE_AGAIN if file.read_bytes() == sound else "left as it was"


def carried_over(project: Project, stage: str, outs: list[str], run: Run = dvc) -> list[str]:
    """Flip a bit of each of these outputs, times kept, and run their stage: those that are not as they were."""
    hashes, sound = project.hashes(), {name: (project.folder / name).read_bytes() for name in outs}
    for name in outs:
        flip(project.folder / name)
    code, said = run(project, "repro", "--force", "--single-item", stage)
    if code or project.hashes() != hashes:
        print(said, flush=True)
        return outs
    return [name for name in outs if (project.folder / name).read_bytes() != sound[name]]


def persistent(project: Project) -> dict[str, list[str]]:
    """{stage: files of its outputs} of the stages whose outputs DVC leaves in place while they run."""
    from ruamel.yaml import YAML

    stages = YAML(typ="safe").load((project.folder / "dvc.yaml").read_text())["stages"]
    found = {}
    for name, stage in stages.items():
        declared = [*stage.get("outs", []), *stage.get("metrics", [])]
        if any(isinstance(out, dict) and next(iter(out.values())).get("persist") for out in declared):
            places = [project.folder / out["path"] for out in project.locked()[name]["outs"]]
            files = [path for place in places for path in (place.rglob("*") if place.is_dir() else [place])]
            found[name] = sorted(str(path.relative_to(project.folder)) for path in files if path.is_file())
    return found


def _owner(project: Project, name: str) -> str:
    """Address of the stage that a file is an output of."""
    places = {out["path"]: stage for stage, entry in project.locked().items() for out in entry.get("outs", [])}
    stage = next(stage for place, stage in places.items() if name == place or name.startswith(f"{place}/"))
    return stage if f"  {stage}:" in (project.folder / "dvc.lock").read_text().splitlines() else f"{PIPELINE}:{stage}"


def _locks(project: Project) -> list[bytes]:
    return [(project.folder / lock).read_bytes() for lock in repair.LOCKS]


def find(project: Project, pattern: str) -> Path:
    pattern = pattern.replace("MODEL", f"**/mvtec/{METHOD}/{NAME}/clean")
    return min(path for path in project.folder.glob(pattern) if ".dvc" not in path.parts)


def whole(reference: Project, project: Project) -> bool:
    """Whether every file of the outputs has the bytes of the undisturbed run, read and not looked up."""
    for name in ("data", "models", "metrics", "plots", "report"):
        for path in (reference.folder / name).rglob("*"):
            other = project.folder / path.relative_to(reference.folder)
            if path.is_relative_to(reference.folder / KEPT) or "timings" in path.parts or not path.is_file():
                continue
            if other.read_bytes() != path.read_bytes():
                return False
    return True


def _command(project: Project, stage: str) -> str:
    """The command of a stage, of the item of `METHOD` and `NAME` on clean images where there are several such."""
    items = {name: entry["cmd"] for name, entry in project.locked().items() if name.split("@")[0] == stage}
    of_stage = {"embed": f"@{NAME}-shift", "fit": f"@{METHOD}-{NAME}-clean", "score_ablation": "@"}
    wanted = of_stage.get(stage, f"@{METHOD}")
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
