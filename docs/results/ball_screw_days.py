"""Ball screws day by day: false alarms as they soil, recall once there is pitting, with and without daily adaptation.

Run from the repository's root, with the folder of the finished run of docs/results/ball_screw (its features are read):

    python docs/results/ball_screw_days.py docs/results/defences RUN

A model is fitted on the good images of 28 to 30 August; those of the 31st set its threshold at 5 % false alarms
(conformal). It then meets the days of September. Routines, none of which sees an image of the day that it is tested on:

- `as it is`: nothing is changed;
- `new threshold`: each day, 10 good images of the day before set the threshold, conformal at 5 %, or at the lowest rate
  that so few can promise, 1 in 11;
- `adapted`: each day, the same 10 images adapt the model of the day before and, each fold of five scored by the model
  adapted with the others, set the threshold in the same way;
- `normalized`: intensities of every image are brought to those of the training images (moments), nothing is adapted;
- `normalized, adapted`: both.

The 10 images are drawn three times. PatchCore keeps 1 % of the patches, for time. A day's images are tested whole:
those that adapt later days are among them, since they were not used before that day. `recall_at_10` is the recall at
the threshold with 10 % false alarms on that day's own good images, which compares rankings; it is no routine.
Everything above but the number of draws and the share of patches, which a first run showed to take too long, was fixed
before the first run.
"""

import argparse
import csv
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adshift.data import manifest
from adshift.data.images import load_image
from adshift.data.manifest import Item
from adshift.data.normalising import Reference
from adshift.detectors import registry
from adshift.evaluation.conformal import attainable
from adshift.evaluation.levers.adapt import cross_fitted
from adshift.features import extract
from adshift.features.backbones import Backbone
from adshift.features.settings import Stored as Settings
from adshift.features.store import Features
from adshift.report import vega
from adshift.runtime import seeding

NAME, DATASET = "ball_screw", "list"
FITTED, CALIBRATED = ("2020-08-28", "2020-08-29", "2020-08-30"), "2020-08-31"
METHODS = ("patchcore", "padim_diagonal")
DRAWS, IMAGES, RATE = 3, 10, 0.05
CORESET = 0.01  # of PatchCore, in place of 0.05: an image has 1,904 patches, and thousands are scored
COLUMNS = ("method", "routine", "draw", "date", "good", "false_alarms", "defective", "caught", "recall_at_10", "rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("run", type=Path)
    args = parser.parse_args()
    items, plain = _of_run(args.run)
    dates = {item.name: item.listed["date"] for item in items}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        normalized = _normalized(args.run, items, dates, Path(folder))
        for method in METHODS:
            for prefix, features in (("", plain), ("normalized", normalized)):
                rows += _days(args.run, method, prefix, features, dates)
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "ball_screw_days.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (args.out / "ball_screw_days.md").write_text(_table(rows), encoding="utf-8")
    (args.out / "ball_screw_days.svg").write_text(vega.svg(_chart(rows)), encoding="utf-8")


def _of_run(run: Path) -> tuple[list[Item], Features]:
    """The dated images of both domains of a run, and their feature maps."""
    items, sets = [], []
    for domain in ("clean", "shift"):
        of_domain = manifest.read(run / manifest.path_of(DATASET, NAME, domain))
        dated = [item for item in of_domain if item.listed.get("date") and item.name not in {one.name for one in items}]
        items += dated
        sets.append(Features.open(run / "data/features" / domain / DATASET / NAME).select(item.name for item in dated))
    return items, sets[0] + sets[1]


def _normalized(run: Path, items: list[Item], dates: dict[str, str], folder: Path) -> Features:
    settings = Settings.read(run / "data/settings/features.json")
    fitted = [item for item in items if item.defect == manifest.GOOD and dates[item.name] in FITTED]
    reference = Reference.fit((extract.network_inputs(load_image(item), settings) for item in fitted), "moments")
    extract.embed(items, Backbone(settings), folder / "normalized", what="normalized images", normalise=reference)
    return Features.open(folder / "normalized")


def _days(run: Path, method: str, prefix: str, features: Features, dates: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Rows of every routine of a method."""
    scoring = registry.settings(method, "score", run / f"data/settings/{method}/score.json")
    settings = registry.settings(method, "fit", run / f"data/settings/{method}/fit.json")
    if method == "patchcore":
        settings = settings.model_copy(update={"coreset": CORESET})
    first = registry.detector_class(method)(settings)
    defective = manifest.anomalous(features.names)

    def of(days: tuple[str, ...], wanted: bool) -> list[int]:
        return [
            index for index, name in enumerate(features.names) if dates[name] in days and defective[index] == wanted
        ]

    first.fit(features.take(of(FITTED, False)), seeding.generator(42, "ball_screw_days", method))
    unchanged = first.predict(features, scoring).scores
    fixed = attainable(unchanged[of((CALIBRATED,), False)], RATE)[0]
    days = sorted({date for date in dates.values() if date > CALIBRATED})
    earlier = dict(zip(days, [CALIBRATED, *days[:-1]], strict=True))
    for routine, draws in (("as it is", 1), ("new threshold", DRAWS), ("adapted", DRAWS)):
        for draw in range(draws):
            model, generator = first, seeding.generator(42, "ball_screw_days", str(draw))
            threshold = fixed
            for day in days:
                good = of((earlier[day],), False)
                chosen = [good[index] for index in generator.permutation(len(good))[:IMAGES]]
                if routine == "new threshold":
                    threshold = attainable(unchanged[chosen], RATE)[0]
                elif routine == "adapted":
                    today = features.take(sorted(chosen))
                    threshold = attainable(cross_fitted(model, model.adapted, today, scoring).scores, RATE)[0]
                    model = model.adapted(today)
                tested = [of((day,), kind) for kind in (False, True)]
                if model is first:
                    normal, bad = (unchanged[some] for some in tested)
                else:
                    normal, bad = (
                        model.predict(features.take(some), scoring).scores if some else np.empty(0) for some in tested
                    )
                name = ", ".join(filter(None, (prefix, "" if prefix and routine == "as it is" else routine)))
                yield {
                    "method": method, "routine": name, "draw": draw, "date": day,
                    "good": len(normal), "false_alarms": int((normal >= threshold).sum()),
                    "defective": len(bad), "caught": int((bad >= threshold).sum()),
                    "recall_at_10": round(float((bad >= attainable(normal, 0.1)[0]).mean()), 4) if len(bad) else "",
                    "rows": len(model.bank) if hasattr(model, "bank") else "",
                }  # fmt: skip


def _means(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, float | None]]:
    """{(method, routine, date): mean rates over draws}."""
    means = {}
    for key in dict.fromkeys((row["method"], row["routine"], row["date"]) for row in rows):
        some = [row for row in rows if (row["method"], row["routine"], row["date"]) == key]
        rates = {
            "false_alarms": [row["false_alarms"] / row["good"] for row in some if row["good"]],
            "recall": [row["caught"] / row["defective"] for row in some if row["defective"]],
            "recall_at_10": [row["recall_at_10"] for row in some if row["recall_at_10"] != ""],
        }
        means[key] = {name: float(np.mean(values)) if values else None for name, values in rates.items()}
    return means


def _table(rows: list[dict[str, Any]]) -> str:
    means = _means(rows)
    days = sorted({key[2] for key in means})
    shown = [re.sub(r"2020-0?(\d+)-0?(\d+)", r"\2 Sep", day) for day in days]
    lines = []
    for title, name in (
        ("False alarms on good images", "false_alarms"),
        ("Recall of pitting", "recall"),
        ("Recall of pitting at 10 % false alarms of the day", "recall_at_10"),
    ):
        lines += [f"{title}, mean of {DRAWS} draws", "", f"| method | routine | {' | '.join(shown)} |"]
        lines.append(f"| --- | --- |{' ---: |' * len(days)}")
        for method, routine in dict.fromkeys(key[:2] for key in means):
            values = [means[method, routine, day][name] for day in days]
            cells = ["" if value is None else f"{value:.2f}" for value in values]
            lines.append(f"| {method} | {routine} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _chart(rows: list[dict[str, Any]]) -> dict[str, Any]:
    values = [
        {"method": method, "routine": routine, "date": date, "measure": measure, "value": rates[key]}
        for (method, routine, date), rates in _means(rows).items()
        for key, measure in (("false_alarms", "false alarms"), ("recall", "recall of pitting"))
        if rates[key] is not None
    ]
    return {
        "data": {"values": values},
        "facet": {"row": {"field": "measure", "title": None}, "column": {"field": "method", "title": None}},
        "spec": {
            "width": 320, "height": 180, "mark": {"type": "line", "point": True},
            "encoding": {
                "x": {"field": "date", "type": "temporal", "title": None, "axis": {"format": "%e %b"}},
                "y": {"field": "value", "type": "quantitative", "title": None, "scale": {"domain": [0, 1]}},
                "color": {
                    "field": "routine", "title": None,
                    "legend": {"orient": "bottom", "columns": 3, "columnPadding": 30, "labelLimit": 240},
                },
            },
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()
