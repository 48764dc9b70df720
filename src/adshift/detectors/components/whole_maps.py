"""Anomaly maps of whole images, without padding, and predictions from them."""

import numpy as np

from adshift.data.shapes import compact, sides
from adshift.detectors.records import CHUNK, Predictions
from adshift.detectors.resample import cropped, enlarge
from adshift.features.store import Features


def predictions_of(features: Features, maps: np.ndarray, smoothing: float) -> Predictions:
    """Predictions of a detector whose image score is the largest value of the enlarged and smoothed anomaly map.

    Args:
        features: of the images.
        maps: (N, h, w) float32, with padding if the features have it.
        smoothing: standard deviation of the Gaussian, in pixels of the network's input.
    """
    maps, size = without_padding(features, maps), compact(features.spec["size"])
    parts = [maps[start : start + CHUNK] for start in range(0, len(maps), CHUNK)]
    scores = np.concatenate([enlarge(part, size, smoothing).max((1, 2)) for part in parts])
    return Predictions(features.names, scores, maps, size, smoothing)


def without_padding(features: Features, maps: np.ndarray) -> np.ndarray:
    """Remove the padding of anomaly maps (N, h, w), and stretch the rest over all positions.

    A map then shows the whole image, squeezed to the input's size, for every aspect. Maps of inputs without padding are
    returned unchanged.
    """
    if not features.padded:
        return maps
    grid, whole, result = maps.shape[1:], sides(features.spec["size"]), maps.astype(np.float32)
    for image, (kept, content) in enumerate(zip(features.shown(grid), features.content().tolist(), strict=True)):
        rows, columns = (
            cropped(side, count, part * side / pixels)
            for side, count, part, pixels in zip(grid, kept, content, whole, strict=True)
        )
        result[image] = rows @ result[image, : kept[0], : kept[1]] @ columns.T
    return result
