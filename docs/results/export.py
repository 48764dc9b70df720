"""Exported graphs beside the detectors they came from: bytes, milliseconds an image, scores, image AUROC.

Run from the repository's root; needs nothing of the pipeline but params.yaml, and real images:

    python docs/results/export.py ../shared/data        # ten minutes

writes export.csv beside this script and the tables of docs/export.md. Data sets that are not in the folder are left
out; with none there is nothing to do. Detectors have the settings of params.yaml, PatchCore-PQ with all rows as
candidates, which is what its graph does. Of train/good, two thirds are fitted on, which int8 calibrates with too; the
others are normal test images beside those of test/good. Graph and Python score an image in turns, the smallest time of
each counts.
"""

import csv
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["ADSHIFT_THREADS"] = "1"

import numpy as np
import onnxruntime
import torch
from PIL import Image

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

HERE = Path(__file__).parent
SETS = (("mvtec", "mvtec_reduced", "hazelnut"), ("mvtec", "mvtec_reduced", "transistor"),
        ("magnetic_tile", "magnetic_tile", "tile"))  # fmt: skip
METHODS = ("patchcore", "patchcore_pq", "padim_streaming", "padim_diagonal")  # padim's graph is padim_streaming's
TRAIN, NORMAL, ANOMALOUS = 60, 60, 60  # images at most
ROUNDS = 25


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
    """One row a method and type of a class."""
    train, test = parted(datasets.build(adapter, str(root), [name], folder / "images")[name], name)
    settings = params.load("features").features
    backbone = Backbone(settings)
    stored = {}
    for part, items in (("train", train), ("test", test)):
        extract.embed(items, backbone, folder / part, what=f"embedding {name}")
        stored[part] = Features.open(folder / part)
    images = np.stack([fit(load_image(item), settings.resize, settings.crop) for item in test])
    bad = np.array([item.anomalous for item in test])
    (folder / "normal").mkdir()
    for index, item in enumerate(train):
        Image.fromarray(load_image(item)).save(folder / "normal" / f"{index:03}.png")
    timed = (adapter, name) == (SETS[0][0], SETS[0][2])
    for method in METHODS:
        section = dict(getattr(params.load(method), method))
        section |= {"candidates": 10**6} if method == "patchcore_pq" else {}
        halves = registry.schemas(method)
        detector, how = registry.detector_class(method)(halves["fit"].within(section)), halves["score"].within(section)
        detector.fit(stored["train"], seeding.generator(42, "export", method))
        detector.save(folder / method / name / "clean")
        expected = detector.predict(stored["test"], how).scores
        for dtype in export.DTYPES if timed else ("float32", "int8"):
            file = folder / f"{method}-{dtype}.onnx"
            export.export(folder / method / name / "clean", how, file, dtype=dtype,
                          calibrate=folder / "normal" if dtype == "int8" else None)  # fmt: skip
            graph = session(file, 1)
            found = np.array([graph.run(["score"], {"image": image[None]})[0][0] for image in images])
            auroc, own = (Ranked.of(scores, bad).auroc() or 0 for scores in (found, expected))
            yield {
                "data": f"{root.name} {name}",
                "normal": int((~bad).sum()),
                "defective": int(bad.sum()),
                "method": method,
                "dtype": dtype,
                "bytes": file.stat().st_size,
                **(times(file, detector, how, backbone, images[0]) if timed else dict.fromkeys(TIMES, "")),
                "score_difference": float(f"{np.abs(found / expected - 1).max():.2g}"),
                "auroc_python": round(own, 4),
                "auroc": round(auroc, 4),
                "auroc_difference": round(auroc - own, 4),
            }


def parted(items: list[Item], name: str) -> tuple[list[Item], list[Item]]:
    """Images to fit on and images to test with, drawn by name."""
    generator = seeding.generator(42, "export", name)

    def some(chosen: list[Item], most: int) -> list[Item]:
        return [chosen[place] for place in sorted(generator.permutation(len(chosen))[:most])]

    good = [item for item in items if item.part == "train"]
    train = some(good, min(TRAIN, 2 * len(good) // 3))
    normal = [item for item in items if not item.anomalous and item not in train]
    return train, some(normal, NORMAL) + some([item for item in items if item.anomalous], ANOMALOUS)


TIMES = ("ms_1_thread", "python_ms_1_thread", "ms_2_threads", "python_ms_2_threads")


def times(file: Path, detector: Any, how: Any, backbone: Backbone, image: np.ndarray) -> dict[str, float]:
    """Milliseconds of one image, from its pixels to score and full map."""

    def python() -> None:
        maps = {level: one.astype(np.float16) for level, one in enumerate(backbone(image[None]), start=1)}
        detector.predict(Features.of(["one"], maps, detector.spec), how).full_maps()

    found = {}
    for threads in (1, 2):
        graph = session(file, threads)
        os.environ["ADSHIFT_THREADS"] = str(threads)
        torch.set_num_threads(threads)
        spent: list[list[float]] = [[], []]
        for _ in range(ROUNDS):
            for work, kept in ((lambda: graph.run(None, {"image": image[None]}), spent[0]), (python, spent[1])):  # noqa: B023
                start = time.perf_counter()
                work()
                kept.append(time.perf_counter() - start)
        plural = "s" if threads > 1 else ""
        for prefix, kept in zip(("", "python_"), spent, strict=True):
            found[f"{prefix}ms_{threads}_thread{plural}"] = round(1000 * min(kept[1:]), 1)
    os.environ["ADSHIFT_THREADS"] = "1"
    torch.set_num_threads(1)
    return found


def session(file: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a waiting thread takes no core
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def tables(table: list[dict[str, Any]]) -> str:
    """Both tables and where they were measured, as Markdown."""
    lines = []
    for keep in (("bytes", *TIMES), ("score_difference", "auroc_python", "auroc", "auroc_difference")):
        columns = ["data", *(["normal", "defective"] if "auroc" in keep else []), "method", "dtype", *keep]
        chosen = [row for row in table if row[keep[-1]] != ""]
        lines += [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in chosen), []]
    text = "\n".join("| " + " | ".join(map(str, line)) + " |" if line else "" for line in lines)
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("model name")[1].split("\n")[0].strip("\t: ")
    versions = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "onnx", "torch", "numpy"))
    load = f"load average {os.getloadavg()[1]:.1f} (other work ran beside it where that exceeds 1)"
    told = f"{datetime.now(UTC):%Y-%m-%d}, {cpu}, {os.cpu_count()} cores; {versions}; {load}"
    return f"{text}\n\nMeasured on {told}.\n"


if __name__ == "__main__":
    main()
