"""Shared by the scripts beside this: feature maps apart from the pipeline's, networks by argument, tables of rows."""

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np

from adshift.data import datasets
from adshift.data.geometry import fit
from adshift.data.images import load_mask
from adshift.features import extract
from adshift.features.backbones import Backbone
from adshift.features.settings import Features as Settings
from adshift.features.store import Features
from adshift.project import params
from adshift.runtime import seeding


def embedded(
    dataset: str, root: str, name: str, train: int, test: int, folder: Path
) -> tuple[Features, Features, np.ndarray]:
    """Features of training images, features of test images, and which of these are defective.

    `train` images at most are drawn from train/good, and `test` images at most of each kind, normal and defective.
    `folder` keeps the feature maps: a second call reads them.
    """
    items = datasets.build(dataset, root, [name], folder / "images")[name]
    generator = seeding.generator(42, "embedded", dataset, name)
    chosen = []
    for part, anomalous, most in (("train", False, train), ("test", False, test), ("test", True, test)):
        found = [item for item in items if (item.part, item.anomalous) == (part, anomalous)]
        chosen += [found[place] for place in sorted(generator.permutation(len(found))[:most])]
    settings = params.load("features").features.model_copy(update={"images": True})  # stfpm sees them
    stored = folder / f"{dataset}-{name}-{train}-{test}"
    if not stored.exists():
        extract.embed(chosen, Backbone(settings), stored, what=f"embedding {name}")
    features = Features.open(stored)
    fitting = sum(item.part == "train" for item in chosen)
    return features[:fitting], features[fitting:], np.array([item.anomalous for item in chosen[fitting:]])


def masks(dataset: str, root: str, name: str, features: Features, folder: Path) -> np.ndarray:
    """Defective pixels of these images as the network sees them: (N, S, S) bool."""
    items = {item.name: item for item in datasets.build(dataset, root, [name], folder / "images")[name]}
    settings = params.load("features").features
    return np.stack([fit(load_mask(items[image]), settings.resize, settings.crop) for image in features.names])


def arguments(description: str | None) -> argparse.Namespace:
    """What the scripts are told on the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--root", required=True)
    parser.add_argument("--name", required=True, help="class")
    parser.add_argument("--features", type=Path, help="folder that keeps the feature maps")
    return parser.parse_args()


def network_arguments(parser: argparse.ArgumentParser) -> None:
    """A network that a script is told: its weights, and what these were trained with."""
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--weights", help="a file")
    parser.add_argument("--mean", type=float, help="of all channels, and --std; by default ImageNet's")
    parser.add_argument("--std", type=float)
    parser.add_argument("--pad-type")


def network(settings: Any, args: argparse.Namespace, **changed: Any) -> Settings:
    """The section `features` of params.yaml with the network of `network_arguments` and what is `changed`."""
    values = {"backbone": args.backbone, "weights": args.weights, "layers": None, "fit": "squeeze", "tiles": None,
              "images": False, "options": {"pad_type": args.pad_type} if args.pad_type else {}}  # fmt: skip
    if args.mean is not None:
        values |= {"mean": (args.mean,) * 3, "std": (args.std,) * 3}
    return Settings.within({**dict(settings.features), **values, **changed})


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a CSV, and print it."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(*row.values(), flush=True)


def write(path: Path, table: list[dict[str, Any]]) -> None:
    """The rows as CSV, and beside it as a Markdown table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    lines = [list(table[0]), ["---"] * len(table[0]), *(list(row.values()) for row in table)]
    text = "\n".join("| " + " | ".join(str(value) for value in line) + " |" for line in lines)
    path.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
