"""From anomaly maps to pixel metrics. They need no threshold."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from adshift.data.images import fit, load_mask
from adshift.data.manifest import anomalous, path_of, read
from adshift.detectors.records import Predictions
from adshift.evaluation.metrics.pixel import PixelMetrics, pixel_metrics
from adshift.evaluation.scenarios import SCENARIOS, Scenario
from adshift.evaluation.stored_predictions import predictions
from adshift.runtime.parallel import map_ordered


def pixel_level(
    dataset: str,
    method: str,
    classes: Iterable[str],
    resize: int,
    crop: int | None,
    limit: float,
    scenarios: Sequence[Scenario] = SCENARIOS,
) -> dict[str, Any]:
    """{class: {pair: pixel metrics}}, one entry for each set of anomaly maps that some scenario looks at.

    Over the images whose masks are known, `images` of them. Left out are those without a label, and defective ones
    whose masks are unknown, `unknown_masks` of them.
    """

    def measure(work: tuple[str, Scenario]) -> dict[str, Any]:
        name, scenario = work
        found = predictions("test", dataset, method, scenario, name)
        items = {item.name: item for item in read(path_of(dataset, name, scenario.test))}
        rows = [row for row, image in enumerate(found.names) if items[image].mask_known]
        names = [found.names[row] for row in rows]
        unknown = sum(items[image].anomalous and not items[image].mask_known for image in found.names)
        counts = {"images": len(rows), "unknown_masks": unknown}
        masks = [fit(load_mask(items[image]), resize, crop) for image in names]
        if not any(mask.any() for mask in masks):  # no ranking without both kinds of pixels: spare the enlarging
            return {**asdict(PixelMetrics(None, None, None, None, limit, None)), **counts}
        known = Predictions(tuple(names), found.scores[rows], found.maps[rows], found.size, found.smoothing)
        return {**pixel_metrics(known.full_maps(), np.stack(masks), limit, anomalous(names)).to_dict(), **counts}

    needed = {scenario.pixels: scenario for scenario in scenarios}
    work = [(name, scenario) for name in classes for scenario in needed.values()]
    results = iter(map_ordered(measure, work, what=f"pixel metrics of {method}", unit="set"))
    return {name: {key: next(results) for key in needed} for name in classes}
