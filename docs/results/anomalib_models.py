"""Which of anomalib's models run through the bridge without a network: anomalib_models.csv, a table in anomalib.md.

    python docs/results/anomalib_models.py        # 10 minutes; needs no data and no weights

Each model is fitted on 20 images of noise for one epoch and stored, as the stage `fit` does it, without a network.
Random weights of a ResNet-18, which a file would hold, stand in for those of any ResNet. So the table says what a fit
needs, not how well a model does. A model that takes longer than `--limit` seconds is told so.
"""

import argparse
import csv
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from adshift.detectors import anomalib_bridge, registry
from adshift.detectors.components import signature
from adshift.errors import AdshiftError
from adshift.features.backbones import untrained
from adshift.features.store import IMAGES, Features

HERE = Path(__file__).resolve().parent
PAGE, BEGIN, END = HERE.parent / "anomalib.md", "<!-- models -->\n", "<!-- end of models -->\n"
STANDING = ("resnet18", "resnet50", "wide_resnet50_2")  # backbones in place of which the smallest of them is taken
SMALL = "resnet18"  # its random weights stand in for a file
COLUMNS = ("model", "runs_offline", "backbone", "seconds", "mebibytes", "needs")


class SlowError(BaseException):  # the bridge turns every Exception into an AdshiftError
    """A model took longer than the limit."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("names", nargs="*", help="models (default: all)")
    args = parser.parse_args()
    rows = []
    for name, kind in anomalib_bridge.models().items():
        if args.names and name not in args.names:
            continue
        rows.append(tried(name, kind, args.limit, args.side))
        print(*rows[-1].values(), sep=" | ", flush=True)
    if args.names:
        return
    write(rows, args.side)


def write(rows: list[dict[str, Any]], side: int) -> None:
    """Write the table, also into the page."""
    with (HERE / "anomalib_models.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + BEGIN + markdown(rows, side) + END + rest.split(END)[1], encoding="utf-8")


def images(side: int) -> Features:
    """20 images of noise, as `embed` stores them."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, side, side, 3), dtype=np.uint8)
    layer = {"name": "none", "file": "level1.npy", "shape": [1, 1, 1]}
    spec = {"backbone": "", "size": side, "layers": [layer], "preprocessing": {}}
    return Features.of(map(str, range(20)), {IMAGES: pixels, 1: np.zeros((20, 1, 1, 1), np.float32)}, spec)


def tried(name: str, kind: Any, limit: int, side: int) -> dict[str, Any]:
    """A row of the table: what became of a fit."""
    names = {key: str(value) for key, value in signature.parameters(kind).items() if key.endswith("backbone")}
    backbone = next(iter(names.values()), "")
    row: dict[str, Any] = {"model": name, "runs_offline": "no", "backbone": backbone, "seconds": "",
                           "mebibytes": "", "needs": ""}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        weights = None
        if backbone.split(".")[0] in STANDING:
            weights = str(Path(folder) / "w.safetensors")
            save_file({key: one.contiguous() for key, one in untrained(SMALL).state_dict().items()}, weights)
        method = f"anomalib_{name.lower()}"
        section = {"model": name, "weights": weights, "epochs": 1, "batch": 1 if name == "EfficientAd" else 4}
        section |= dict.fromkeys(names, SMALL) if weights else {}
        detector = registry.detector_class(method)(anomalib_bridge.Fit(**section))
        start = time.perf_counter()
        try:
            with limited(limit), chdir(folder):  # some models make folders where they run
                detector.fit(images(side), np.random.default_rng(0))
                detector.predict(images(side)[:1], anomalib_bridge.Score())
        except SlowError:
            return row | {"needs": f"more than {limit} s of one core"}
        except AdshiftError as error:
            return row | {"needs": needed(error.what)}
        size = sum(array.nbytes for array in detector.to_arrays().values()) / 2**20
        needs = "a file of its ResNet's weights" if weights else ""
        seconds = round(time.perf_counter() - start, 1)
        return row | {"runs_offline": "yes", "seconds": seconds, "mebibytes": round(size, 1), "needs": needs}


def needed(message: str) -> str:
    """What a model lacks, from the error of its fit."""
    text = " ".join(message.split(": ", 1)[-1].split())
    if "no stage connects to a network" in text or "locate the file on the Hub" in text:
        return "a download (weights or images) by anomalib itself"
    if text.startswith("weights of"):
        return "a file of " + text.split(" are in no package")[0].replace("weights of ", "weights of timm's ")
    return text[:230]


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Within: `SlowError` after some seconds."""

    def late(*_: Any) -> None:
        raise SlowError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def markdown(rows: list[dict[str, Any]], side: int) -> str:
    """The table for the page."""
    able = sum(one["runs_offline"] == "yes" for one in rows)
    head = (
        f"anomalib {version('anomalib')}, torch {version('torch')}: {able} of {len(rows)} models fit and score without "
        f"a network. Seconds: one epoch on 20 images of {side} pixels and one scored image, one core. MiB: of the "
        "stored model with its backbone.\n\n"
    )
    lines = ["| model | runs offline | backbone by default | seconds | MiB | needs |"]
    lines.append("| --- | --- | --- | ---: | ---: | --- |")
    for one in rows:
        cells = (one["model"], one["runs_offline"], one["backbone"], one["seconds"], one["mebibytes"], one["needs"])
        lines.append("| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |")
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
