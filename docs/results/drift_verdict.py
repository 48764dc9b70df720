"""How often `adshift drift` says the right thing, on shifted and on unshifted batches of 10, 30 and 100 images.

Run from the repository's root, with folders of finished runs (`dvc repro`, the models and features there):

    python docs/results/drift_verdict.py docs/results/drift_verdict.csv . ../recorded

A trial draws V normal images as the reference, as many as the model's own, and a batch of N others, all without
replacement and none of them trained on: repeating images, or one reference for all trials, would count one accident
often. Images are the run's validation, test and unused ones; of the sample, whose test images are too few, FRESH more a
class are made by its own recipe, shifted by the run's own shift, embedded and scored by the run's models. Defects in a
batch are test images of the same domain. Nothing about the rule was chosen here.

What is right: `fine` if nothing moved. Under shift: `recalibrate` if the study's new threshold alone reaches F1 and
specificity of the refit's 95 % intervals on the test images, else `refit`. That forgives a threshold that is as bad as
the refit's, so there is a second answer, by ranking: `refit` if it raises AUROC beyond the paired 95 % interval. Rows
of the CSV: one a run, method, class, domain, N and number of defects. The summary goes to docs/monitoring.md, between
its markers.
"""

import argparse
import contextlib
import csv
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adshift.data import manifest, split_file
from adshift.data.datasets import sample
from adshift.data.images import sha256
from adshift.data.shift import synthetic
from adshift.deploy import drift
from adshift.detectors import registry
from adshift.detectors.records import Predictions, Reference
from adshift.evaluation import intervals
from adshift.evaluation.pairs import pair
from adshift.features import extract
from adshift.features.backbones import Backbone
from adshift.features.store import Features
from adshift.project import params
from adshift.project.paths import DOMAINS, features_path, model_path, scores_path, split_path
from adshift.runtime import seeding
from adshift.runtime.files import read_json

FRESH = 150
SIZES = (10, 30, 100)
SHARES = (0.0, 0.1, 0.2)  # of defects; 0.1 is what `adshift drift` allows for
TRIALS = 100
VERDICTS = ("fine", "recalibrate", "refit")
PAGE = Path("docs/monitoring.md")
OPEN, CLOSE = "<!-- drift_verdict -->", "<!-- /drift_verdict -->"


@dataclass(frozen=True)
class Pool:
    """Images of a domain as a clean model sees them: their names, raw scores (M,) and pooled features (M, D)."""

    names: tuple[str, ...]
    scores: np.ndarray
    features: np.ndarray

    def __add__(self, other: "Pool") -> "Pool":
        both = [np.concatenate(pair) for pair in ((self.scores, other.scores), (self.features, other.features))]
        return Pool(self.names + other.names, *both)

    def take(self, where: np.ndarray) -> "Pool":
        return Pool(tuple(np.array(self.names)[where]), self.scores[where], self.features[where])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    args = parser.parse_args()
    out, page = args.out.resolve(), PAGE.resolve()
    rows: list[dict[str, Any]] = []
    for run in args.runs:
        with contextlib.chdir(run):
            rows += measure()
    with out.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    before, rest = page.read_text(encoding="utf-8").split(OPEN)
    page.write_text(before + OPEN + "\n" + summary(rows) + CLOSE + rest.split(CLOSE)[1], encoding="utf-8")


def measure() -> Iterator[dict[str, Any]]:
    """Rows of the run in the current folder."""
    settings = params.load("seed", "dataset.name", "classes", "methods", "features", "shift")
    dataset = settings.dataset.name
    for name in settings.classes:
        with tempfile.TemporaryDirectory() as folder:
            fresh = made(name, settings, Path(folder)) if dataset == "sample" else {}
            for method in settings.methods:
                pools = {domain: pool(dataset, method, name, domain, fresh.get(domain)) for domain in DOMAINS}
                roles = split_file.read(split_path(dataset, name), "clean")
                kept = int((~manifest.anomalous(split_file.images_of(roles, "val"))).sum())
                facts: dict[str, Any] = {"dataset": dataset, "shift": settings.shift.kind, "method": method}
                facts |= {"class": name, "reference": kept, **scenario_figures(dataset, method, name)}
                for row in trials(pools, kept, settings.seed, (dataset, method, name), facts["right_if_shifted"]):
                    yield {**facts, **row}
                    print(*facts.values(), *row.values(), flush=True)


def made(name: str, settings: Any, folder: Path) -> dict[str, Features]:
    """Feature maps of FRESH more normal images of the sample set, in both domains."""
    items = []
    for number in range(sample.TEST_GOOD, sample.TEST_GOOD + FRESH):
        pixels, _ = sample.render(name, "test", manifest.GOOD, f"{number:03}")
        path = folder / f"{number:03}.png"
        Image.fromarray(pixels).save(path)
        place = f"test/{manifest.GOOD}/{number:03}"
        height, width = pixels.shape[:2]
        items.append(manifest.Item(place, "test", manifest.GOOD, str(path), "", sha256(path), "", width, height))
    moved = synthetic.shift_class(items, settings.shift, settings.seed, name, folder / "moved", folder / "moved")
    backbone, found = Backbone(settings.features), {}
    for domain, images in (("clean", items), ("shift", moved)):
        extract.embed(images, backbone, folder / domain, what=f"embedding {name}, {domain}")
        found[domain] = Features.open(folder / domain)
    return found


def pool(dataset: str, method: str, name: str, domain: str, fresh: Features | None) -> Pool:
    """Every image of a domain that trained no model, as the clean model sees it, with `fresh` ones beside them."""
    parts = []
    features = Features.open(features_path(dataset, name, domain))
    for part in ("val", "test"):
        found = Predictions.load(scores_path(part, dataset, method, name, pair("clean", domain), name))
        parts.append(Pool(found.names, found.scores, drift.pooled(features.select(found.names))))
    unused = split_file.names_of(split_file.read(split_path(dataset, name), domain), "unused")
    more = [features.select(unused)] if unused else []
    more += [fresh] if fresh is not None else []
    if more:
        detector = registry.detector_class(method).load(model_path(dataset, method, name, "clean"))
        how = registry.settings(method, "score")
        for images in more:
            parts.append(Pool(images.names, detector.predict(images, how).scores, drift.pooled(images)))
    return sum(parts[1:], parts[0])


def trials(
    pools: dict[str, Pool], kept: int, seed: int, names: tuple[str, ...], right_if_shifted: str
) -> Iterator[dict[str, Any]]:
    """One row a domain, size of the batch and number of defects in it."""
    normal = {domain: one.take(~manifest.anomalous(one.names)) for domain, one in pools.items()}
    defective = {domain: one.take(manifest.anomalous(one.names)) for domain, one in pools.items()}
    for domain, size, share in product(DOMAINS, SIZES, SHARES):
        defects = round(share * size)
        generator = seeding.generator(seed, "drift_verdict", *names, domain, str(size), str(defects))
        found = []
        for trial in range(TRIALS):
            known = drawn(normal["clean"], kept, generator)
            batch = drawn(normal[domain], size - defects, generator, without=known.names)
            batch += drawn(defective[domain], defects, generator)
            found.append(drift.look(Reference(known.scores, known.features), batch.scores, batch.features,
                                    seed=trial))  # fmt: skip
        said = Counter(one.verdict for one in found)
        right = "fine" if domain == "clean" else right_if_shifted
        yield {
            "domain": domain, "images": size, "defects": defects, "trials": TRIALS,
            **{verdict: said[verdict] for verdict in VERDICTS}, "right": right, "said_right": said[right],
            **{f"median_{name}": round(float(np.median([getattr(one, name) for one in found])), 3)
               for name in ("scores_moved", "spread", "outside")},
        }  # fmt: skip


def drawn(images: Pool, count: int, generator: np.random.Generator, without: tuple[str, ...] = ()) -> Pool:
    """Some of the images at random, none of them of a name in `without`."""
    places = np.flatnonzero(~np.isin(images.names, without))
    if count > len(places):
        raise SystemExit(f"error: a batch of {count} needs more than the {len(places)} images that are there")
    return images.take(generator.permutation(places)[:count])


def scenario_figures(dataset: str, method: str, name: str) -> dict[str, Any]:
    """What the study's scenarios say of the shift, and which verdict that makes right."""
    folder = Path("data/evaluation") / dataset
    figures = read_json(folder / "image" / f"{method}.json")["classes"][name]
    drawn_again = intervals.load(folder / "bootstrap" / f"{method}.npz")
    refitted, kept = (drawn_again[name, f"shift_{how}"] for how in ("full_adaptation", "threshold_only"))
    low, gain = (dict(zip(intervals.METRICS, intervals.interval(values)[0], strict=True))
                 for values in (refitted, refitted - kept))  # fmt: skip
    only, refit = figures["shift_threshold_only"], figures["shift_full_adaptation"]
    found = {"auroc": figures["clean"]["auroc"], "auroc_shift": only["auroc"], "auroc_refit": refit["auroc"]}
    for metric in ("f1", "specificity"):
        found |= {f"{metric}_new_threshold": only[metric], f"{metric}_refit": refit[metric]}
        found |= {f"{metric}_refit_low": low[metric]}
    enough = all(only[metric] >= low[metric] for metric in ("f1", "specificity"))
    rounded = {key: round(float(value), 3) for key, value in found.items()}
    ranks = "refit" if gain["auroc"] > 0 else "recalibrate"
    return {**rounded, "right_by_ranking": ranks, "right_if_shifted": "recalibrate" if enough else "refit"}


def summary(rows: list[dict[str, Any]]) -> str:
    """The tables of docs/monitoring.md."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        share = round(100 * row["defects"] / row["images"])
        groups[row["dataset"], row["shift"], row["domain"], row["images"], share].append(row)
    lines = ["| data | images | defects | unshifted: false alarms | shifted: noticed | of these, kind right "
             "| by ranking |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for (dataset, kind, domain, size, share), clean in groups.items():
        if domain == "clean":
            moved = groups[dataset, kind, "shift", size, share]
            alarms, noticed = (sum(row["trials"] - row["fine"] for row in part) for part in (clean, moved))
            of = sum(row["trials"] for row in clean)
            kinds = [sum(row[row[key]] for row in moved) for key in ("right_if_shifted", "right_by_ranking")]
            shares = [f"{100 * alarms / of:.1f} %", f"{100 * noticed / of:.1f} %",
                      *(f"{100 * right / max(noticed, 1):.0f} %" for right in kinds)]  # fmt: skip
            cells = [f"{dataset}, {kind}", size, f"{share} %", *shares]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "The kind of a shift, by class: batches of 30 with 10 % defects, AUROC clean, shifted, refit.", "",
              "| data | method | class | AUROC | spread | outside | the study says | by ranking "
              "| said fine / recalibrate / refit |",
              "| --- | --- | --- | --- | ---: | ---: | --- | --- | --- |"]  # fmt: skip
    for row in rows:
        if (row["domain"], row["images"], row["defects"]) == ("shift", 30, 3):
            auroc = " ".join(f"{row[key]:.2f}" for key in ("auroc", "auroc_shift", "auroc_refit"))
            said = " / ".join(str(row[verdict]) for verdict in VERDICTS)
            cells = [f"{row['dataset']}, {row['shift']}", row["method"], row["class"], auroc,
                     row["median_spread"], row["median_outside"],
                     row["right_if_shifted"], row["right_by_ranking"], said]  # fmt: skip
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
