"""What the benchmarks share: rounds that alternate, peak memory, entries and their file, and real images to work on.

An entry is one comparison as benchmarks/results/latest.json keeps it:

    ours, peer    seconds, medians (peer None where there is none)
    ratio         peer / ours: how many times as fast ours is
    memory        {ours, peer}: bytes at the peak beside what was held at the start
    rounds        {ours, peer}: how often each was measured
    targets       each with `what`, `value`, `limit` and `met`: the value is to be at most the limit
    note, and the facts of the case

and `run.py` adds date, git revision, versions and hardware.
"""

import ctypes
import gc
import json
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import adshift  # noqa: F401  (before NumPy: it says how waiting threads wait)

os.environ.setdefault("TQDM_DISABLE", "1")  # the peers' bars; tqdm reads it when it is imported
warnings.simplefilter("ignore", FutureWarning)  # of anomalib's own imports

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("ADSHIFT_BENCH_DATA", "../shared/data"))  # seen from the repository's root
TILES = DATA / "magnetic_tile"
HAZELNUT = DATA / "mvtec_reduced" / "hazelnut" / "train" / "good"
PACKAGES = ("numpy", "numba", "torch", "timm", "anomalib", "faiss-gpu", "scikit-learn", "dvc")
PROVENANCE = ("date", "revision", "hardware", "threads", "versions")

Entry = dict[str, Any]


# --- measuring


def measure(contenders: Mapping[str, Callable[[], Any]], rounds: int = 3, *, of: int = 1, limit: float = 120
            ) -> dict[str, Any]:  # fmt: skip
    """Call each contender `rounds` times, in turns, so that what else goes on in the machine meets all alike.

    Args:
        contenders: without arguments, and warmed up: imports and compilation are not what is measured.
        rounds: of each.
        of: things that a call does, for seconds of one of them.
        limit: seconds after which a contender sits out, however few its rounds were.

    Returns:
        Per contender `seconds` (median), `all` of them, `memory` (bytes at the peak beside the start, the largest of
        the rounds) and `result`, what the last call returned.
    """
    found: dict[str, Any] = {name: {"all": [], "memory": 0} for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            record = found[name]
            if sum(record["all"]) * of > limit:
                continue
            record.pop("result", None)
            held, start = _forget_peak(), time.perf_counter()
            record["result"] = contender()
            record["all"].append((time.perf_counter() - start) / of)
            record["memory"] = max(record["memory"], status("VmHWM") - held)
    for record in found.values():
        record["seconds"] = median(record["all"])
    return found


def warm(call: Callable[[], Any], rounds: int, *, of: int = 1) -> dict[str, Any]:
    """Median seconds and memory of a call in a process that has settled.

    Memory comes last, from a round of its own: to measure it, the heap is given back to the kernel.
    """
    seconds = []
    for _ in range(1 + rounds):
        start = time.perf_counter()
        call()
        seconds.append((time.perf_counter() - start) / of)
    return {"seconds": median(seconds[1:]), "memory": measure({"call": call}, 1)["call"]["memory"]}


def _forget_peak() -> int:
    """Let the kernel's peak start anew from what is resident, and return that, in bytes."""
    gc.collect()
    if platform.system() == "Linux":
        ctypes.CDLL(None).malloc_trim(0)  # else a contender gets for nothing what an earlier one has freed
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return status("VmRSS")


def status(key: str, process: int | str = "self") -> int:
    """A memory figure of a process (VmRSS, VmHWM, RssAnon...), in bytes; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)


def alone(function: str, *args: Any) -> dict[str, Any]:
    """What `MODULE:FUNCTION`, a benchmark's that returns a dict, finds in a process of its own.

    Args:
        function: module of this folder, and function in it.
        args: as JSON has them.

    Returns:
        Its dict, and of the whole process `resident`, the peak in bytes with everything in it, and `anonymous`, the
        peak of what is not a file's content and so cannot be dropped, sampled every 10 ms.
    """
    command = [sys.executable, str(HERE / "harness.py"), function, json.dumps(args)]
    peaks = {"RssAnon": 0, "VmHWM": 0}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peaks = {key: max(peak, status(key, process.pid)) for key, peak in peaks.items()}
            time.sleep(0.01)
        assert process.stdout
        answer = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{function}{args} ended with {process.returncode}")
    return {**json.loads(answer.splitlines()[-1]), "anonymous": peaks["RssAnon"], "resident": peaks["VmHWM"]}


def together(children: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """As `measure` has a contender, of `seconds` and `memory` that processes of its own found."""
    seconds = [child["seconds"] for child in children]
    return {"seconds": median(seconds), "all": seconds, "memory": max(child["memory"] for child in children)}


def allow(beyond: int) -> None:
    """Refuse this process more than `beyond` bytes of data beyond what it has; mapped files do not count as data."""
    ceiling = status("VmData") + beyond
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, ceiling))


# --- entries


def at_most(what: str, value: float, limit: float) -> dict[str, Any]:
    """A target: a figure, what it came to, and what it should not exceed."""
    return {"what": what, "value": float(value), "limit": limit, "met": bool(value <= limit)}


def share(found: Mapping[str, Any], ours: str = "ours", peer: str = "peer") -> float:
    """Our seconds in multiples of the peer's."""
    return found[ours]["seconds"] / found[peer]["seconds"]


def entry(found: Mapping[str, Any], *targets: Mapping[str, Any], ours: str = "ours", peer: str = "peer",
          **facts: Any) -> Entry:  # fmt: skip
    """One comparison, of two contenders of `measure`.

    Args:
        found: as `measure` returns it.
        targets: as `at_most` returns them.
        ours, peer: names of the two; the peer may be missing.
        facts: what else there is to say; JSON has to take it.
    """
    pair = {"ours": found[ours], "peer": found.get(peer)}
    seconds = {side: record and record["seconds"] for side, record in pair.items()}
    return {
        **facts,
        **seconds,
        "ratio": seconds["peer"] / seconds["ours"] if seconds["peer"] else None,
        "memory": {side: record and record["memory"] for side, record in pair.items()},
        "rounds": {side: len(record["all"]) for side, record in pair.items() if record},
        "targets": list(targets),
    }


def provenance() -> dict[str, Any]:
    """As `adshift.runtime.provenance`, with the peers' versions."""
    from adshift.runtime import provenance as ours

    return ours.provenance(PACKAGES)


def threads() -> int:
    """The threads that both sides get."""
    from adshift.runtime.parallel import thread_count

    return thread_count()


# --- what is worked on


@dataclass(frozen=True)
class Pictures:
    """Image files, and what they are of."""

    normal: list[Path]
    defective: list[Path]
    of: str


def pictures(folder: Path, normal: int, defective: int = 0) -> Pictures:
    """Magnetic tiles; the sample's carpets, drawn into `folder`, where the tiles are not at hand."""
    good = sorted(TILES.glob("MT_Free/Imgs/*.jpg"))
    bad = sorted(TILES.glob("MT_[!F]*/Imgs/*.jpg")) + sorted(TILES.glob("MT_Fray/Imgs/*.jpg"))
    if len(good) >= normal and len(bad) >= defective:
        spread = [bad[i * len(bad) // defective] for i in range(defective)]  # of every kind of defect
        return Pictures(good[:normal], spread, "magnetic tiles")
    from adshift.data.datasets import sample

    kinds = sample.CLASSES["carpet"][1]
    drawn = [("train", "good", index) for index in range(normal)]
    drawn += [("test", kinds[index % len(kinds)], index) for index in range(defective)]
    files = []
    for part, defect, index in drawn:
        files.append(folder / f"{part}-{defect}-{index:04}.png")
        write_png(files[-1], sample.render("carpet", part, defect, f"{index:03}")[0])
    return Pictures(files[:normal], files[normal:], "sample carpets")


def hazelnuts(folder: Path, count: int) -> Pictures:
    """MVTec AD's hazelnuts, reduced; the sample's where they are not at hand."""
    files = sorted(HAZELNUT.glob("*.png"))[:count]
    if len(files) == count:
        return Pictures(files, [], "mvtec_reduced hazelnut")
    from adshift.data.datasets import sample

    files = [folder / f"{index:03}.png" for index in range(count)]
    for index, file in enumerate(files):
        write_png(file, sample.render("hazelnut", "train", "good", f"{index:03}")[0])
    return Pictures(files, [], "sample hazelnut")


def write_png(path: Path, pixels: Any) -> None:
    """Write an image of 8 bits."""
    from PIL import Image

    Image.fromarray(pixels).save(path, compress_level=1)


def settings_of(name: str, folder: Path) -> Any:
    """Settings of `lite0`, as params.yaml has it, or of `resnet50`: 1536 channels in layers 2 and 3.

    The ResNet's weights are random (seed 0), written to `folder`, for benchmarks must run without a hub. It costs what
    a trained one costs, and its features are as many; they are not as good.
    """
    from adshift.project import params

    settings = params.load("features").features
    if name == "lite0":
        return settings
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    # timm starts each residual branch at zero, which no trained network has.
    network = timm.create_model("resnet50", pretrained=False, zero_init_last=False)
    weights = folder / "resnet50.safetensors"
    save_file(network.state_dict(), weights)
    return settings.model_copy(update={"backbone": "resnet50", "weights": str(weights), "layers": None})


def backbone(name: str, folder: Path) -> Any:
    """The network of `settings_of`."""
    from adshift.features.backbones import Backbone

    return Backbone(settings_of(name, folder))


def as_any_script() -> None:
    """Let the libraries find the settings that they have without us; to be called before they are loaded."""
    for name in ("GOMP_SPINCOUNT", "OPENBLAS_THREAD_TIMEOUT"):
        os.environ.pop(name, None)


def embedded(files: Sequence[Path], network: Any, folder: Path) -> Any:
    """Features of some files, stored in `folder` as the pipeline stores them."""
    from adshift.features.extract import embed
    from adshift.features.store import Features

    embed(items(files), network, folder, what="embed")
    return Features.open(folder)


def embedded_apart(files: Sequence[Path], name: str, folder: Path) -> Any:
    """The same of the network `name`, made in a process of its own.

    A network's process keeps its memory (`keep_memory`), from which a peer beside it would gain several times its
    speed, and which the stages that fit and score do not have.
    """
    from adshift.features.store import Features

    alone("harness:embed_files", [str(file) for file in files], name, str(folder))
    return Features.open(folder / name)


def embed_files(files: list[str], name: str, folder: str) -> dict[str, Any]:
    """For `alone`: writes FOLDER/NAME, and beside it the network's weights if they are random."""
    embedded([Path(file) for file in files], backbone(name, Path(folder)), Path(folder) / name)
    return {}


def items(files: Sequence[Path]) -> list[Any]:
    """Rows of a manifest for these files."""
    from PIL import Image

    from adshift.data.images import sha256
    from adshift.data.manifest import Item

    found = []
    for file in files:
        with Image.open(file) as image:
            size = image.size
        found.append(Item(f"train/good/{file.stem}", "train", "good", str(file), "", sha256(file), "", *size))
    return found


def patchcore(**changes: Any) -> tuple[Any, Any]:
    """PatchCore with params.yaml's settings but for `changes`, and its settings of scoring."""
    from adshift.detectors.patchcore import Fit, PatchCore, Score
    from adshift.project import params

    section = {**dict(params.load("patchcore").patchcore), **changes}
    return PatchCore(Fit.within(section)), Score.within(section)


def patches_of(features: Any, detector: Any) -> Any:
    """Patches of all images: (N * H * W, D) float32."""
    import numpy as np

    parts = [detector.patches(features[image : image + 1]) for image in range(len(features))]
    return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])


def jittered(points: Any, total: int, seed: int = 0) -> Any:
    """`total` rows: real ones over and over, from the second time on moved by a tenth of each dimension's spread."""
    import numpy as np

    generator = np.random.default_rng(seed)
    rows = points[np.arange(total) % len(points)]
    spread = points.std(axis=0) / 10
    for low in range(len(points), total, 65_536):
        part = rows[low : low + 65_536]
        part += generator.standard_normal(part.shape, np.float32) * spread
    return rows


def torch_threads() -> None:
    """Put torch on all threads that both sides get; embedding leaves it on one."""
    import torch

    torch.set_num_threads(threads())


if __name__ == "__main__":  # the child of `alone`
    module, name = sys.argv[1].split(":")
    print(json.dumps(getattr(import_module(module), name)(*json.loads(sys.argv[2]))))
