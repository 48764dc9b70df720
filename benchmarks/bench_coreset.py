"""Coreset selection: 0.5 % of 235,200 x 152 patches, ours against anomalib's KCenterGreedy on the same threads.

python benchmarks/bench_coreset.py [images]

The patches are those of 300 magnetic tiles under the default backbone; clustered random ones where there are no tiles.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

TILES = Path("../shared/data/magnetic_tile/MT_Free/Imgs")
RATIO = 0.005


def patches(count: int) -> tuple[np.ndarray, str]:
    """(784 * count, 152) float32 patch features, and what they are of."""
    files = sorted(TILES.glob("*.jpg"))[:count]
    if len(files) < count:
        generator = np.random.default_rng(0)
        centres = generator.normal(size=(count, 152)) * 3
        rows = centres[generator.integers(count, size=784 * count)]
        spread = np.geomspace(2, 0.05, 152)
        return (rows + generator.normal(size=rows.shape) * spread).astype(np.float32), "clustered random points"

    from adshift import params
    from adshift.backbones import Backbone
    from adshift.features import Features
    from adshift.images import fit, read_image
    from adshift.methods.patchcore import Fit, PatchCore

    settings = params.load("features", "patchcore")
    backbone = Backbone(settings.features)
    maps = [backbone(fit(read_image(file), settings.features.resize)[None].copy()) for file in files]
    levels = {level: np.concatenate(arrays) for level, arrays in enumerate(zip(*maps, strict=True), start=1)}
    found = PatchCore(Fit.within(dict(settings.patchcore))).patches(Features.of(map(str, files), levels, {}))
    return found.reshape(-1, found.shape[-1]), f"{count} magnetic tiles, {settings.features.backbone}"


def ours(points: np.ndarray) -> np.ndarray:
    from adshift.coreset import greedy, size_of

    return greedy(points, size_of(RATIO, len(points)), 0).indices


def peer(points: np.ndarray) -> np.ndarray:
    import torch
    from anomalib.models.components import KCenterGreedy

    torch.manual_seed(0)
    return np.array(KCenterGreedy(torch.from_numpy(points), RATIO).select_coreset_idxs())


def run(images: int = 300, rounds: int = 3) -> dict[str, Any]:
    """Seconds (ours: median of `rounds`, the peer's: once), ratio, memory beside the points, and covering radii."""
    import torch

    from adshift.coreset import covering_radius
    from adshift.parallel import thread_count

    torch.set_num_threads(thread_count())
    points, what = patches(images)
    for contender in (ours, peer):
        contender(points[:2000])  # imports and compilation
    mine = [_measured(ours, points) for _ in range(rounds)]
    theirs = _measured(peer, points)
    took = median(seconds for seconds, _, _ in mine)
    picks = {"ours": mine[0][2], "peer": theirs[2]}
    return {
        "points": list(points.shape), "of": what, "picks": len(picks["ours"]), "threads": thread_count(),
        "ours": took, "peer": theirs[0], "ratio": theirs[0] / took,
        "memory": {"ours": mine[0][1], "peer": theirs[1]},
        "radius": {name: covering_radius(points, points[chosen]) for name, chosen in picks.items()},
    }  # fmt: skip


def _measured(contender: Callable[[np.ndarray], np.ndarray], points: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Seconds, peak memory beside the points as a share of them, and picks."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew from what is resident
    before, start = _status("VmRSS"), time.perf_counter()
    picks = contender(points)
    return time.perf_counter() - start, (_status("VmHWM") - before) / points.nbytes, picks


def _status(key: str) -> int:
    """A memory figure of this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[1])
    print(json.dumps(run(*map(int, sys.argv[1:2])), indent=1))
