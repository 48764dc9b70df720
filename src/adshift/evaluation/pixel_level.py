"""From anomaly maps to pixel metrics. They need no threshold."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from adshift.data.images import fit, load_mask
from adshift.data.manifest import anomalous, path_of, read
from adshift.data.shapes import Size
from adshift.evaluation.metrics.pixel import pixel_metrics
from adshift.evaluation.scenarios import SCENARIOS, Scenario
from adshift.evaluation.stored_predictions import predictions
from adshift.runtime.parallel import map_ordered


def pixel_level(
    dataset: str, method: str, classes: Iterable[str], resize: Size, crop: Size | None, limit: float
) -> dict[str, Any]:
    """{class: {pair: pixel metrics}}, one entry for each set of anomaly maps that some scenario looks at."""

    def measure(work: tuple[str, Scenario]) -> dict[str, Any]:
        name, scenario = work
        found = predictions("test", dataset, method, scenario, name)
        items = {item.name: item for item in read(path_of(dataset, name, scenario.test))}
        masks = np.stack([fit(load_mask(items[image]), resize, crop) for image in found.names])
        return pixel_metrics(found.full_maps(), masks, limit, anomalous(found.names)).to_dict()

    needed = {scenario.pixels: scenario for scenario in SCENARIOS}
    work = [(name, scenario) for name in classes for scenario in needed.values()]
    results = iter(map_ordered(measure, work, what=f"pixel metrics of {method}", unit="set"))
    return {name: {key: next(results) for key in needed} for name in classes}
