"""What the study's weight 1 - softmax(-d)[nearest] does to patches of defects and to all others (clean test images).

Run from the repository's root after `dvc repro`, for a Euclidean model:

    python docs/results/weights.py weights.csv

A patch is a defect's if at least half of its cell is marked. Per class: the median distance to the nearest row of the
bank and the median weight of both kinds of patches, with distances as printed and with squared ones, and how well
patches are told apart (AUROC of patches) by the distance alone, by the weighted and by the weighted squared distance.

Notation: Q patches, K = 9 neighbours.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from adshift.data import manifest
from adshift.data.geometry import fit
from adshift.data.images import load_mask
from adshift.detectors.components.memory_bank import softmax_weight
from adshift.detectors.patchcore import PatchCore
from adshift.evaluation.metrics.ranking import Ranked
from adshift.features.settings import Features
from adshift.features.stored_features import stored
from adshift.project import params
from adshift.project.paths import model_path

K = 9  # the default of patchcore.neighbours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    settings = params.load("dataset.name", "classes", "features")
    rows = [row(settings.dataset.name, name, settings.features) for name in settings.classes]
    with out.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def row(dataset: str, name: str, look: Features) -> dict[str, str | float]:
    """The figures of one class."""
    model = PatchCore.load(model_path(dataset, "patchcore", name, "clean"))
    features = stored(dataset, [name], "clean", "test")
    items = {item.name: item for item in manifest.read(manifest.path_of(dataset, name, "clean"))}
    found, marked = [], []
    for image in range(len(features)):
        patches = model.patches(features[image : image + 1])[0]
        side, channels = patches.shape[0], patches.shape[2]
        found.append(model.neighbors.search(patches.reshape(-1, channels), K)[0])
        mask = fit(load_mask(items[features.names[image]]), look.resize, look.crop)
        marked.append(mask.reshape(side, len(mask) // side, side, -1).mean((1, 3)).ravel() >= 0.5)
    distances, defect = np.concatenate(found), np.concatenate(marked)
    nearest, weight, squared = distances[:, 0], softmax_weight(distances), softmax_weight(distances**2)
    figures: dict[str, str | float] = {"dataset": dataset, "class": name}
    for kind, chosen in (("normal", ~defect), ("defect", defect)):
        figures[f"{kind}_distance"] = float(np.median(nearest[chosen]))
        figures[f"{kind}_weight"] = float(np.median(weight[chosen]))
        figures[f"{kind}_weight_squared"] = float(np.median(squared[chosen]))
    for kind, scores in (("none", nearest), ("softmax", nearest * weight), ("softmax_squared", nearest**2 * squared)):
        figures[f"auroc_{kind}"] = Ranked.of(scores, defect).auroc() or 0.0
    return {key: value if isinstance(value, str) else round(value, 4) for key, value in figures.items()}


if __name__ == "__main__":
    main()
