"""Pixel-level metrics against values derived by hand, scikit-learn and anomalib's AUPRO."""

import json
import tracemalloc
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.metrics import AUPRO
from scipy.ndimage import gaussian_filter
from skimage.measure import label
from sklearn import metrics as peer

from adshift.evaluation.metrics.pixel import PixelMetrics, pixel_metrics


def peer_pro(maps, masks, limit):
    metric = AUPRO(fields=("anomaly_map", "gt_mask"), fpr_limit=limit)
    metric.update(SimpleNamespace(anomaly_map=torch.from_numpy(maps), gt_mask=torch.from_numpy(masks.astype(np.int64))))
    return float(metric.compute())


def peer_pro_of_regions(maps, masks, limit):
    """anomalib's curve and area from regions that scikit-image finds."""
    counts = np.cumsum([0] + [label(mask, connectivity=2).max() for mask in masks])
    regions = np.stack([label(mask, connectivity=2) + mask * count for mask, count in zip(masks, counts, strict=False)])
    metric = AUPRO(fields=("anomaly_map", "gt_mask"), fpr_limit=limit)
    fpr, overlap = metric.compute_pro(torch.from_numpy(regions), torch.from_numpy(maps))
    return float(torch.trapezoid(overlap, fpr) / fpr[-1])


def scene(seed, *, n=5, side=48, share=0.5, signal=1.0):
    """Smooth maps that see the defects in part: (n, side, side) float32 and bool."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((n, side, side), bool)
    for mask in masks[: round(n * share)]:
        for _ in range(4):
            top, left = generator.integers(0, side - 4, 2)
            height, width = generator.integers(1, side // 3, 2)
            mask[top : top + height, left : left + width] = True
    noise = gaussian_filter(generator.normal(size=masks.shape), (0, 2, 2)) * 6
    return (noise + signal * masks).astype(np.float32), masks


def cases():
    maps, masks = scene(0)
    yield "random", maps, masks
    yield "ties", maps.round(1), masks
    yield "heavy ties", maps.round(), masks
    yield "constant", np.full_like(maps, 0.5), masks
    yield "separated", maps + np.float32(100) * masks, masks
    yield "reversed", maps - np.float32(100) * masks, masks
    yield "all normal", maps, np.zeros_like(masks)
    yield "all anomalous", maps, np.ones_like(masks)
    yield "mostly anomalous", maps, ~scene(1, share=1.0)[1]
    one = np.zeros_like(masks)
    one[2, 3, 4] = True
    yield "one anomalous pixel", maps, one
    yield "one normal pixel", maps[2:3], ~one[2:3]
    yield "one pixel, normal", maps[:1, :1, :1], np.zeros((1, 1, 1), bool)
    yield "one pixel, anomalous", maps[:1, :1, :1], np.ones((1, 1, 1), bool)
    yield "two pixels, tied", np.ones((1, 1, 2), np.float32), np.array([[[True, False]]])
    corner = np.zeros_like(masks)
    corner[0, 4:9, 4:9] = corner[0, 9:30, 9:11] = True  # they touch at one corner: one region
    corner[1, 4:9, 4:9] = corner[1, 10:30, 9:11] = True  # they do not: two
    corner[2, ::2, ::2] = True  # lone pixels
    corner[3] = np.indices(corner[3].shape).sum(axis=0) % 2 == 0  # chess board: one region
    yield "touching regions", maps, corner
    noise = np.random.default_rng(2).random(maps.shape)
    yield "noise masks", noise.astype(np.float32), noise > 0.5 + 0.5 * np.random.default_rng(3).random(maps.shape)


CASES = {name: (maps, masks) for name, maps, masks in cases()}


@pytest.mark.parametrize("name", CASES)
def test_like_scikit_learn_and_anomalib(name):
    maps, masks = CASES[name]
    found = pixel_metrics(maps, masks, 0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        auroc = peer.roc_auc_score(masks.ravel(), maps.ravel())
        auprc = peer.average_precision_score(masks.ravel(), maps.ravel())
        precision, recall, _ = peer.precision_recall_curve(masks.ravel(), maps.ravel())
    f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-300)).max() if masks.any() else 0.0
    assert found.auroc == (None if np.isnan(auroc) else pytest.approx(auroc, abs=1e-9))
    if found.auroc is None:  # pixels of one kind: there is nothing to rank, and anomalib's 0 would spoil a mean
        assert masks.all() or not masks.any()
        assert (found.auprc, found.best_f1_upper_bound, found.pro, found.aupimo) == (None,) * 4
        return
    assert found.auprc == pytest.approx(auprc, abs=1e-9)
    assert found.best_f1_upper_bound == pytest.approx(f1, abs=1e-9)
    assert found.pro == pytest.approx(peer_pro(maps, masks, 0.3), abs=1e-5)


@pytest.mark.parametrize("limit", [0.05, 0.3])
def test_an_image_that_is_anomalous_all_over_is_a_region(limit):
    # anomalib's labelling takes the first label it meets for the background, and so such an image for normal.
    maps, masks = scene(6)
    masks[1] = True
    found = pixel_metrics(maps, masks, limit).pro
    assert found == pytest.approx(peer_pro_of_regions(maps, masks, limit), abs=1e-5)
    assert found != pytest.approx(peer_pro(maps, masks, limit), abs=1e-2)


@pytest.mark.parametrize("limit", [0.001, 0.05, 1.0])
@pytest.mark.parametrize("name", ["random", "heavy ties", "two pixels, tied"])
def test_pro_up_to_other_limits(name, limit):
    maps, masks = CASES[name]
    assert pixel_metrics(maps, masks, limit).pro == pytest.approx(peer_pro(maps, masks, limit), abs=1e-5)


def test_pro_derived_by_hand():
    # Two regions of one pixel, two normal pixels. 0.9 is found from FPR 0 on, 0.7 from 1/2 on.
    maps = np.array([[[0.9, 0.8, 0.7, 0.6]]], np.float32)
    masks = np.array([[[True, False, True, False]]])
    assert pixel_metrics(maps, masks, 1.0).pro == pytest.approx((1 + 0.5) / 2)
    assert pixel_metrics(maps, masks, 0.5).pro == pytest.approx((1 + 0) / 2)


def test_pro_of_a_tie_is_the_straight_line():
    # Anomalous and normal tie: found along the diagonal, area 1/2 of the square and limit / 2 of its start.
    maps, masks = np.ones((1, 1, 2), np.float32), np.array([[[True, False]]])
    assert pixel_metrics(maps, masks, 1.0).pro == pytest.approx(0.5)
    assert pixel_metrics(maps, masks, 0.3).pro == pytest.approx(0.15)


def test_pixels_that_touch_at_a_corner_are_one_region():
    masks = np.array([[[True, False, False, True], [False, True, False, False]]])
    maps = np.array([[[5, 1, 1, 5], [1, 0, 1, 1]]], np.float32)  # one pixel of the first region is missed
    assert pixel_metrics(maps, masks, 1.0).pro == pytest.approx((0.5 + 1) / 2)  # two regions; three would give 2/3


def test_regions_weigh_alike_and_images_are_apart():
    masks = np.zeros((2, 4, 4), bool)
    masks[0, :, :3] = masks[1, 0, 0] = True
    maps = np.zeros((2, 4, 4), np.float32)
    maps[0] = masks[0]
    maps[1, 0, 0] = -1.0  # the small region is missed: half of the regions, not one pixel in thirteen
    assert pixel_metrics(maps, masks, 0.3).pro == pytest.approx(0.5)


def test_the_maps_are_left_alone_and_runs_agree():
    maps, masks = scene(4)
    before = maps.copy()
    maps.setflags(write=False)
    assert pixel_metrics(maps, masks, 0.3) == pixel_metrics(before, masks, 0.3)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_memory_stays_within_three_times_the_maps(share):
    maps, masks = scene(5, n=16, side=256, share=share, signal=0.5)
    pixel_metrics(maps[:1], masks[:1], 0.3)  # imports
    tracemalloc.start()
    pixel_metrics(maps, masks, 0.3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert maps.nbytes + masks.nbytes + peak < 3 * maps.nbytes


def test_the_record_survives_json():
    for maps, masks in (CASES["random"], CASES["all normal"]):
        found = pixel_metrics(maps, masks, 0.3)
        assert PixelMetrics.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


@pytest.mark.parametrize("change", [{"pro": 1.5}, {"pro": None}, {"auprc": float("nan")}, {"pro_limit": 0.0}, {"x": 1}])
def test_a_damaged_record_is_refused(change):
    good = pixel_metrics(*CASES["random"], 0.3).to_dict()
    with pytest.raises(ValueError):
        PixelMetrics.from_dict({**good, **change})


def test_bad_input_is_refused():
    maps, masks = CASES["random"]
    holed = maps.copy()
    holed[1, 2, 3] = np.nan
    for bad, why in (
        ((holed, masks, 0.3), "not finite"),
        ((maps, masks[:-1], 0.3), "expected bool, alike"),
        ((maps, masks.astype(np.uint8), 0.3), "expected bool, alike"),
        ((maps[0], masks[0], 0.3), r"expected \(N, H, W\)"),
        ((maps, masks, 0.0), "expected a false-positive rate"),
        ((maps, masks, 1.1), "expected a false-positive rate"),
    ):
        with pytest.raises(ValueError, match=why):
            pixel_metrics(*bad)
