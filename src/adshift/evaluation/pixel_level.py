"""Pixel metrics from anomaly maps. They need no threshold."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, Literal

import numpy as np

from adshift.data.geometry import fit, unfit
from adshift.data.images import load_mask
from adshift.data.manifest import Item, anomalous, path_of, read
from adshift.data.masks import areas
from adshift.data.shapes import Size, sides
from adshift.detectors.records import Predictions
from adshift.errors import warn
from adshift.evaluation.metrics.pixel import PixelMetrics, pixel_metrics
from adshift.evaluation.scenarios import SCENARIOS, Scenario
from adshift.evaluation.stored_predictions import predictions
from adshift.runtime.parallel import map_ordered


def pixel_level(
    dataset: str,
    method: str,
    classes: Iterable[str],
    resize: Size,
    crop: Size | None,
    limit: float,
    masks: Literal["input", "image"] = "input",
    scenarios: Sequence[Scenario] = SCENARIOS,
) -> dict[str, Any]:
    """{class: {pair: pixel metrics}}, one entry for each set of anomaly maps that a scenario uses.

    Images count if their masks are known. Images without a label and defective images with unknown masks are left out.
    Beside the metrics, an entry holds `images`, the number of images that count; `unknown_masks`, the number of
    defective images left out; `regions`, the number of connected defects in the masks; and `small_regions`, the number
    of regions smaller than a pixel of the network's input.

    Args:
        masks: `input` resizes masks to the network's input, keeping every region; `image` resizes maps to each image.
        scenarios: that are run.
    """

    def measure(work: tuple[str, Scenario]) -> dict[str, Any]:
        name, scenario = work
        stored = predictions("test", dataset, method, scenario, name)
        items = {item.name: item for item in read(path_of(dataset, name, scenario.test))}
        rows = [row for row, image in enumerate(stored.names) if items[image].mask_known]
        chosen = [items[stored.names[row]] for row in rows]
        truth: Any = [load_mask(item) for item in chosen]
        unknown = sum(items[image].anomalous and not items[image].mask_known for image in stored.names)
        counts = {"images": len(rows), "unknown_masks": unknown, **_regions(chosen, truth, resize)}
        if masks == "input":
            truth = [fit(mask, resize, crop) for mask in truth]
        if not stored.localized or not any(mask.any() for mask in truth):  # no metric is defined
            return PixelMetrics.undefined(limit).to_dict() | counts
        names = tuple(item.name for item in chosen)
        known = Predictions(names, stored.scores[rows], stored.maps[rows], stored.size, stored.smoothing)
        maps: Any = known.full_maps()
        if masks == "image":
            maps = [unfit(one, resize, item.height, item.width) for one, item in zip(maps, chosen, strict=True)]
        else:
            truth = np.stack(truth)
        return pixel_metrics(maps, truth, limit, anomalous(names)).to_dict() | counts

    needed = {scenario.pixels: scenario for scenario in scenarios}
    work = [(name, scenario) for name in classes for scenario in needed.values()]
    results = iter(map_ordered(measure, work, what=f"pixel metrics of {method}", unit="set"))
    levels = {name: {key: next(results) for key in needed} for name in classes}
    for name, by_pair in levels.items():
        if (worst := max(by_pair.values(), key=lambda one: one["small_regions"]))["small_regions"]:
            regions = f"{worst['small_regions']} of {worst['regions']} defective regions"
            height, width = sides(resize)
            warn(f"class {name}: {regions} are smaller than a pixel of the network's input ({height} x {width})")
    return levels


def _regions(items: Sequence[Item], truth: Sequence[np.ndarray], resize: Size) -> dict[str, int]:
    """Number of regions in the masks, and number of those that are smaller than a pixel of the resized image."""
    pixels = prod(sides(resize))
    sizes = [areas(mask) * pixels / (item.height * item.width) for item, mask in zip(items, truth, strict=True)]
    return {"regions": sum(map(len, sizes)), "small_regions": sum(int((size < 1).sum()) for size in sizes)}
