"""Both methods beside anomalib's own models: same weights, same images, no split, no shift, no threshold.

Run from the repository's root after `dvc repro`, which stores the feature maps that our side reads:

    python docs/results/yardsticks.py yardsticks.csv --coresets 0.1 0.05
    python docs/results/yardsticks.py yardsticks.csv --coresets 0.02 --max-train 100 --draws 3

Trains on `--max-train` images of train/good drawn at random (default: all of them) and tests on every other image of
the class. Data set, classes and settings are those of params.yaml. anomalib sees the first draw alone: it is slow.

Notation: N images, S side of the network's input in pixels.
"""

import argparse
import csv
from collections.abc import Iterator
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np

from adshift.data import manifest
from adshift.data.geometry import fit
from adshift.data.images import load_image, load_mask
from adshift.data.manifest import Item
from adshift.detectors import padim, patchcore
from adshift.evaluation.metrics.pixel import pixel_metrics
from adshift.evaluation.metrics.ranking import Ranked
from adshift.features.backbones import Backbone
from adshift.features.store import Features
from adshift.project import params
from adshift.project.paths import features_path
from adshift.runtime import seeding

KEYS = ("seed", "dataset.name", "classes", "features", "patchcore", "padim")
REWEIGHT = ("softmax", "original", "none")
BATCH = 16
Found = tuple[str, str, float | None, str, np.ndarray, np.ndarray]  # code, method, coreset, reweight, scores, maps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--coresets", type=float, nargs="+", required=True)
    parser.add_argument("--max-train", type=int)
    parser.add_argument("--draws", type=int, default=1)
    args = parser.parse_args()
    settings = params.load(*KEYS)
    rows = []
    for name, draw in product(settings.classes, range(args.draws)):
        items = manifest.read(manifest.path_of(settings.dataset.name, name, "clean"))
        generator = seeding.generator(settings.seed, "yardsticks", name, str(draw))
        train, test = parts(items, args.max_train, generator)
        bad = np.array([item.anomalous for item in test])
        size = settings.features
        masks = np.stack([fit(load_mask(item), size.resize, size.crop) for item in test])
        facts = {"dataset": settings.dataset.name, "class": name, "draw": draw, "train": len(train),
                 "test_normal": int((~bad).sum()), "test_defective": int(bad.sum())}  # fmt: skip
        theirs = anomalibs(settings, train, test, args.coresets, generator) if draw == 0 else ()
        found = chain(ours(settings, name, train, test, args.coresets, generator), theirs)
        for code, method, coreset, reweight, scores, maps in found:
            pixels = pixel_metrics(maps, masks, 0.3)
            rows.append({**facts, "code": code, "method": method, "coreset": coreset, "reweight": reweight,
                         "image_auroc": round(Ranked.of(scores, bad).auroc() or 0, 4),
                         "pixel_auroc": round(pixels.auroc, 4), "pro": round(pixels.pro, 4)})  # fmt: skip
            print(*rows[-1].values(), flush=True)
    with args.out.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def parts(items: list[Item], most: int | None, generator: np.random.Generator) -> tuple[list[Item], list[Item]]:
    """Training images, at most so many, and all others."""
    good = [item for item in items if item.part == "train"]
    train = [good[place] for place in sorted(generator.permutation(len(good))[:most])]
    chosen = {item.name for item in train}
    return train, [item for item in items if item.name not in chosen]


def ours(
    settings: Any, name: str, train: list[Item], test: list[Item], coresets: list[float], generator: np.random.Generator
) -> Iterator[Found]:
    """PatchCore with every coreset ratio and reweighting, and PaDiM, from the stored feature maps."""
    stored = Features.open(features_path(settings.dataset.name, name, "clean"))
    fitting, testing = (stored.select(item.name for item in part) for part in (train, test))
    section = dict(settings.patchcore)
    largest = patchcore.PatchCore(patchcore.Fit.within({**section, "coreset": max(coresets)}))
    largest.fit(fitting, generator)
    for ratio, reweight in product(coresets, REWEIGHT):
        how = patchcore.Score.within({**section, "reweight": reweight})
        found = largest.reduced(ratio).predict(testing, how)
        yield "adshift", "patchcore", ratio, reweight, found.scores, found.full_maps()
    gaussians = padim.Padim(padim.Fit.within(dict(settings.padim)))
    gaussians.fit(fitting, generator)
    found = gaussians.predict(testing, padim.Score.within(dict(settings.padim)))
    yield "adshift", "padim", None, "", found.scores, found.full_maps()


def anomalibs(
    settings: Any, train: list[Item], test: list[Item], coresets: list[float], generator: np.random.Generator
) -> Iterator[Found]:
    """anomalib's PatchcoreModel and PadimModel on the images themselves, the backbone's weights replaced by ours."""
    import torch
    from anomalib.models.components.sampling import k_center_greedy
    from anomalib.models.image.padim.torch_model import PadimModel
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    k_center_greedy.tqdm = lambda items, **_: items  # its progress bar knows no terminal
    torch.manual_seed(int(generator.integers(2**31)))
    backbone = Backbone(settings.features)

    def ready(model: Any) -> Any:
        model.feature_extractor.feature_extractor.load_state_dict(backbone.network.state_dict(), strict=False)
        model.train()
        model.feature_extractor.eval()
        for batch in batches(settings, train):
            model(batch)
        return model

    def found(model: Any) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            outputs = [model.eval()(batch) for batch in batches(settings, test)]
        return (torch.cat([output.pred_score.ravel() for output in outputs]).numpy(),
                torch.cat([output.anomaly_map[:, 0] for output in outputs]).numpy())  # fmt: skip

    def named(levels: tuple[int, ...]) -> list[str]:
        return [backbone.names[level - 1] for level in levels]

    for ratio in coresets:
        patchcore = ready(PatchcoreModel(named(settings.patchcore.layers), settings.features.backbone, False))
        patchcore.subsample_embedding(ratio)
        yield "anomalib", "patchcore", ratio, "original", *found(patchcore)
    padim = ready(
        PadimModel(
            settings.features.backbone, named(settings.padim.layers), False, n_features=settings.padim.n_features
        )
    )
    padim.fit()
    yield "anomalib", "padim", None, "", *found(padim)


def batches(settings: Any, items: list[Item]) -> Iterator[Any]:
    """Images as anomalib's models take them: (N, 3, S, S) float32, normalised."""
    import torch

    look = settings.features
    mean, std = np.array(look.mean, np.float32), np.array(look.std, np.float32)
    for start in range(0, len(items), BATCH):
        images = np.stack([fit(load_image(item), look.resize, look.crop) for item in items[start : start + BATCH]])
        yield torch.from_numpy(((images / np.float32(255) - mean) / std).transpose(0, 3, 1, 2).copy())


if __name__ == "__main__":
    main()
