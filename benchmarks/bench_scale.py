"""How time and memory of PatchCore's fit and scoring grow with the number of patches, and features larger than memory.

The features are those of real images, repeated with a jitter of a tenth of each channel's spread, on disk in float16 as
the pipeline stores them. The coreset has a fixed number of picks: with a fixed share both numbers would grow, and what
a bank may hold is set by how long a search may take, not by how many images there are. Every run has a process of its
own, and its memory is what it needs beyond its imports, without pages of files, which the system takes back at will.

    scale            fit at the largest size; `coreset` and `fit_patchcore` compare with a peer
    scale.score      scoring of as many images with that model
    scale.limited    fit of features of a ResNet-50's width, refused more memory than half of what they take on disk
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import (
    HERE,
    Entry,
    allow,
    alone,
    at_most,
    backbone,
    embedded,
    entry,
    measure,
    patchcore,
    pictures,
    status,
)

SIZES = (100_000, 300_000, 1_000_000, 3_000_000)
PICKS = 10_000  # about as many rows as a bank of 5 % of 300 images
PLOT = HERE.parent / "docs" / "images" / "scale.png"
# What a power law is fitted to. Scoring adds its maps to a warm process, and of few patches nothing that could be seen.
FITTED = {"fit": ("seconds", "memory"), "score": ("seconds",)}
# Normal training images and classes. Real-IAD is taken as 150,000 images, so as an upper bound.
SETS = {"MVTec AD": (3_629, 15), "VisA": (8_659, 12), "Real-IAD": (150_000, 30)}


def run(
    sizes: Sequence[int] = SIZES, picks: int = PICKS, limited: int = 1000, real: int = 64,
    plot: Path | None = PLOT,
) -> dict[str, Entry]:  # fmt: skip
    """Entries.

    Args:
        sizes: patches, at least two sizes.
        picks: of the coreset.
        limited: images of `scale.limited`.
        real: images that the features come from.
        plot: where the chart goes; None for no chart.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = pictures(folder, real)
        features = embedded(found.normal, backbone("lite0", folder), folder / "features")
        rows = []
        for size in sizes:
            target = folder / f"{size}"
            images = enlarge(features, size, target)
            fitted, scored = (alone(f"bench_scale:{what}", str(target), picks) for what in ("fit", "score"))
            rows.append({"images": images, "patches": fitted["patches"], "fit": fitted, "score": scored})
            shutil.rmtree(target)
        wide = embedded(found.normal[:16], backbone("resnet50", folder), folder / "wide")
        entries = {"scale.limited": within_limits(wide, limited, picks, folder / "limited")}
    facts = {"of": f"{found.of} with jitter, EfficientNet-Lite0", "picks": picks,
             "sizes": [_plain(row) for row in rows]}  # fmt: skip
    powers = {what: {y: power(rows, what, y) for y in columns} for what, columns in FITTED.items()}
    largest = {"ours": _record(rows[-1]["fit"])}
    if plot:
        _draw(rows, powers, plot)
    return {
        "scale": entry(largest, exponents=powers["fit"], extrapolated=extrapolate(powers), **facts),
        "scale.score": entry({"ours": _record(rows[-1]["score"])}, exponents=powers["score"], **facts),
        **entries,
    }


def enlarge(features: Any, size: int, target: Path) -> int:
    """Store features of `size` patches made of real ones, the levels that PatchCore uses alone; returns the images."""
    from adshift.runtime.files import write_json

    levels = patchcore()[0].settings.layers
    layers = [features.spec["layers"][level - 1] for level in levels]
    images = max(2, round(size / np.prod(layers[0]["shape"][:2])))
    target.mkdir()
    generator = np.random.default_rng(0)
    for level, layer in zip(levels, layers, strict=True):
        maps = features.maps(level)
        spread = maps.std(axis=(0, 1, 2)) / 10
        shape = (images, *maps.shape[1:])
        array = np.lib.format.open_memmap(target / layer["file"], "w+", np.dtype(np.float16), shape)
        for image in range(images):
            array[image] = maps[image % len(maps)] + generator.standard_normal(maps.shape[1:], np.float32) * spread
        array.flush()
        del array
    names = [f"train/good/{image:06}" for image in range(images)]
    spec = {key: value for key, value in features.spec.items() if key != "images"}  # which are not enlarged
    write_json(target / "features.json", {**spec, "layers": layers, "names": names})
    return images


def fit(folder: str, picks: int, allowed: int | None = None) -> dict[str, Any]:
    """For `alone`: fit a model of the features in `folder`, and store it there."""
    from adshift.detectors.patchcore import warm_up

    features, detector = _opened(folder, picks)
    warm_up()
    if allowed is not None:
        allow(allowed)
    start = status("RssAnon")
    took = measure({"fit": lambda: detector.fit(features, np.random.default_rng(0))}, 1)
    detector.save(Path(folder) / "model")
    return {"seconds": took["fit"]["seconds"], "start": start, "patches": detector.total, "rows": len(detector.bank)}


def score(folder: str, picks: int) -> dict[str, Any]:
    """For `alone`: score the features in `folder` with the model there."""
    from adshift.detectors.patchcore import PatchCore

    features, _ = _opened(folder, picks)
    detector, how = PatchCore.load(Path(folder) / "model"), patchcore()[1]
    detector.predict(features[:2], how)
    start = status("RssAnon")
    took = measure({"score": lambda: detector.predict(features, how)}, 1)
    return {"seconds": took["score"]["seconds"], "start": start}


def _opened(folder: str, picks: int) -> tuple[Any, Any]:
    """The features stored there, and PatchCore that is to pick so many of their patches."""
    from adshift.features.store import Features

    features = Features.open(Path(folder))
    layers = tuple(range(1, len(features.spec["layers"]) + 1))
    each = np.prod(patchcore(layers=layers)[0].patches(features[:1]).shape[:3])
    return features, patchcore(layers=layers, coreset=min(picks / (each * len(features)), 1.0), index="exact")[0]


def within_limits(features: Any, images: int, picks: int, folder: Path) -> Entry:
    """Fit of wide features in a process that is refused more data than half of what they take on disk."""
    height, width = features.spec["layers"][patchcore()[0].settings.layers[0] - 1]["shape"][:2]
    enlarge(features, images * height * width, folder)
    stored = sum(file.stat().st_size for file in folder.glob("*.npy"))
    try:
        child = alone("bench_scale:fit", str(folder), picks, stored // 2)
    except RuntimeError as error:
        return entry({"ours": {"seconds": None, "memory": None, "all": []}}, at_most("runs that failed", 1, 0),
                     note=str(error), features_bytes=stored)  # fmt: skip
    memory = child["anonymous"] - child["start"]
    return entry(
        {"ours": _record(child)}, at_most("memory / features on disk", memory / stored, 0.5),
        of=f"{images} images as a ResNet-50 of random weights has them", features_bytes=stored,
        patches=child["patches"], picks=child["rows"], note="RLIMIT_DATA: half of the features beyond the imports",
    )  # fmt: skip


def power(rows: Sequence[dict[str, Any]], what: str, of: str) -> tuple[float, float]:
    """(a, b) of the least-squares fit of log y = log a + b log patches."""
    x = np.log([row["patches"] for row in rows])
    y = np.log([max(_record(row[what])[of], 1e-9) for row in rows])
    slope, offset = np.polyfit(x, y, 1)
    return float(np.exp(offset)), float(slope)


def extrapolate(powers: dict[str, Any]) -> dict[str, Any]:
    """{data set: seconds and bytes} for one model a class, classes of equal size, and for one of all images."""

    def at(what: str, of: str, images: float) -> float:
        factor, slope = powers[what][of]
        return factor * (784 * images) ** slope

    return {
        name: {
            "images": images,
            "classes": classes,
            "fit_seconds": classes * at("fit", "seconds", images / classes),
            "fit_memory": at("fit", "memory", images / classes),
            "unified_fit_seconds": at("fit", "seconds", images),
            "unified_fit_memory": at("fit", "memory", images),
            "score_seconds": at("score", "seconds", images),
        }
        for name, (images, classes) in SETS.items()
    }


def _record(child: dict[str, Any]) -> dict[str, Any]:
    """What a child found, as `measure` would have it."""
    return {"seconds": child["seconds"], "all": [child["seconds"]], "memory": child["anonymous"] - child["start"]}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    kept = {what: {y: _record(row[what])[y] for y in ("seconds", "memory")} for what in ("fit", "score")}
    return {"images": row["images"], "patches": row["patches"], **kept}


def _draw(rows: Sequence[dict[str, Any]], powers: dict[str, Any], path: Path) -> None:
    """Seconds and memory against patches, both axes logarithmic, and the exponents."""
    from adshift.report.plots import png

    values = [
        {"patches": row["patches"], "stage": what, "seconds": record["seconds"], "MB": record["memory"] / 1e6}
        for row in rows
        for what in powers
        for record in [_record(row[what])]
    ]
    log = {"type": "quantitative", "scale": {"type": "log", "nice": False}}
    panels = [
        {
            "title": ", ".join(f"{what} ~ patches^{of[y][1]:.2f}" for what, of in powers.items() if y in of),
            "width": 300,
            "height": 240,
            "mark": {"type": "line", "point": True},
            "encoding": {
                "x": {**log, "field": "patches", "axis": {"format": "~s"}},
                "y": {**log, "field": field, "title": title},
                "color": {"field": "stage", "type": "nominal", "title": None},
            },
        }
        for y, field, title in (("seconds", "seconds", "seconds"), ("memory", "MB", "memory, MB"))
    ]
    schema = "https://vega.github.io/schema/vega-lite/v6.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png({"$schema": schema, "data": {"values": values}, "hconcat": panels}))
