"""Pixel metrics (AUROC, AUPRC, best F1, PRO) of 60 maps of 512 x 512 against scikit-learn's and anomalib's.

`pixel_metrics.1024` is ours for 100 maps of 1024 x 1024, and what the whole process holds at its peak.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
from harness import Entry, alone, at_most, entry, measure

LIMIT = 0.3  # false-positive rate up to which PRO is integrated


def scene(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps that see the defects in part, 4 % of the pixels: (count, side, side) float32 and bool."""
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(0)
    maps, masks = np.empty((count, side, side), np.float32), np.zeros((count, side, side), bool)
    for i, mask in enumerate(masks):
        for top, left in generator.integers(0, 7 * side // 8, (3, 2)):
            mask[top : top + side // 8, left : left + side // 8] = True
        gaussian_filter(generator.standard_normal((side, side), np.float32), 4, output=maps[i])
        maps[i] += maps[i].std() * mask
    return maps, masks


def ours(maps: np.ndarray, masks: np.ndarray) -> list[float]:
    from adshift.evaluation.metrics.pixel import pixel_metrics

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


def run(count: int = 60, side: int = 512, large: tuple[int, int] = (100, 1024), rounds: int = 3) -> dict[str, Entry]:
    maps, masks = scene(count, side)
    for contender in (ours, peer):
        contender(maps[:1], masks[:1])  # imports and compilation
    found = measure({"ours": lambda: ours(maps, masks), "peer": lambda: peer(maps, masks)}, rounds)
    values = [found[name]["result"] for name in ("ours", "peer")]
    held = maps.nbytes + masks.nbytes
    for record in found.values():
        record["memory"] += held
    child = alone("bench_pixel_metrics:whole", *large)
    child = {"seconds": child["seconds"], "all": [child["seconds"]], "memory": child["resident"]}
    return {
        "pixel_metrics": entry(
            found, at_most("memory / maps, both included", found["ours"]["memory"] / maps.nbytes, 3),
            maps=[count, side, side], difference=max(abs(a - b) for a, b in zip(*values, strict=True)),
        ),
        "pixel_metrics.1024": entry(
            {"ours": child}, at_most("GB of the whole process", child["memory"] / 1e9, 2),
            maps=[large[0], large[1], large[1]], note="memory is that of the whole process, imports and maps included",
        ),
    }  # fmt: skip


def whole(count: int, side: int) -> dict[str, float]:
    """For `alone`: seconds of one call."""
    ours(*scene(1, 64))  # imports and compilation
    maps, masks = scene(count, side)
    return {"seconds": measure({"ours": lambda: ours(maps, masks)}, 1)["ours"]["seconds"]}
