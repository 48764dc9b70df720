"""A default run on images of one's own: 360 good and 40 defective ones of 1400 x 500 pixels, without masks.

In a clone of the last commit: `adshift preset folder --normal good --defective bad`, then `adshift repro`, one stage
after the other. `stages` holds the processor seconds of each stage's processes, `ours` the sum with those of DVC and
adshift. A `python` in front of PATH measures them. The images are drawn: a smooth texture with grain, defects are dark
rectangles.
"""

import os
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench_knobs import Clone
from harness import Entry, at_most, measure

BEFORE = 400.0  # processor seconds of the same run before images were shifted at the size of the network's input
SIZE = (500, 1400)  # pixels
SHIM = """#!/bin/bash
{python} "$@"
code=$?
echo "$1" >> {log}
times >> {log}
exit $code
"""


def run(normal: int = 360, defective: int = 40, rounds: int = 1) -> dict[str, Entry]:
    """The entry.

    Args:
        normal, defective: images of each kind.
        rounds: of the whole run, each in a clone of its own.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "images" / "good", normal, 0)
        draw(folder / "images" / "bad", defective, 1)
        found = measure({"ours": lambda: default_run(folder)}, rounds, limit=1200)["ours"]
    result = found.pop("result")
    target = at_most("processor seconds", result["processor_seconds"], BEFORE / 3)
    return {
        "own": {
            "of": "drawn images of 1400 x 500", "images": [normal, defective], "ours": result["processor_seconds"],
            "peer": None, "ratio": None, "memory": {"ours": result["memory"], "peer": None},
            "rounds": {"ours": len(found["all"])}, "targets": [target], "before": BEFORE, "wall": found["seconds"],
            "stages": result["stages"], "note": "processor seconds of all threads; memory of the largest process",
        }
    }  # fmt: skip


def draw(folder: Path, count: int, spots: int) -> None:
    """Write `count` images of a smooth texture with grain, each with this many dark rectangles."""
    from PIL import Image

    folder.mkdir(parents=True)
    for number in range(count):
        generator = np.random.default_rng([spots, number])
        coarse = Image.fromarray(generator.integers(90, 170, (10, 28), dtype=np.uint8))
        smooth = np.asarray(coarse.resize(SIZE[::-1], Image.Resampling.BICUBIC), np.float32)
        pixels = smooth + generator.normal(0, 6, SIZE).astype(np.float32)
        for _ in range(spots):
            top, left = generator.integers(0, SIZE[0] - 30), generator.integers(0, SIZE[1] - 120)
            pixels[top : top + 20, left : left + 100] -= 60
        grey = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB")
        grey.save(folder / f"{number:04}.jpg", quality=92)


def default_run(folder: Path) -> dict[str, Any]:
    """{processor_seconds, memory, stages: {stage: processor seconds}} of preset and run."""
    shutil.rmtree(folder / "clone", ignore_errors=True)
    clone, log = Clone(folder / "clone"), folder / "times"
    log.unlink(missing_ok=True)
    shim = folder / "bin" / "python"
    shim.parent.mkdir(exist_ok=True)
    shim.write_text(SHIM.format(python=sys.executable, log=log), encoding="utf-8")
    shim.chmod(0o755)
    clone.environment["PATH"] = f"{shim.parent}{os.pathsep}{os.environ['PATH']}"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    root = folder / "images"
    images = ["--normal", str(root / "good"), "--defective", str(root / "bad"), "--class", "part"]
    clone.run("adshift", "preset", "folder", *images)
    clone.run("adshift", "repro")
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime
    stages: dict[str, float] = {}
    for stage, seconds in _times(log.read_text(encoding="utf-8")):
        stages[stage] = stages.get(stage, 0.0) + seconds
    stages["dvc and adshift"] = total - sum(stages.values())
    return {"processor_seconds": total, "memory": now.ru_maxrss * 1024, "stages": stages}


def _times(text: str) -> Iterator[tuple[str, float]]:
    """(stage, processor seconds) of each `python`; `times` prints those of the shell, then of its children."""
    lines = text.splitlines()
    for command, _, children in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        found = re.match(r"(?:\S*/)?stages/(\w+)\.py", command)
        parts = re.findall(r"(\d+)m([\d.]+)s", children)
        yield (found[1] if found else "other"), sum(60 * int(minutes) + float(rest) for minutes, rest in parts)
