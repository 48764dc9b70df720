"""AUPIMO against values derived by hand and against anomalib's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.metrics import AUPIMO
from scipy.ndimage import gaussian_filter

from adshift.evaluation.metrics.pimo import pimo
from adshift.evaluation.metrics.pixel import pixel_metrics


def scene(seed: int, signal: float, normal: int = 10, defective: int = 4, side: int = 200):
    """Smooth maps that rise at the defects: (N, side, side) float32 and bool, normal images first."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((normal + defective, side, side), bool)
    for mask in masks[normal:]:
        top, left = rng.integers(0, side - 60, 2)
        mask[top : top + rng.integers(10, 60), left : left + rng.integers(10, 60)] = True
    noise = gaussian_filter(rng.normal(size=masks.shape), (0, 2, 2)) * 7 + rng.normal(size=masks.shape) * 0.3
    return (noise + signal * masks).astype(np.float32), masks


def peer(maps: np.ndarray, masks: np.ndarray) -> float:
    metric = AUPIMO(num_thresholds=100_000)
    metric.update(SimpleNamespace(anomaly_map=torch.from_numpy(maps), gt_mask=torch.from_numpy(masks)))
    return float(metric.compute())


@pytest.mark.parametrize(("seed", "signal"), [(0, 3.5), (1, 4.5), (2, 5.5)])
def test_like_anomalib(seed: int, signal: float) -> None:
    maps, masks = scene(seed, signal)
    found = pimo(maps, masks, ~masks.any((1, 2)))
    assert found == pytest.approx(peer(maps, masks), abs=1e-3)
    assert 0.05 < found < 0.95  # neither end would tell one metric from another


def test_by_hand() -> None:
    """100 normal pixels 0 ... 99 and bounds 1 % to 10 %: a pixel above k of them starts at k % of the log range."""
    maps = np.stack([np.arange(100.0).reshape(10, 10), np.full((10, 10), -1.0), np.full((10, 10), -1.0)])
    masks = np.zeros((3, 10, 10), bool)
    masks[1, 0, :2] = masks[2, 0, 0] = True
    maps[1, 0, :2] = 99.5, 95.0  # above all: the whole range; 5 normal pixels reach it: log(10 / 5) / log(10) of it
    maps[2, 0, 0] = 50.0  # found only at 50 %
    first = (1 + np.log10(2)) / 2
    assert pimo(maps, masks, np.array([True, False, False]), (0.01, 0.1)) == pytest.approx(first / 2)


def test_only_normal_images_set_the_rate() -> None:
    maps, masks = scene(3, 4.0)
    normal = ~masks.any((1, 2))
    before = pimo(maps, masks, normal)
    maps[-1][~masks[-1]] += 100.0  # false alarms, but on a defective image
    assert pimo(maps, masks, normal) == before


def test_a_defect_without_a_pixel_is_no_normal_image() -> None:
    maps, masks = scene(4, 4.0)
    labels = masks.any((1, 2))
    before = pixel_metrics(maps, masks, 0.3, labels).aupimo
    maps[0] += 100.0  # normal by its mask, and it ruins the rate
    assert pixel_metrics(maps, masks, 0.3).aupimo == 0.0
    labels[0] = True
    without = pixel_metrics(maps, masks, 0.3, labels).aupimo
    assert without == pytest.approx(before, abs=0.1) and without > 0.05
    with pytest.raises(ValueError, match="said to be normal"):
        pixel_metrics(maps, masks, 0.3, np.zeros(len(maps), bool))


def test_nothing_to_measure_is_none() -> None:
    maps, masks = scene(5, 4.0, normal=2, defective=2, side=80)
    assert pimo(maps, masks, np.zeros(4, bool)) is None
    assert pimo(maps, np.zeros_like(masks), np.ones(4, bool)) is None
    assert pimo(maps[:0], masks[:0], np.ones(0, bool)) is None


def test_constant_maps_find_nothing() -> None:
    _, masks = scene(6, 4.0, normal=2, defective=2, side=80)
    assert pimo(np.ones(masks.shape, np.float32), masks, ~masks.any((1, 2))) == 0.0
