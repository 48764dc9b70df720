"""Pixel metrics (AUROC, AUPRC, best F1, PRO) of 60 maps of 512 x 512: ours against scikit-learn's and anomalib's.

python benchmarks/bench_pixel_metrics.py
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np

LIMIT = 0.3


def scene(n: int = 60, side: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps that see the defects in part, 4 % of the pixels: (n, side, side) float32 and bool."""
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(0)
    maps, masks = np.empty((n, side, side), np.float32), np.zeros((n, side, side), bool)
    for i, mask in enumerate(masks):
        for top, left in generator.integers(0, 7 * side // 8, (3, 2)):
            mask[top : top + side // 8, left : left + side // 8] = True
        gaussian_filter(generator.standard_normal((side, side), np.float32), 4, output=maps[i])
        maps[i] += maps[i].std() * mask
    return maps, masks


def ours(maps: np.ndarray, masks: np.ndarray) -> list[float]:
    from adshift.metrics.pixel import pixel_metrics

    found = pixel_metrics(maps, masks, LIMIT)
    return [found.auroc or 0.0, found.auprc, found.best_f1_upper_bound, found.pro]


def peer(maps: np.ndarray, masks: np.ndarray) -> list[float]:
    import torch
    from anomalib.metrics import AUPRO
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    scores, labels = maps.ravel(), masks.ravel()
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())
    metric = AUPRO(fields=("anomaly_map", "gt_mask"), fpr_limit=LIMIT)
    batch: Any = SimpleNamespace(anomaly_map=torch.from_numpy(maps), gt_mask=torch.from_numpy(masks).long())
    metric.update(batch)
    pro = float(metric.compute())
    return [roc_auc_score(labels, scores), average_precision_score(labels, scores), f1, pro]


CONTENDERS: dict[str, Callable[[np.ndarray, np.ndarray], list[float]]] = {"ours": ours, "peer": peer}


def run(rounds: int = 3) -> dict[str, object]:
    """Seconds (median of `rounds`, alternating), their ratio, peak memory, and the largest difference in a value."""
    maps, masks = scene()
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    values: dict[str, list[float]] = {}
    for contender in CONTENDERS.values():
        contender(maps[:1], masks[:1])  # imports
    for _ in range(rounds):
        for name, contender in CONTENDERS.items():
            start = time.perf_counter()
            values[name] = contender(maps, masks)
            seconds[name].append(time.perf_counter() - start)
    took = {name: median(times) for name, times in seconds.items()}
    return {
        **took,
        "ratio": took["peer"] / took["ours"],
        "memory": {name: _memory(name) for name in CONTENDERS},
        "difference": max(abs(a - b) for a, b in zip(values["ours"], values["peer"], strict=True)),
    }


def _memory(name: str) -> float:
    """Peak memory in multiples of the maps, maps and masks included, in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def _peak(name: str) -> float:
    contender = CONTENDERS[name]
    contender(*scene(1, 64))  # imports
    # Resident now. Imports may have peaked above it, and then this errs to the contender's disadvantage.
    before = _status("VmRSS")
    maps, masks = scene()
    contender(maps, masks)
    return (_status("VmHWM") - before) / maps.nbytes


def _status(key: str) -> int:
    """A memory figure of this process in bytes; getrusage would report the parent's peak."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


if __name__ == "__main__":
    print(_peak(sys.argv[1]) if len(sys.argv) > 1 else json.dumps(run(), indent=1))
