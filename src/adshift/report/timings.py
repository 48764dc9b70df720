"""Times of the fits."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pandas as pd

from adshift.project.paths import timings_path
from adshift.report.table import Table
from adshift.runtime.files import read_json

COLUMNS = ["stage", "method", "class", "domain", "images", "ratio", "device", "seconds"]
NOTE = "Wall time: the only table that differs between runs."


def timings(dataset: str, classes: Sequence[str], methods: Sequence[str], graph: Any) -> Table:
    """Seconds of every fit, the coreset ablation's included. `graph` of params.yaml lists which fits there are."""
    fits = [(name, domain) for name in classes for domain in graph.domains]
    fits += [(name, "clean") for name in graph.unified]
    rows = [
        read_json(timings_path(dataset, "fit", f"{method}-{name}-{domain}"))
        for method in methods
        for name, domain in fits
    ]
    for name, domain in product(classes, graph.ablation):
        of_ablation = {"stage": "ablate", "method": "patchcore", "class": name, "domain": domain}
        seconds = read_json(timings_path(dataset, "ablate", name))["seconds"]
        rows += [{**of_ablation, "ratio": float(ratio), "seconds": value} for ratio, value in seconds.items()]
    return Table("timings", "Time to fit, in seconds", pd.DataFrame(rows, columns=COLUMNS, dtype=object), NOTE)
