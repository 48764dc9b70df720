"""How time, memory and disk grow with the data set, and what a stage costs the head.

    python benchmarks/scale.py head --items 300    # DVC's part of a stage: `adshift.project.driver` against `dvc repro`
    python benchmarks/scale.py sample              # the sample set, first run: `adshift repro --jobs 2`, `dvc repro`
    python benchmarks/scale.py real_iad            # a simulated Real-IAD, at three sizes
    python benchmarks/scale.py disk                # a ResNet-50 study's feature maps: before and after
    python benchmarks/scale.py status              # `dvc status` of 150,000 images and as many shifted ones

Each writes its part of benchmarks/results/scale.json. The simulated Real-IAD has its layout, its JSON splits and five
views of each part. Images are small JPEGs, the network is a stub that gives maps of EfficientNet-Lite0's shapes, and
each stage runs in a process of its own. Growth is the slope of the logarithms, and what 150,000 images would take is
extrapolated by it: a figure beyond the largest size is no measurement.
"""

import argparse
import json
import os
import resource
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "scale.json"
WHOLE = 150_000  # images of Real-IAD
SHAPES = ((56, 56, 24), (28, 28, 40), (14, 14, 112))  # of EfficientNet-Lite0 at 224 pixels

STAGE = """
import sys
from pathlib import Path

from adshift.project.stage import run


def main():
    Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
    Path(sys.argv[1]).write_text(sys.argv[1])


run(main)
"""


def head(items: int) -> dict[str, Any]:
    """Processor seconds a stage, beside the stage's own process, of stages that do nothing."""
    found: dict[str, Any] = {"items": items}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "stages").mkdir()
        (folder / "stages" / "fit.py").write_text(STAGE)
        inputs = [f"in{i}.txt" for i in range(6)]
        for one in inputs:
            (folder / one).write_text(one)
        listed = ", ".join(map(str, range(items)))
        deps = "".join(f"      - {one}\n" for one in inputs)
        (folder / "dvc.yaml").write_text(
            f"stages:\n  fit:\n    matrix: {{i: [{listed}]}}\n    cmd: python stages/fit.py out/${{item.i}}\n"
            f"    deps:\n{deps}    outs:\n      - out/${{item.i}}\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent / "src")}
        run = lambda command, given=None: subprocess.run(  # noqa: E731
            command, cwd=folder, env=environment, input=given, text=True, check=True, capture_output=True
        )
        for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "config", "core.analytics", "false"]):
            run(command)
        before = children()
        for _ in range(10):
            run([sys.executable, "stages/fit.py", "out/x"])
        found["stage_seconds"] = (children() - before) / 10
        names = [f"fit@{i}" for i in range(items)]
        asked = json.dumps({"jobs": 2, "here": 2, "processors": 0, "names": names})
        for kind, command, given in (
            ("driver", [sys.executable, "-m", "adshift.project.driver"], asked),
            ("dvc repro", ["dvc", "repro"], None),
        ):
            for path in (folder / "dvc.lock", folder / "out", folder / ".dvc" / "cache"):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            before, start = children(), time.perf_counter()
            run(command, given)
            found[kind] = {
                "wall_seconds": time.perf_counter() - start,
                "head_seconds_a_stage": (children() - before) / items - found["stage_seconds"],
            }
    return found


def sample() -> dict[str, Any]:
    """Seconds of a first run of the sample set, in fresh clones of this working tree's last commit, and whether all
    outputs but timings are the same."""
    sys.path.insert(0, str(HERE.parent / "tests" / "house"))
    from compare_locks import outputs

    found: dict[str, Any] = {}
    hashes = []
    for command in ("adshift repro --jobs 2", "dvc repro"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "clone"
            subprocess.run(["git", "clone", "-q", HERE.parent, folder], check=True)
            environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
            start = time.perf_counter()
            subprocess.run(command.split(), cwd=folder, env=environment, check=True, capture_output=True)
            found[command] = {"wall_seconds": time.perf_counter() - start}
            hashes.append({path: md5 for path, md5 in outputs(folder).items() if "timings" not in path})
    return {**found, "outputs": len(hashes[0]), "same_hashes": hashes[0] == hashes[1]}


def children() -> float:
    """Processor seconds of all processes that ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


FILES = """
import sys
from pathlib import Path

folder, count = Path(sys.argv[1]), int(sys.argv[2])
folder.mkdir(parents=True)
for number in range(count):
    (folder / f"{number:06}.png").write_text(f"{folder} {number}")
"""


def status(files: int) -> dict[str, Any]:
    """Seconds of `dvc status` where a folder of images is a dependency and the shifted images are outputs by class.

    A file holds a few bytes: DVC looks at times and sizes.
    """
    classes = 30
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "files.py").write_text(FILES)
        for number in range(classes):
            subprocess.run(
                [sys.executable, "files.py", f"raw/{number:02}", str(files // classes)], cwd=folder, check=True
            )
        listed = ", ".join(f"'{number:02}'" for number in range(classes))
        (folder / "dvc.yaml").write_text(
            "stages:\n  prepare:\n    cmd: ls raw > manifest\n    deps: [raw]\n    outs: [manifest]\n"
            f"  shift:\n    matrix: {{name: [{listed}]}}\n"
            f"    cmd: python files.py shift/${{item.name}} {files // classes}\n"
            "    deps: [manifest]\n    outs: ['shift/${item.name}']\n"
        )
        for command in (
            ("git", "init", "-q"), ("dvc", "init", "-q"), ("dvc", "config", "core.analytics", "false"),
            ("dvc", "config", "cache.type", "reflink,hardlink,symlink"),
        ):  # fmt: skip
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
        start = time.perf_counter()
        subprocess.run(("dvc", "repro", "-q"), cwd=folder, check=True, capture_output=True)
        found: dict[str, Any] = {"images": files, "shifted": files, "repro_seconds": time.perf_counter() - start}
        found["status_seconds"] = []
        for _ in range(3):
            start = time.perf_counter()
            done = subprocess.run(("dvc", "status"), cwd=folder, check=True, capture_output=True, text=True)
            found["status_seconds"].append(time.perf_counter() - start)
            found["up_to_date"] = "up to date" in done.stdout
    return found


# --- the simulated Real-IAD


def simulate(root: Path, classes: int, images: int) -> None:
    """Classes of Real-IAD's layout: two thirds of the parts normal, each part seen by five cameras."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(classes):
        name, entries = f"part_{number:02}", {"train": [], "test": []}
        for part in range(images // 5):
            defective = part % 3 == 2
            place = f"NG/SC/S{part:04}" if defective else f"OK/S{part:04}"
            folder = root / "realiad_256" / name / place
            folder.mkdir(parents=True)
            for view in range(1, 6):
                stem = f"{name}_{part:04}_C{view}"
                coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                coarse.resize((256, 256)).save(folder / f"{stem}.jpg", quality=80)
                mask = None
                if defective:
                    marked = np.zeros((256, 256), np.uint8)
                    marked[20 * view : 20 * view + 30, 60:110] = 255
                    Image.fromarray(marked).save(folder / f"{stem}.png")
                    mask = f"{place}/{stem}.png"
                entry = {
                    "image_path": f"{place}/{stem}.jpg", "mask_path": mask, "category": name,
                    "anomaly_class": "SC" if defective else "OK",
                }  # fmt: skip
                entries["test" if defective or part % 6 == 0 else "train"].append(entry)
        meta = {"prefix": f"{name}/", "normal_class": "OK"}
        (root / "realiad_jsons").mkdir(exist_ok=True)
        content = json.dumps({"meta": meta, **entries})
        (root / "realiad_jsons" / f"{name}.json").write_text(content)


class Stub:
    """A network that costs nothing: maps of real shapes from the image's own bytes."""

    names = ("blocks.1", "blocks.2", "blocks.4")

    def __init__(self, settings: Any) -> None:
        self.settings, self.record = settings, {"backbone": "stub", "layers": list(self.names), "precision": "float32"}

    def __call__(self, images: np.ndarray, finish: Any = lambda maps: maps) -> list[np.ndarray]:
        import torch

        found = []
        for shape in SHAPES:
            size = int(np.prod(shape))
            flat = np.resize(images.reshape(len(images), -1)[:, :size], (len(images), size)).astype(np.float32) / 255
            found.append(finish(torch.from_numpy(flat.reshape(len(images), *shape))).numpy())
        return found


def stage(words: list[str]) -> None:
    """Run one stage in this process, with the stub; print seconds and bytes of its peak."""
    from adshift.features import backbones

    backbones.Backbone = Stub  # type: ignore[misc,assignment]
    sys.argv = words
    start = time.perf_counter()
    runpy.run_path(f"stages/{words[0]}.py", run_name="__main__")
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    Path(os.environ["ADSHIFT_SCALE"]).write_text(json.dumps({"seconds": time.perf_counter() - start, "bytes": peak}))


def measured(folder: Path, words: list[str]) -> dict[str, float]:
    """Seconds and peak of a stage in a process of its own."""
    told = folder / "told.json"
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent / "src"), "ADSHIFT_SCALE": str(told)}
    command = [sys.executable, str(Path(__file__).resolve()), "stage", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(told.read_text())
    return found


def one_size(classes: int, images: int) -> dict[str, Any]:
    """Seconds and peaks of every stage up to `embed`, all classes together, and bytes on the disk."""
    from adshift.project import graph_lists

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("src", "stages", "reference"):
            (folder / part).symlink_to(HERE.parent / part)
        simulate(folder / "raw", classes, images)
        params(folder, [f"part_{number:02}" for number in range(classes)], graph_lists)
        found: dict[str, Any] = {"images": classes * images}
        for words in (["sources"], ["check"], ["prepare"], ["split"]):
            found[words[0]] = measured(folder, words)
        (folder / "data" / "checked_network.json").write_text('{"ok": true}\n')
        of = ["--dataset", "real_iad", "--name"]
        each: dict[str, list[dict[str, float]]] = {"shift": [], "embed": []}
        for number in range(classes):
            of_class = [*of, f"part_{number:02}"]
            each["shift"].append(measured(folder, ["shift", *of_class, "--seed", "1"]))
            for domain in ("clean", "shift"):
                each["embed"].append(measured(folder, ["embed", *of_class, "--domain", domain]))
        for key, runs in each.items():
            found[key] = {"seconds": sum(one["seconds"] for one in runs), "bytes": max(one["bytes"] for one in runs)}
        found["disk"] = {part: used(folder / "data" / part) for part in ("clean", "shift", "features", "split")}
    return found


def params(folder: Path, names: list[str], graph_lists: Any) -> None:
    """params.yaml of the simulated set."""
    from ruamel.yaml import YAML

    yaml = YAML()
    values = yaml.load(HERE.parent / "params.yaml")
    values["dataset"] |= {"name": "real_iad", "root": str(folder / "raw")}
    values["classes"], values["scenarios"] = names, ["clean", "shift_no_adaptation"]
    values["graph"] = graph_lists.lists(values)
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(values, file)


def used(path: Path) -> int:
    """Bytes on the disk, every inode once."""
    status = {one.stat().st_ino: 512 * one.stat().st_blocks for one in path.rglob("*") if one.is_file()}
    return sum(status.values())


def real_iad(sizes: list[int], classes: int) -> dict[str, Any]:
    """Three sizes, the exponents between them, and what all images would take."""
    runs = [one_size(classes, size) for size in sizes]
    counts = np.log([run["images"] for run in runs])
    growth: dict[str, Any] = {}
    for key in ("check", "prepare", "split", "shift", "embed"):
        seconds = np.array([run[key]["seconds"] for run in runs])
        exponent = float(np.polyfit(counts, np.log(seconds), 1)[0])
        last = seconds[-1] * (WHOLE / runs[-1]["images"]) ** max(exponent, 1.0)
        growth[key] = {"exponent": exponent, "seconds_at_150000": float(last), "bytes": runs[-1][key]["bytes"]}
    for key in runs[-1]["disk"]:
        growth.setdefault("disk", {})[key] = runs[-1]["disk"][key] / runs[-1]["images"]
    return {"classes": classes, "runs": runs, "growth": growth}


def disk(images: int) -> dict[str, Any]:
    """Bytes of a ResNet-50 study's feature maps of some images, as DVC leaves them: copied whole, linked and needed."""
    shapes = {1: (56, 56, 256), 2: (28, 28, 512), 3: (14, 14, 1024)}
    found: dict[str, Any] = {"images": images}
    for kind, link, levels in (("before", "copy", (1, 2, 3)), ("after", "hardlink,symlink", (2, 3))):
        with tempfile.TemporaryDirectory(dir=os.environ.get("ADSHIFT_SCALE_DISK")) as name:
            folder = Path(name)
            for command in (("git", "init", "-q"), ("dvc", "init", "-q"), ("dvc", "config", "cache.type", link)):
                subprocess.run(command, cwd=folder, check=True, capture_output=True)
            (folder / "features").mkdir()
            for level in levels:
                with (folder / "features" / f"level{level}.npy").open("wb") as file:
                    for image in range(images):
                        rows = np.random.default_rng(image).integers(0, 2**16, int(np.prod(shapes[level])), np.uint16)
                        file.write(rows.tobytes())
            subprocess.run(("dvc", "add", "features"), cwd=folder, check=True, capture_output=True)
            seen = {}
            for path in (folder / "features", folder / ".dvc" / "cache"):
                for one in path.rglob("*"):
                    if one.is_file() and not one.is_symlink():
                        seen[one.stat().st_ino] = 512 * one.stat().st_blocks
            found[kind] = sum(seen.values())
    return {**found, "times_less": found["before"] / found["after"]}


def main() -> None:
    if sys.argv[1:2] == ["stage"]:
        return stage(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("head", "sample", "real_iad", "disk", "status"))
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200], help="images of a class")
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--files", type=int, default=WHOLE)
    args = parser.parse_args()
    sys.path.insert(0, str(HERE.parent / "src"))
    results = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    parts = {
        "head": lambda: head(args.items), "sample": sample, "disk": lambda: disk(args.images),
        "status": lambda: status(args.files), "real_iad": lambda: real_iad(args.sizes, args.classes),
    }  # fmt: skip
    results[args.what] = parts[args.what]()
    RESULT.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
