"""Memory at the peak of prepare, split and embed: of a tenth of the images and of all, in processes of their own."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tiny import ROOT

PER_IMAGE = 8_000  # bytes that an image may cost: its row of the manifest, its names, its roles; it has 3,072 as pixels
SCRIPT = """
import json, resource, sys
from pathlib import Path
from adshift.data import datasets, manifest, split_file, splits
from adshift.project import params
from adshift.runtime.files import output

kind, root, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
if kind == "prepare and split":
    found = datasets.build("mvtec", root, ["many"], Path(root))["many"]
    manifest.write(Path(root) / "manifest.csv", found)
    roles = splits.split(manifest.read(Path(root) / "manifest.csv"), params.load("split").split, 42, "many")
    split_file.write(Path(root) / "split.csv", {"both": roles})
    assert len(roles) == count
else:
    from adshift.features import extract
    from adshift.features.backbones import Backbone
    items = manifest.read(Path(root) / "manifest.csv")[:count]
    settings = params.load("features").features.model_copy(update={"resize": 32, "crop": None})
    extract.embed(items, Backbone(settings), Path(root) / f"features-{count}", what="embed")
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
"""


def inject(bench: Any, args: argparse.Namespace) -> dict[str, Any]:
    root = bench.folder / "many"
    entries = []
    for kind, count in (("prepare and split", args.images), ("embed", args.embedded)):
        peaks = {}
        for size in (count // 10, count):
            if kind != "embed":
                _images(root / str(size), size)
            where = root / str(args.images if kind == "embed" else size)
            done = subprocess.run([sys.executable, "-c", SCRIPT, kind, str(where), str(size)], cwd=ROOT,
                                  capture_output=True, text=True, check=True)  # fmt: skip
            peaks[size] = json.loads(done.stdout.splitlines()[-1])
        per_image = (peaks[count] - peaks[count // 10]) / (count - count // 10)
        entry = {
            "kind": kind,
            "peak_bytes": peaks,
            "bytes_per_image": round(per_image),
            "survived": per_image < PER_IMAGE,
        }
        print(entry, flush=True)
        entries.append(entry)
    return {"injected": len(entries), "survived": sum(bool(entry["survived"]) for entry in entries), "entries": entries}


def _images(root: Path, count: int) -> None:
    """A class of `count` images of 32 pixels, one in ten of them defective."""
    generator = np.random.default_rng(0)
    for index in range(count):
        part = ("test/hole", "test/good")[index % 2] if index % 5 == 0 else "train/good"
        path = root / "many" / part / f"{index:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (32, 32, 3), np.uint8)).save(path, compress_level=0)
        if part == "test/hole":
            mask = root / "many" / "ground_truth" / "hole" / f"{index:06}_mask.png"
            mask.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((32, 32), 255, np.uint8)).save(mask)
