"""The edge thesis' questions on a real part: diagonal covariances, quantized banks, defects in the training set.

    python docs/results/thesis.py docs/results/thesis/screw.csv --root DATA/mvtec_screw --name screw \
        --weights WEIGHTS/resnet18_imagenet_layers1-3.safetensors
    python docs/results/thesis.py docs/results/thesis/screw.csv --root DATA/mvtec_screw --name screw \
        --backbone mobilenetv2_100 --weights WEIGHTS/mobilenetv2_100_imagenet_keras_int8.safetensors \
        --mean 0.5 --std 0.5 --pad-type same
    python docs/results/thesis.py docs/results/thesis/screw.csv --show

The first two append rows as they are made, the third writes a table and a plot beside them. Images are 256 pixels cut
to 224, settings those of params.yaml, with 10 % of the patches in PatchCore's bank. One thread. Draws differ in the
seed: channels, projection, coreset, and which defects contaminate. Each part fits on train/good:

covariance     PaDiM and its diagonal, tested on all test images.
quantized      PatchCore, and PatchCore-PQ by bytes a row, K candidates and c refined ones, tested on all test images.
contamination  defects moved to the training set. All levels are tested on the images that none of them trains on.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from embedded import append, network, network_arguments

from adshift.data import contamination, datasets, splits
from adshift.detectors import registry
from adshift.evaluation.metrics.ranking import Ranked
from adshift.features import extract
from adshift.features.backbones import Backbone
from adshift.features.store import Features
from adshift.project import params
from adshift.runtime import provenance, seeding

DRAWS = 5
CORESET = 0.1
BYTES, SWEPT = (8, 16, 24, 48, 64), 24  # of a row's code; K and c vary at one length, and are the defaults at others
CANDIDATES, REFINED = (10, 50, 200), (1, 3, 9)
LEVELS = (0.0, 0.1, 0.15, 0.2)
CONTAMINATED = ("patchcore", "padim", "padim_diagonal")
COLUMNS = ("part", "class", "backbone", "method", "draw", "bytes", "K", "c", "contamination", "defective_images",
           "test_images", "image_auroc", "best_f1_on_test", "fit_seconds", "score_ms", "model_bytes")  # fmt: skip
PUBLISHED_TIMES = Path("reference/thesis_padim_training_time.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--show", action="store_true", help="write table and plot of the rows that are there")
    parser.add_argument("--root")
    parser.add_argument("--name", help="class")
    network_arguments(parser)
    args = parser.parse_args()
    if args.show:
        show(args.out)
        return
    if not (args.root and args.name and args.weights):
        parser.error("--root, --name and --weights are needed")
    os.environ["ADSHIFT_THREADS"] = "1"
    settings = params.load_all()
    look = network(settings, args, resize=256, crop=224)
    with tempfile.TemporaryDirectory() as folder:
        items = datasets.build("mvtec", args.root, [args.name], Path(folder))[args.name]
        extract.embed(items, Backbone(look), Path(folder) / "features", what=args.name)
        features = Features.open(Path(folder) / "features")
        base = {"class": args.name, "backbone": args.backbone}
        for part in (covariance, quantized, contaminated):
            for row in part(settings, args.name, items, features):
                append(args.out, {**dict.fromkeys(COLUMNS, ""), **base, **row})


def covariance(settings: Any, name: str, items: list[Any], features: Features) -> Iterator[dict[str, Any]]:
    """PaDiM against its diagonal, in turns, so that a busy moment of the machine meets both."""
    train, test, bad = halves(items, features, official(items, settings, name, 0, 0.0))
    for draw in range(DRAWS):
        for method in ("padim", "padim_diagonal"):
            detector, seconds = fitted(settings, name, method, draw, train, {})
            yield {"part": "covariance", "method": method, "draw": draw, "fit_seconds": seconds,
                   **judged(settings, method, detector, test, bad, {})}  # fmt: skip


def quantized(settings: Any, name: str, items: list[Any], features: Features) -> Iterator[dict[str, Any]]:
    """PatchCore against codes of its bank."""
    train, test, bad = halves(items, features, official(items, settings, name, 0, 0.0))
    for draw in range(DRAWS):
        base = {"part": "quantized", "draw": draw}
        exact, seconds = fitted(settings, name, "patchcore", draw, train, {"coreset": CORESET})
        yield {**base, "method": "patchcore", "fit_seconds": seconds,
               **judged(settings, "patchcore", exact, test, bad, {})}  # fmt: skip
        for size in BYTES:
            chosen = {"coreset": CORESET, "bytes": size}
            detector, seconds = fitted(settings, name, "patchcore_pq", draw, train, chosen)
            usual = (settings.patchcore_pq.candidates, settings.patchcore_pq.refined)
            for candidates, refined in [usual, *(product(CANDIDATES, REFINED) if size == SWEPT else ())]:
                changed = {"candidates": candidates, "refined": refined}
                yield {**base, "method": "patchcore_pq", "bytes": size, "K": candidates, "c": refined,
                       "fit_seconds": seconds,
                       **judged(settings, "patchcore_pq", detector, test, bad, changed)}  # fmt: skip


def contaminated(settings: Any, name: str, items: list[Any], features: Features) -> Iterator[dict[str, Any]]:
    """Each method on a training set that is clean, or partly defective."""
    for draw in range(DRAWS):
        most = official(items, settings, name, draw, max(LEVELS))
        for level in LEVELS:
            roles = official(items, settings, name, draw, level)
            share = contamination.measure([item for item in items if not item.anomalous or roles[item.name] == "train"],
                                          roles)  # fmt: skip
            train = features.select([image for image in features.names if roles[image] == "train"])
            _, test, bad = halves(items, features, most)
            for method in CONTAMINATED:
                changed = {"coreset": CORESET} if method == "patchcore" else {}
                detector, seconds = fitted(settings, name, method, draw, train, changed)
                yield {"part": "contamination", "method": method, "draw": draw, "contamination": level,
                       "defective_images": share.defective, "fit_seconds": seconds,
                       **judged(settings, method, detector, test, bad, {})}  # fmt: skip


def official(items: list[Any], settings: Any, name: str, draw: int, level: float) -> dict[str, str]:
    """{image: its role} under the official split with so many defects in the training set."""
    split = settings.split.model_copy(update={"protocol": "official", "contamination": level, "max_train": None})
    return splits.split(items, split, settings.seed + draw, name)


def halves(items: list[Any], features: Features, roles: dict[str, str]) -> tuple[Features, Features, np.ndarray]:
    """Features of training images, features of test images, and which of these are defective."""
    anomalous = {item.name: item.anomalous for item in items}
    test = [image for image in features.names if roles[image] == "test"]
    train = [image for image in features.names if roles[image] == "train"]
    return features.select(train), features.select(test), np.array([anomalous[image] for image in test])


def fitted(
    settings: Any, name: str, method: str, draw: int, train: Features, changed: dict[str, Any]
) -> tuple[Any, float]:
    """A detector, and the seconds of its fit."""
    section = {**dict(getattr(settings, method)), **changed}
    detector = registry.detector_class(method)(registry.schemas(method)["fit"].within(section))
    registry.warm_up(method)
    start = time.perf_counter()
    detector.fit(train, seeding.generator(settings.seed, "thesis", name, str(draw)))
    return detector, round(time.perf_counter() - start, 3)


def judged(
    settings: Any, method: str, detector: Any, test: Features, bad: np.ndarray, changed: dict[str, Any]
) -> dict[str, Any]:
    """What a detector makes of the test images, and what it costs."""
    scoring = registry.schemas(method)["score"].within({**dict(getattr(settings, method)), **changed})
    detector.predict(test[:2], scoring)
    start = time.perf_counter()
    scores = detector.predict(test, scoring).scores
    seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        detector.save(Path(folder) / "model")
        size = sum(file.stat().st_size for file in (Path(folder) / "model").iterdir())
    ranked = Ranked.of(scores, bad)
    return {
        "test_images": len(test),
        "image_auroc": round(float(ranked.auroc() or 0), 4),
        "best_f1_on_test": round(float(ranked.best_f1()[0] or 0), 4),
        "score_ms": round(1000 * seconds / len(test), 2),
        "model_bytes": size,
    }


def show(path: Path) -> None:
    """Write a page of tables and a plot beside the CSV."""
    import pandas as pd

    rows = pd.read_csv(path)
    lines = ["# The thesis' questions on a real part", ""]
    for part, by in (
        ("covariance", ["backbone", "method"]),
        ("quantized", ["backbone", "method", "bytes", "K", "c"]),
        ("contamination", ["backbone", "method", "contamination", "defective_images"]),
    ):
        some = rows[rows.part == part]
        lines += [f"## {part.capitalize()}", "", *table(some, by), ""]
        if part == "covariance":
            lines += [*savings(some, pd.read_csv(PUBLISHED_TIMES)), ""]
    lines += [
        f"Mean and standard deviation of {DRAWS} draws; times and bytes are medians. One thread.",
        "",
        f"![Image AUROC over bytes a row, over c, and over contamination]({path.stem}.svg)",
        "",
        f"Table written with {provenance.sentence(provenance.provenance())}.",
    ]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    plot(rows, path.with_suffix(".svg"))


def table(rows: Any, by: list[str]) -> list[str]:
    """Lines of Markdown, one row for each combination of `by`."""
    head = [*by, "image AUROC", "best F1 on test", "fit, s", "score, ms an image", "model, MB"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(by) + ["---:"] * 5) + " |"]
    for key, some in rows.groupby(by, sort=False, dropna=False):
        cells = [f"{value:g}".replace("nan", "") if isinstance(value, float) else str(value) for value in key]
        cells += [f"{some[name].mean():.3f} ± {some[name].std():.3f}" for name in ("image_auroc", "best_f1_on_test")]
        cells += [f"{some.fit_seconds.median():.2f}", f"{some.score_ms.median():.2f}"]
        cells += [f"{some.model_bytes.median() / 1e6:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def savings(rows: Any, published: Any) -> list[str]:
    """What the diagonal saves, beside the thesis' table 8.1."""
    lines = []
    for backbone, some in rows.groupby("backbone", sort=False):
        medians = some.groupby("method")[["fit_seconds", "score_ms", "model_bytes"]].median()
        saved = 100 * (1 - medians.loc["padim_diagonal"] / medians.loc["padim"])
        lines.append(
            f"- {backbone}: the diagonal saves {saved.fit_seconds:.1f} % of the fit, {saved.score_ms:.1f} % of scoring "
            f"and {saved.model_bytes:.1f} % of the model."
        )
    for row in published[published.category.isin(rows["class"])].itertuples():
        lines.append(f"- Table 8.1, {row.category}: {row.original_s} s and {row.diagonal_s} s to fit, "
                     f"{row.improvement_percent:.1f} % saved.")  # fmt: skip
    return lines


def plot(rows: Any, path: Path) -> None:
    """Image AUROC over bytes a row, over c by K, and over contamination by method."""
    import vl_convert

    def panels(some: Any, x: str, kind: str, color: str) -> dict[str, Any]:
        return {
            "data": {"values": json.loads(some.to_json(orient="records"))},
            "mark": {"type": "line", "point": True},
            "width": 240,
            "height": 160,
            "encoding": {
                "x": {"field": x, "type": kind},
                "y": {"field": "image_auroc", "aggregate": "mean", "type": "quantitative", "title": "image AUROC",
                      "scale": {"zero": False}},
                "color": {"field": color, "type": "nominal"},
                "row": {"field": "backbone", "type": "nominal"},
            },
        }  # fmt: skip

    quantized = rows[(rows.part == "quantized") & (rows.method == "patchcore_pq")].astype({"K": int, "c": int})
    swept = quantized[(quantized.bytes == SWEPT) & quantized.K.isin(CANDIDATES)]
    specification = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "resolve": {"scale": {"color": "independent"}},
        "hconcat": [
            panels(quantized[~quantized.K.isin(CANDIDATES)], "bytes", "quantitative", "method"),
            panels(swept, "c", "ordinal", "K"),
            panels(rows[rows.part == "contamination"], "contamination", "quantitative", "method"),
        ],
    }
    path.write_text(vl_convert.vegalite_to_svg(specification), encoding="utf-8")


if __name__ == "__main__":
    main()
