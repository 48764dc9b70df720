"""Images that come later: `embed` for 5,000 images, then for these and 20 more, as the stage does it.

Each call is in a process of its own. Seconds are those of the processor, in all threads: `ours` and `peer` count from
the images' records to the output and the kept rows, `process` counts the whole process with its imports. The images are
drawn, 320 x 240 pixels; network and input size are those of params.yaml.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import Entry, alone, at_most, backbone, items

LIMIT = 0.05  # of the first embed


def run(count: int = 5000, more: int = 20, rounds: int = 5) -> dict[str, Entry]:
    """The entry.

    Args:
        count: images of the first embed.
        more: images that come later.
        rounds: of the second embed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "images", count + more)
        first = alone("bench_later:embed", str(folder), count)
        later = []
        (folder / "kept").rename(folder / "first")
        for _ in range(rounds):
            shutil.rmtree(folder / "kept", ignore_errors=True)
            shutil.copytree(folder / "first", folder / "kept", copy_function=os.link)
            later.append(alone("bench_later:embed", str(folder), count + more))
    assert [one["copied"] for one in later] == [count] * rounds
    took = median(one["seconds"] for one in later)
    process = {"ours": median(one["process"] for one in later), "peer": first["process"]}
    return {
        "later": {
            "of": "drawn images of 320 x 240", "images": [count, more], "ours": took, "peer": first["seconds"],
            "ratio": first["seconds"] / took, "memory": {"ours": later[0]["resident"], "peer": first["resident"]},
            "rounds": {"ours": rounds, "peer": 1},
            "targets": [at_most("later / first", took / first["seconds"], LIMIT)],
            "process": process, "note": "the peer is the first embed; processor seconds; memory of the whole process",
        }
    }  # fmt: skip


def draw(folder: Path, count: int) -> None:
    """Write `count` images of a smooth texture, each another."""
    from PIL import Image

    folder.mkdir()
    for number in range(count):
        coarse = np.random.default_rng(number).integers(60, 200, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg")


def embed(folder: str, count: int) -> dict[str, Any]:
    """For `alone`: embeds the first `count` images into FOLDER/made, with rows of FOLDER/kept, and keeps them."""
    from adshift.features import extract
    from adshift.features.kept import Kept

    files = sorted(Path(folder, "images").iterdir())[:count]
    manifest, network = items(files), backbone("lite0", Path(folder))
    made, keeping = Path(folder) / "made", Path(folder) / "kept"
    shutil.rmtree(made, ignore_errors=True)
    kept, start = Kept(keeping, {"code": "same"}), time.process_time()
    copied = extract.embed(manifest, network, made, what="embed", kept=kept)
    kept.keep(made, manifest)
    return {"seconds": time.process_time() - start, "process": time.process_time(), "copied": copied}
