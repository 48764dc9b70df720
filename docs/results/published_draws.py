"""Our methods and anomalib's own on the same images and weights, several draws: image AUROC and best F1 on test images.

Needs no run before it, only a class of MVTec AD (official split, no drift). Rows are appended as they are made:

    python docs/results/published_draws.py docs/results/published/screw.csv --root DATA/mvtec_screw --name screw \
        --weights WEIGHTS/resnet18_imagenet_layers1-3.safetensors --draws 5 padim anomalib_padim patchcore

The others, with the same folders: `padim --first 5 --draws 10`, `patchcore --draws 5 --coreset 0.01`,
`anomalib_patchcore --draws 2 --coreset 0.01`, `cfa --draws 5 --epochs 5`, `cfa anomalib_cfa --draws 1`, `stfpm --draws
5 --epochs 10`, `anomalib_stfpm --draws 3 --epochs 10`, `stfpm --draws 2 --epochs 10 --learning-rate 3.2`.
`reduced_resnet18.csv` has hazelnut and transistor of `DATA/mvtec_reduced`: `padim anomalib_padim patchcore
anomalib_patchcore --draws 5`, `stfpm anomalib_stfpm --epochs 10 --draws 2`, `cfa anomalib_cfa --epochs 5 --draws 2`.
`screw_mobilenetv2.csv`: `--backbone mobilenetv2_100 --mean 0.5 --std 0.5`, with `--pad-type same`, as the weights were
trained, and without, since anomalib cannot be told. Its rows of `anomalib_padim` without `mean` were normalized with
ImageNet's, before a model of anomalib took `mean` and `std`.

Settings of our methods are those of params.yaml, beside `--coreset` and, for trained ones, `--epochs` and
`--learning-rate`; anomalib's are its defaults beside the same. The methods with `anomalib_` in front run through the
bridge (docs/anomalib.md). Intervals (95 %) are over test images of the first draw; draws differ in the seed alone.
"""

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from embedded import append, network, network_arguments

from adshift.data import datasets
from adshift.detectors import registry
from adshift.evaluation.intervals import Resamples
from adshift.evaluation.metrics.ranking import Ranked
from adshift.evaluation.metrics.resampled import ResampledRanks
from adshift.features import extract
from adshift.features.backbones import Backbone, usual_layers
from adshift.features.settings import Features as Settings
from adshift.features.store import Features
from adshift.project import params
from adshift.runtime import seeding

OURS = ("padim", "padim_diagonal", "padim_streaming", "patchcore", "patchcore_pq", "cfa", "stfpm")
THEIRS = {"padim": "Padim", "patchcore": "Patchcore", "cfa": "Cfa", "stfpm": "Stfpm"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("methods", nargs="+", choices=[*OURS, *(f"anomalib_{name}" for name in THEIRS)])
    parser.add_argument("--root", required=True)
    parser.add_argument("--name", required=True, help="class")
    network_arguments(parser)
    parser.add_argument("--resize", type=int, default=256)
    parser.add_argument("--crop", type=int, default=224, help="0 for none")
    parser.add_argument("--tiles", type=int, help="side of the tiles of a large input")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first draw")
    parser.add_argument("--coreset", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, help="of ours; by default that of params.yaml")
    args = parser.parse_args()
    settings = params.load_all()
    with tempfile.TemporaryDirectory() as folder:
        features = embedded(settings, args, Path(folder))
        train = features.select([name for name in features.names if name.startswith("train/")])
        test = features.select([name for name in features.names if name.startswith("test/")])
        for method in args.methods:
            for draw in range(args.first, args.first + args.draws):
                append(args.out, measured(settings, args, method, draw, train, test))


def embedded(settings: Any, args: argparse.Namespace, folder: Path) -> Features:
    """Feature maps and inputs of every image of the class.

    Another process makes them: one with a network keeps its freed memory, and anomalib's coreset then takes 20 GB.
    """
    fit = "tile" if args.tiles else "squeeze"
    look = network(settings, args, resize=args.resize, crop=args.crop or None, fit=fit, tiles=args.tiles, images=True)
    start = time.perf_counter()
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(embed, look, args.root, args.name, folder).result()
    args.embed_seconds = round(time.perf_counter() - start, 1)
    return Features.open(folder / "features")


def embed(look: Settings, root: str, name: str, folder: Path) -> None:
    """Write the features of a class."""
    items = datasets.build("mvtec", root, [name], folder)[name]
    extract.embed(items, Backbone(look), folder / "features", what=name)


def section(settings: Any, args: argparse.Namespace, method: str) -> dict[str, Any]:
    """The method's section of params.yaml."""
    if method in OURS:
        changed = {"coreset": args.coreset, "epochs": args.epochs}
        if args.learning_rate:
            changed["learning_rate"] = args.learning_rate
        own = dict(getattr(settings, method))
        return own | {key: value for key, value in changed.items() if key in own}
    name = method.removeprefix("anomalib_")
    base: dict[str, Any] = {"model": THEIRS[name], "weights": args.weights, "epochs": None, "batch": 16}
    if args.mean is not None:
        base |= {"mean": (args.mean,) * 3, "std": (args.std,) * 3}
    if name in ("padim", "patchcore"):
        named = usual_layers(args.backbone)
        layers = [named[level - 1] for level in getattr(settings, name).layers]
        base |= {"backbone": args.backbone, "layers": layers}
        return base | ({"coreset_sampling_ratio": args.coreset, "num_neighbors": settings.patchcore.neighbours}
                       if name == "patchcore" else {"n_features": settings.padim.n_features})  # fmt: skip
    return base | {"epochs": args.epochs, "backbone": args.backbone, "batch": getattr(settings, name).batch}


def measured(
    settings: Any, args: argparse.Namespace, method: str, draw: int, train: Features, test: Features
) -> dict[str, Any]:
    """A row of the table."""
    halves, kinds = registry.halves(method, section(settings, args, method)), registry.schemas(method)
    detector = registry.detector_class(method)(kinds["fit"].of(halves["fit"]))
    registry.warm_up(method)
    start = time.perf_counter()
    detector.fit(train, seeding.generator(settings.seed, "published", args.name, str(draw)))
    fitted = time.perf_counter()
    scores = detector.predict(test, kinds["score"].of(halves["score"])).scores
    scored = time.perf_counter()
    bad = np.array([not name.startswith("test/good/") for name in test.names])
    ranked = Ranked.of(scores, bad)
    resamples = Resamples.draw(int((~bad).sum()), int(bad.sum()), 1000, settings.seed, args.name)
    low, high = np.percentile(
        ResampledRanks.of(scores[~bad], scores[bad], resamples.normal, resamples.defective).auroc(), [2.5, 97.5]
    )
    trained = "epochs" if "epochs" in halves["fit"] and halves["fit"]["epochs"] else ""
    return {
        "class": args.name, "backbone": args.backbone, "method": method, "draw": draw,
        "coreset": args.coreset if "patchcore" in method else "", "epochs": args.epochs if trained else "",
        "learning_rate": halves["fit"].get("learning_rate", "") if method in OURS else "",
        "image_auroc": round(float(ranked.auroc() or 0), 4), "low": round(float(low), 4), "high": round(float(high), 4),
        "best_f1_on_test": round(float(ranked.best_f1()[0] or 0), 4), "fit_seconds": round(fitted - start, 1),
        "score_seconds": round(scored - fitted, 1), "resize": args.resize, "crop": args.crop or "",
        "tiles": args.tiles or "", "embed_seconds": args.embed_seconds, "pad_type": args.pad_type or "",
        "mean": args.mean or "",
    }  # fmt: skip


if __name__ == "__main__":
    main()
