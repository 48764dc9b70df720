"""Exported files on the runtimes that take them, beside the model directories that they came from.

Run from the repository's root; needs nothing of the pipeline but params.yaml, and real images:

    python docs/results/export.py ../shared/data        # half an hour

writes export.csv beside this script and the tables of docs/export.md. Data sets that are not in the folder are left
out; with none there is nothing to do. A runtime that is not at hand is left out and said. Detectors have the settings
of params.yaml, PatchCore-PQ with all rows as candidates, which is what its graph does. Of train/good, two thirds are
fitted on, which int8 calibrates with too; the others are normal test images beside those of test/good. Scores are those
of images of their own size, which the graph resizes. Latency is that of an image of the network's size.
"""

import csv
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import adshift
from adshift.data import datasets
from adshift.data.geometry import fit
from adshift.data.images import load_image
from adshift.data.manifest import Item
from adshift.deploy import export
from adshift.detectors import registry
from adshift.evaluation.metrics.ranking import Ranked
from adshift.features import extract
from adshift.features.backbones import Backbone
from adshift.features.store import Features
from adshift.project import params
from adshift.runtime import seeding
from adshift.runtime.files import write_json

HERE = Path(__file__).parent
SETS = (("mvtec", "mvtec_reduced", "hazelnut"), ("mvtec", "mvtec_reduced", "transistor"),
        ("magnetic_tile", "magnetic_tile", "tile"))  # fmt: skip
METHODS = ("patchcore", "patchcore_pq", "padim_streaming", "padim_diagonal")  # padim's graph is padim_streaming's
TRAIN, NORMAL, ANOMALOUS = 60, 60, 60  # images at most
ROUNDS = 200
LATENCY = ("p50_ms_1_thread", "p99_ms_1_thread", "p50_ms_all_threads", "p99_ms_all_threads")

Run = Callable[[np.ndarray], float]  # the score of an (H, W, 3) uint8 image


def main() -> None:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    table = []
    for adapter, folder, name in SETS:
        if (data / folder).is_dir():
            with tempfile.TemporaryDirectory() as temporary:
                table += list(rows(adapter, data / folder, name, Path(temporary)))
    if not table:
        sys.exit(f"{data}: none of the data sets is there, nothing was measured")
    with (HERE / "export.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    page = HERE.parent / "export.md"
    text = re.sub(r"(<!-- table -->\n).*(<!-- end -->)", lambda marks: marks[1] + tables(table) + marks[2],
                  page.read_text(encoding="utf-8"), flags=re.DOTALL)  # fmt: skip
    page.write_text(text, encoding="utf-8")


def rows(adapter: str, root: Path, name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """One row for each method, type and runtime of a class."""
    train, test = parted(datasets.build(adapter, str(root), [name], folder / "images")[name], name)
    settings = params.load("features").features
    extract.embed(train, Backbone(settings), folder / "train", what=f"embedding {name}")
    stored = Features.open(folder / "train")
    images = [load_image(item) for item in test]
    small = fit(images[0], settings.resize)
    bad = np.array([item.anomalous for item in test])
    (folder / "normal").mkdir()
    for index, item in enumerate(train):
        Image.fromarray(load_image(item)).save(folder / "normal" / f"{index:03}.png")
    timed = (adapter, name) == (SETS[0][0], SETS[0][2])
    for method in METHODS:
        directory = folder / method / name / "clean"
        scoring = fitted(method, stored, directory)
        python = adshift.load(directory, threshold=0.0)
        expected = np.array([one.score for one in python.predict(images)])
        own = Ranked.of(expected, bad).auroc() or 0
        about = {"data": f"{root.name} {name}", "normal": int((~bad).sum()), "defective": int(bad.sum())}
        if timed:
            size = sum(path.stat().st_size for path in directory.iterdir())
            times = latencies(partial(directory_model, directory), small)
            yield row(about, method, "float32", "Python, torch", size, times, 0.0, own, own)
        for dtype in export.DTYPES:
            file = folder / f"{method}-{dtype}.onnx"
            export.export(directory, scoring, file, dtype=dtype,
                          calibrate=folder / "normal" if dtype == "int8" else None)  # fmt: skip
            for runtime, opened in RUNTIMES.items():
                if at_hand(runtime):
                    run = opened(file, 0)
                    found = np.array([run(image) for image in images])
                    times = (
                        latencies(lambda threads, opened=opened, file=file: opened(file, threads), small)
                        if timed
                        else {}
                    )
                    yield row(about, method, dtype, runtime, file.stat().st_size, times,
                              np.abs(found / expected - 1).max(), own, Ranked.of(found, bad).auroc() or 0)  # fmt: skip


def row(
    about: dict[str, Any], method: str, dtype: str, runtime: str, size: int, times: dict[str, float], difference: float,
    own: float, auroc: float,
) -> dict[str, Any]:  # fmt: skip
    return {
        **about, "method": method, "dtype": dtype, "runtime": runtime, "bytes": size,
        **(times or dict.fromkeys(LATENCY, "")), "score_difference": float(f"{difference:.2g}"),
        "auroc_python": round(own, 4), "auroc": round(auroc, 4), "auroc_difference": round(auroc - own, 4),
    }  # fmt: skip


def fitted(method: str, stored: Features, directory: Path) -> Any:
    """Fit a detector, save it as a model directory, and return its settings of scoring."""
    section = dict(getattr(params.load(method), method))
    section |= {"candidates": 10_000} if method == "patchcore_pq" else {}
    halves = registry.schemas(method)
    detector, scoring = registry.detector_class(method)(halves["fit"].within(section)), halves["score"].within(section)
    detector.fit(stored, seeding.generator(42, "export", method))
    detector.save(directory)
    write_json(directory / "score.json", dict(scoring))
    return scoring


def parted(items: list[Item], name: str) -> tuple[list[Item], list[Item]]:
    """Images to fit on and images to test with, drawn by name."""
    generator = seeding.generator(42, "export", name)

    def some(chosen: list[Item], most: int) -> list[Item]:
        return [chosen[place] for place in sorted(generator.permutation(len(chosen))[:most])]

    good = [item for item in items if item.part == "train"]
    train = some(good, min(TRAIN, 2 * len(good) // 3))
    normal = [item for item in items if not item.anomalous and item not in train]
    return train, some(normal, NORMAL) + some([item for item in items if item.anomalous], ANOMALOUS)


def directory_model(folder: Path, _: int) -> Run:
    model = adshift.load(folder, threshold=0.0)
    return lambda image: model.predict(image)[0].score


def onnxruntime(file: Path, threads: int, provider: str = "CPUExecutionProvider") -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a waiting thread takes no core
    session = onnxruntime.InferenceSession(file, options, providers=[provider])
    return lambda image: float(session.run(["score", "map"], {"image": image[None]})[0][0])


def openvino(file: Path, threads: int) -> Run:
    import openvino

    wanted = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(file), "CPU", wanted | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
    )
    request = compiled.create_infer_request()

    def run(image: np.ndarray) -> float:
        request.infer({"image": image[None]})
        return float(request.get_tensor("score").data[0])

    return run


PROVIDERS = {"onnxruntime CUDA": "CUDAExecutionProvider", "onnxruntime TensorRT": "TensorrtExecutionProvider"}
RUNTIMES: dict[str, Callable[[Path, int], Run]] = {
    "onnxruntime": onnxruntime, "openvino": openvino,
    **{name: partial(onnxruntime, provider=provider) for name, provider in PROVIDERS.items()},
}  # fmt: skip


def at_hand(runtime: str) -> bool:
    """Whether a runtime is installed, and has the processor that it needs."""
    if runtime not in PROVIDERS:
        return bool(installed(runtime))
    import onnxruntime

    return PROVIDERS[runtime] in onnxruntime.get_available_providers()


def latencies(opened: Callable[[int], Run], image: np.ndarray) -> dict[str, float]:
    """Milliseconds of one image, on one thread and on all."""
    import torch

    found = []
    for threads in (1, 0):
        os.environ["ADSHIFT_THREADS"] = str(threads)
        torch.set_num_threads(threads or os.cpu_count() or 1)
        run, spent = opened(threads), []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            run(image)
            spent.append(1000 * (time.perf_counter() - start))
        found += [round(float(value), 1) for value in np.percentile(spent[10:], [50, 99])]
    os.environ["ADSHIFT_THREADS"] = "0"
    return dict(zip(LATENCY, found, strict=True))


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def tables(table: list[dict[str, Any]]) -> str:
    """Both tables and where they were measured, as Markdown."""
    lines = []
    for keep in (("bytes", *LATENCY), ("score_difference", "auroc_python", "auroc", "auroc_difference")):
        columns = ["data", *(["normal", "defective"] if "auroc" in keep else []), "method", "dtype", "runtime", *keep]
        chosen = [one for one in table if one[keep[-1]] != "" and not ("auroc" in keep and "torch" in one["runtime"])]
        lines += [columns, ["---"] * len(columns), *([one[column] for column in columns] for one in chosen), []]
    text = "\n".join("| " + " | ".join(map(str, line)) + " |" if line else "" for line in lines)
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("model name")[1].split("\n")[0].strip("\t: ")
    packages = [name for name in ("onnxruntime", "openvino", "onnx", "torch", "numpy") if installed(name)]
    versions = ", ".join(f"{name} {installed(name)}" for name in packages)
    absent = ", ".join(name for name in RUNTIMES if not at_hand(name))
    load = f"load average {os.getloadavg()[1]:.1f} (other work ran beside it where that exceeds 1)"
    told = f"{datetime.now(UTC):%Y-%m-%d}, {cpu}, {os.cpu_count()} cores; {versions}; {load}"
    return f"{text}\n\nMeasured on {told}.{f' Not at hand, so untested: {absent}.' if absent else ''}\n"


if __name__ == "__main__":
    main()
