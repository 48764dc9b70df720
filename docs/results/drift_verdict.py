"""How often `adshift drift` advises the right thing, on batches of 10, 30 and 100 normal images of today.

Run from the repository's root, with folders of finished runs (`adshift repro`; data and models there):

    python docs/results/drift_verdict.py docs/results/drift_verdict.csv . ../recorded

A case is a model of the clean domain and a drift: none, one family of synthetic drift at one severity, or the recorded
one. Batches of a case are disjoint. Each is judged as `adshift drift` judges a folder: the tests, then levers tried on
the batch with pasted defects. Its images are normal, and `--defects` is 0, so that the figures do not depend on which
defects are drawn.

What is right is what the same definition says with labels. Each lever is made of the batch, and its specificity and
recall are measured on the labelled test images of the drift, none of them in the batch. They are averaged over the
batches of a size; right is the cheapest lever that comes within 0.05 of the best one in both. An answer is right if it
names this lever (`fine` and `harmless` both mean: nothing). Nothing about the rule was chosen on these images. A weaker
figure, thought of when the first ones were there, counts an answer whose lever comes within 0.05 of the best one;
a cheaper one may do so too.

Of the sample, whose normal test images are too few, FRESH more a class are made by its own recipe. Of a recorded drift,
the model of the clean domain has seen no image of the shifted one, so the batches come from its training images.
Rows of the CSV: one a batch. The summary goes to docs/monitoring.md, between its markers.
"""

import argparse
import contextlib
import csv
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from adshift.data import manifest, split_file
from adshift.data.datasets import sample
from adshift.data.images import load_image
from adshift.data.pasting import CELLS, COPIES, draw, paste
from adshift.data.shapes import sides
from adshift.data.shift import synthetic
from adshift.data.shift.shrink import shrunk
from adshift.deploy import advice, directory, drift, package, recalibration
from adshift.evaluation.metrics.counts import decide
from adshift.features.store import Features
from adshift.project import params
from adshift.project.paths import model_path, split_path
from adshift.runtime import seeding

FRESH = 100
BATCHES = {10: 1, 30: 1, 100: 1}  # size: most batches
SEVERITIES: dict[str, dict[str, Any]] = {
    "light, weak": {"color": {"brightness": [0.85, 0.95]}},
    "light, strong": {"color": {"brightness": [0.55, 0.65]}},
    "blur": {"blur": {"sigma": [1.5, 1.5], "kernels": [7], "probability": 1.0}},
    "noise": {"noise": {"sigma": [0.04, 0.04], "probability": 1.0}},
    "rotation": {"geometry": {"kind": "affine", "rotation": [4, 6], "scale": [1, 1], "translation": 0.0}},
}
ALL = "all families"
PAGE = Path("docs/monitoring.md")
OPEN, CLOSE = "<!-- drift_verdict -->", "<!-- /drift_verdict -->"


@dataclass(frozen=True)
class Case:
    """Feature maps of a model under a drift: of N normal images, P pasted ones and the labelled test images."""

    normal: Features
    pasted: dict[tuple[int, int], int]  # index of the normal image and of the cell: index in `copies`
    copies: Features
    good: Features
    defective: Features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--methods", nargs="+", default=["patchcore", "padim"])
    parser.add_argument("--keep", action="store_true", help="keep the rows that OUT has of other cases")
    parser.add_argument("--drifts", nargs="+", default=["none", *SEVERITIES, ALL], help="of synthetic drift")
    args = parser.parse_args()
    out, page = args.out.resolve(), PAGE.resolve()
    rows: list[dict[str, Any]] = []
    for run in args.runs:
        with contextlib.chdir(run):
            for row in measured(args.methods, args.drifts):
                rows.append(row)
                print(*row.values(), flush=True)
    if args.keep:
        with out.open(newline="", encoding="utf-8") as file:
            before = list(csv.DictReader(file))
        again = {case_of(row) for row in rows}
        rows = [read_back(row) for row in before if case_of(row) not in again] + rows
    with out.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    front, rest = page.read_text(encoding="utf-8").split(OPEN)
    page.write_text(front + OPEN + "\n" + summary(rows) + CLOSE + rest.split(CLOSE)[1], encoding="utf-8")


def case_of(row: dict[str, Any]) -> tuple[str, ...]:
    return row["dataset"], row["class"], row["method"], row["drift"]


def read_back(row: dict[str, str]) -> dict[str, Any]:
    """A row of the CSV, as `summary` needs it."""
    return {**row, "images": int(row["images"]), "said_right": row["said_right"] == "True"}


def measured(methods: list[str], wanted: list[str]) -> Iterator[dict[str, Any]]:
    """Rows of the run in the current folder."""
    settings = params.load("seed", "dataset.name", "classes", "methods", "features", "shift")
    dataset = settings.dataset.name
    for name in settings.classes:
        known = {one: model_path(dataset, one, name, "clean") for one in methods if one in settings.methods}
        models = {one: directory.DirectoryModel(packaged(path)) for one, path in known.items()}
        for change, images in drifts(dataset, name, settings, wanted):
            case = embedded(next(iter(models.values())), images, settings.seed)
            for method, model in models.items():
                facts = {"dataset": dataset, "class": name, "method": method, "drift": change}
                yield from batches(model, case, facts)


def packaged(fitted: Path) -> Path:
    """The model directory of a fit."""
    return Path("models", *fitted.parts[2:])


Images = tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]  # to draw batches from, normal and defective tests


def drifts(dataset: str, name: str, settings: Any, wanted: list[str]) -> Iterator[tuple[str, Images]]:
    """Every drift of a class, with its images."""
    if settings.shift.kind == "recorded":
        for domain, change in (("clean", "none"), ("shift", "recorded")):
            roles = split_file.read(split_path(dataset, name), domain)
            items = {item.name: item for item in manifest.read(manifest.path_of(dataset, name, domain))}
            spare = split_file.names_of(roles, "unused", *(("train", "val") if domain == "shift" else ()))
            pool = [items[one] for one in spare if not items[one].anomalous]
            tests = [items[one] for one in split_file.names_of(roles, "test")]
            if domain == "clean":  # half of the normal test images make batches
                good = [item for item in tests if not item.anomalous]
                pool, tests = pool + good[::2], good[1::2] + [item for item in tests if item.anomalous]
            # In the order of their names, a batch would be of one exposure and no sample of the drift.
            order = seeding.generator(settings.seed, "drift_verdict", name, change).permutation(len(pool))
            pool = [pool[index] for index in order]
            yield change, loaded(pool, tests)
        return
    roles = split_file.read(split_path(dataset, name), "clean")
    items = {item.name: item for item in manifest.read(manifest.path_of(dataset, name, "clean"))}
    tests = [items[one] for one in split_file.names_of(roles, "test")]
    pool = [items[one] for one in split_file.names_of(roles, "unused") if not items[one].anomalous]
    images = loaded(pool, tests)
    if dataset == "sample":
        numbers = range(sample.TEST_GOOD, sample.TEST_GOOD + FRESH)
        images[0].extend(sample.render(name, "test", manifest.GOOD, f"{number:03}")[0] for number in numbers)
    kinds = {change: only(settings.shift, families) for change, families in SEVERITIES.items()} | {ALL: settings.shift}
    for change in wanted:
        yield change, images if change == "none" else drifted(images, kinds[change], settings, change)


def loaded(pool: list[manifest.Item], tests: list[manifest.Item]) -> Images:
    good, bad = ([load_image(item) for item in tests if item.anomalous == kind] for kind in (False, True))
    return [load_image(item) for item in pool], good, bad


def only(shift: Any, families: dict[str, Any]) -> Any:
    """The settings with these families alone."""
    off: dict[str, Any] = {key: {"enabled": False} for key in ("color", "blur", "noise", "illumination")}
    still = {"brightness": [1, 1], "contrast": [1, 1], "saturation": [1, 1]}
    off |= {"geometry": {"kind": "none"}}
    values = shift.model_dump(mode="json")
    for key, change in off.items():
        values[key] |= change
    for key, change in families.items():
        values[key] |= ({"enabled": True} if key != "geometry" else {}) | (still if key == "color" else {}) | change
    return type(shift).model_validate_json(json.dumps(values))


def drifted(images: Images, shift: Any, settings: Any, change: str) -> Images:
    size = sides(settings.features.resize)

    def one(pixels: np.ndarray, kind: int, number: int) -> np.ndarray:
        drawn = synthetic.draw(shift, settings.seed, "drift_verdict", change, str(kind), str(number))
        return synthetic.apply(shrunk(pixels, size), drawn)

    moved = [[one(pixels, kind, number) for number, pixels in enumerate(part)] for kind, part in enumerate(images)]
    return moved[0], moved[1], moved[2]


def embedded(model: directory.DirectoryModel, images: Images, seed: int) -> Case:
    """Feature maps of all images, and of the pasted ones that a batch can need."""
    pool, good, bad = images
    pairs = sorted({pair for indices in ranges(len(pool)) for pair in pairs_of(indices)})
    made = (
        paste(pool[index], draw(*CELLS[cell], seed, "drift_verdict", str(index), str(cell)))[0] for index, cell in pairs
    )
    return Case(
        model.features(pool), {pair: number for number, pair in enumerate(pairs)}, model.features(made),
        model.features(good), model.features(bad),
    )  # fmt: skip


def ranges(count: int) -> list[range]:
    """Disjoint batches of each size, as indices of `count` images."""
    return [
        range(number * size, (number + 1) * size)
        for size, most in BATCHES.items()
        for number in range(min(most, count // size))
    ]


def pairs_of(indices: range) -> list[tuple[int, int]]:
    """What is pasted on a batch: index of the image and of the cell, as `adshift drift` shares them out."""
    each = ceil(COPIES / len(indices))
    turns = [(index, place * each + turn) for place, index in enumerate(indices) for turn in range(each)]
    return [(index, turn % len(CELLS)) for index, turn in turns]


def batches(model: directory.DirectoryModel, case: Case, facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row a batch."""
    for size in BATCHES:
        parts = [indices for indices in ranges(len(case.normal)) if len(indices) == size]
        answers = [answer(model, case, indices, number) for number, indices in enumerate(parts)]
        truths = [truth(model, case, indices, one[1]) for indices, one in zip(parts, answers, strict=True)]
        if not answers:
            continue
        mean = [
            advice.Estimate(one[0].lever, 0.0, *np.mean([[t.specificity, t.recall, t.auroc] for t in one], axis=0))
            for one in zip(*truths, strict=True)
        ]
        right = advice.cheapest(mean).lever
        for verdict, tried, auroc in answers:
            said = "nothing" if verdict in ("fine", "harmless") else verdict
            yield {
                **facts, "images": size, "verdict": verdict, "right": right, "said_right": said == right,
                **{f"{one.lever}_{key}": round(float(getattr(one, key)), 4)
                   for one in mean for key in ("specificity", "recall", "auroc")},
                **{f"estimated_{lever}_{key}": round(float(getattr(tried[lever], key)), 4) if lever in tried else ""
                   for lever in advice.LEVERS for key in ("specificity", "recall", "auroc")},
                "pasted_auroc": round(auroc, 4),
            }  # fmt: skip


def answer(
    model: directory.DirectoryModel, case: Case, indices: range, number: int
) -> tuple[str, dict[str, advice.Estimate], float]:
    """The verdict on a batch, what was tried, and the estimate of AUROC by pasted defects."""
    pairs = pairs_of(indices)
    owners = np.array([index - indices[0] for index, _ in pairs])
    today = advice.Today(case.normal.take(indices), case.copies.take([case.pasted[pair] for pair in pairs]), owners)
    scores = model.detector.predict(today.normal, model.scoring).scores
    outcome = drift.look(model.reference, scores, package.pooled(today.normal), 1, 0.0, seed=number)
    tried = advice.estimates(model.detector, model.scoring, model.threshold, today, 0, recalibration.TARGET_FPR)
    verdict = "fine"
    if outcome.changed:
        lever = advice.judged(tried)
        verdict = "unclear" if lever is None else "harmless" if lever == "nothing" else lever
    return verdict, {one.lever: one for one in tried}, tried[0].auroc


def truth(
    model: directory.DirectoryModel, case: Case, indices: range, tried: dict[str, advice.Estimate]
) -> list[advice.Estimate]:
    """Figures of each lever, made of a whole batch, on the labelled test images.

    The thresholds are those that were tried: `adshift adapt` sets them by the same folds of the batch.
    """

    def refit(features: Features) -> Any:
        fresh = type(detector)(detector.settings)
        fresh.fit(features, seeding.generator(0, "refit"))
        return fresh

    detector, scoring, today = model.detector, model.scoring, case.normal.take(indices)
    figures = [figure(lever, detector, tried[lever].threshold, case, scoring) for lever in advice.LEVERS[:2]]
    makers: dict[advice.Lever, Callable[[Features], Any]] = {"adapt": detector.adapted, "refit": refit}
    for lever, make in makers.items():
        figures.append(figure(lever, make(today), tried[lever].threshold, case, scoring))
    return figures


def figure(lever: advice.Lever, detector: Any, threshold: float, case: Case, scoring: Any) -> advice.Estimate:
    good, bad = (detector.predict(part, scoring).scores for part in (case.good, case.defective))
    specificity, recall = 1 - decide(good, threshold).mean(), decide(bad, threshold).mean()
    return advice.Estimate(lever, threshold, float(specificity), float(recall), advice.auroc_of(good, bad))


def summary(rows: list[dict[str, Any]]) -> str:
    """The tables of docs/monitoring.md."""
    lines = ["| images | batches | false alarms where nothing drifted | change noticed | right advice under drift "
             "| right advice of those noticed | advice about as good as the best |",
             "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for size in BATCHES:
        part = [row for row in rows if row["images"] == size]
        still = [row for row in part if row["drift"] == "none"]
        moved = [row for row in part if row["drift"] != "none"]
        noticed = [row for row in moved if row["verdict"] != "fine"]
        cells = [size, len(part), share(still, lambda row: row["verdict"] != "fine"),
                 share(moved, lambda row: row["verdict"] != "fine"), share(moved, lambda row: row["said_right"]),
                 share(noticed, lambda row: row["said_right"]), share(moved, good_enough)]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    sizes = ", ".join(f"{agreement(rows, size):.2f} with {size}" for size in BATCHES)
    lines += [
        "",
        f"Rank correlation of the estimate of AUROC by pasted defects with the true AUROC, by images: {sizes}.",
    ]
    lines += ["", "By drift, over all sizes:", "", "| data | method | drift | right | advised |",
              "| --- | --- | --- | --- | --- |"]  # fmt: skip
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["dataset"], row["method"], row["drift"]].append(row)
    for (dataset, method, change), part in groups.items():
        counts = [Counter(row[key] for row in part).most_common() for key in ("right", "verdict")]
        cells = [", ".join(f"{kind} {count}" for kind, count in one) for one in counts]
        lines.append(f"| {dataset} | {method} | {change} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


def agreement(rows: list[dict[str, Any]], size: int) -> float:
    """Spearman's correlation of the estimated with the true AUROC of the model as it is, over the batches of a size."""
    pairs = [(float(row["pasted_auroc"]), float(row["nothing_auroc"])) for row in rows if row["images"] == size]
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def good_enough(row: dict[str, Any]) -> bool:
    """Whether the advised lever comes within MARGIN of the best one in both figures, be it the cheapest or not."""
    said = "nothing" if row["verdict"] in ("fine", "harmless") else row["verdict"]
    if said not in advice.LEVERS:
        return False
    figures = {
        lever: [float(row[f"{lever}_{key}"]) for key in ("specificity", "recall")]
        for lever in advice.LEVERS
        if row[f"{lever}_recall"] != ""
    }
    best = max(figures.values(), key=sum)
    return all(mine >= other - advice.MARGIN - 1e-9 for mine, other in zip(figures[said], best, strict=True))


def share(rows: list[dict[str, Any]], true: Callable[[dict[str, Any]], bool]) -> str:
    hits = sum(map(true, rows))
    return f"{hits} of {len(rows)}" + (f" ({100 * hits / len(rows):.0f} %)" if rows else "")


if __name__ == "__main__":
    main()
