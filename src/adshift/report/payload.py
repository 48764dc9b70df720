"""The input of the page's script: test scores, pictures and anomaly maps of a run, as plain values for JSON.

A map has the size that the detector made, one byte per value; the page enlarges, smooths and colours it as `pictures`
does, with the same matrices. So every test image can have the maps of all methods at a few kB each, and only those that
are opened are drawn.

A page of a large set would take hundreds of megabytes: above `MOST_ROWS` test images in all, those of each class and
domain are drawn at random, whichever are pictured with them, and `sampled` says so. Tables keep all images.

Notation: N test images of a class and domain, P of them pictured; h x w anomaly map, S side of the network's input.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from adshift.data.images import load_image, load_mask
from adshift.data.manifest import GOOD, anomalous, labelled
from adshift.data.shapes import sides
from adshift.errors import AdshiftError
from adshift.evaluation.metrics import registry
from adshift.evaluation.metrics.counts import Rate, decide
from adshift.evaluation.metrics.metric import Metric
from adshift.evaluation.scenarios import Scenario
from adshift.report import pictures
from adshift.report.labels import label
from adshift.report.pictures import Album, Shown
from adshift.report.results import Results
from adshift.runtime import seeding

MOST_ROWS, MOST_PICTURES = 8_000, 300  # test images, and pictures, of all classes and domains
SIDE = 256  # longer side of a stored picture, in pixels, at most
# Metrics that the page's script computes at any threshold.
RATES = {metric.name: metric.measure for metric in registry.METRICS if isinstance(metric.measure, Rate)}


def build(results: Results, album: Album, shown: Shown, count: int) -> dict[str, Any]:
    """Everything that the script shows.

    Args:
        results: everything measured.
        album: source of pictures and maps.
        shown: images that are pictured in any case.
        count: images to picture, per class and domain.

    Returns:
        titles: {class: what its folder is called}.
        methods, classes, scenarios: what there is, as in params.yaml; `test` is the domain of a scenario's images.
        rates: metrics that follow from counts; `part` and `whole` are the weights of the counts in a `counts.Rate`;
            the value is null if a kind of image in `needs` (normal, defects) is missing.
        sampled: test images that the page shows and how many there are; empty if it shows all.
        images: {class: {domain: {names (N; `part//key` without a label), pictured (P rows of names), pictures and masks
            (P data URIs, "" for no mask), aspects (P, width to height of the file), shown (rows of names)}}}.
        cells: {method: {scenario: {class: {scores (N), threshold, sigma, scale, intervals, maps}}}}; sigma is the
            standard deviation of the scores, scale is `pictures.Scale`, maps a key of `maps`.
        maps: {key: {height, width, size (height and width of the enlarged map), rows and columns (keys of `matrices`),
            low and step (P), values}}; values are base64 of (P, h, w) uint8, and a map is low + step * values.
        matrices: {key: base64 of a (S, side) float32, little-endian}.
        palette: base64 of (256, 3) uint8.
    """
    domains = list(dict.fromkeys(scenario.test for scenario in results.scenarios))
    drawn, total = _every_row(results, album, domains, shown)
    kept = sum(map(len, drawn.values()))
    if kept < total:
        count = min(count, max(1, MOST_PICTURES // len(drawn)))
    images = {
        name: {
            domain: _images(results, album, name, domain, drawn[name, domain], shown[name, domain], count)
            for domain in domains
        }
        for name in results.classes
    }
    maps, matrices = _every_map(results, album, drawn, images)
    return {
        "methods": [{"key": method, "label": label(method)} for method in results.methods],
        "classes": list(results.classes),
        "titles": results.titles,
        "scenarios": [
            {"key": one.name, "label": one.label, "test": one.test, "role": one.role, "caption": one.caption}
            for one in results.scenarios
        ],
        "rates": [
            {"key": name, "part": rate.part._asdict(), "whole": rate.whole._asdict(), **_words(registry.BY_NAME[name])}
            for name, rate in RATES.items()
        ],
        "sampled": [kept, total] if kept < total else [],
        "images": images,
        "cells": {method: _cells(results, album, method, drawn) for method in results.methods},
        "maps": maps,
        "matrices": matrices,
        "palette": _base64(pictures.colours(album.palette)),
        "blend": {"palette": album.palette, "alpha": pictures.ALPHA, "scaled": album.scaled},
        "outlines": {"truth": pictures.TRUTH, "found": pictures.FOUND},
    }  # fmt: skip


def _every_map(
    results: Results, album: Album, drawn: Mapping[tuple[str, str], np.ndarray], images: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Maps of all pictured images, and the matrices that enlarge them."""
    maps: dict[str, Any] = {}
    matrices: dict[str, str] = {}
    for method in results.methods:
        for name in results.classes:
            for scenario in {maps_key(method, one, name): one for one in results.scenarios}.values():
                predictions = album.predictions(method, name, scenario, scenario.test)
                rows = drawn[name, scenario.test][images[name][scenario.test]["pictured"]]
                maps[maps_key(method, scenario, name)], used = _maps(predictions, rows)
                matrices.update(used)
    return maps, matrices


def _every_row(
    results: Results, album: Album, domains: Sequence[str], shown: Shown
) -> tuple[dict[tuple[str, str], np.ndarray], int]:
    """{class and domain: rows of its test images that the page shows}, and how many images there are in all."""
    there = {(name, domain): _names(results, album, name, domain) for name in results.classes for domain in domains}
    total = sum(map(len, there.values()))
    if total <= MOST_ROWS:
        return {part: np.arange(len(names)) for part, names in there.items()}, total
    most = MOST_ROWS // len(there)
    return {part: _drawn(names, shown[part], most, part[0]) for part, names in there.items()}, total


def _names(results: Results, album: Album, name: str, domain: str) -> tuple[str, ...]:
    """Names of the test images of a class and domain, the same for every method and scenario."""
    scenario = next(one for one in results.scenarios if one.test == domain)
    names: tuple[str, ...] = album.predictions(results.methods[0], name, scenario, domain).names
    return names


def _drawn(names: Sequence[str], shown: Sequence[str], most: int, name: str) -> np.ndarray:
    """Rows of a class's test images that the page shows, ascending: `most` drawn at random, and those in `shown`."""
    if len(names) <= most:
        return np.arange(len(names))
    rows = seeding.generator(0, "page", name).choice(len(names), max(most, 1), replace=False)
    index = {image: row for row, image in enumerate(names)}
    return np.unique([*rows, *(index[image] for image in shown)])


def _words(metric: Metric) -> dict[str, Any]:
    return {"label": metric.short_label, "needs": [kind for kind in metric.needs if kind != "threshold"]}


def maps_key(method: str, scenario: Scenario, name: str) -> str:
    """The key of a scenario's maps; scenarios with the same model and images share their maps."""
    return f"{method}/{scenario.pixels}/{name}"


def errors(scores: np.ndarray, labels: np.ndarray, threshold: float) -> np.ndarray:
    """Distance of each image from the threshold, positive on the wrong side: (N,) float64.

    The unit is the standard deviation of the scores, since classes and methods score on different scales. An image
    without a label counts as normal, so that an alarm on it is shown.
    """
    scores = np.asarray(scores, np.float64)
    beyond = np.where(labels, threshold - scores, scores - threshold)
    return beyond / sigma(scores)


def sigma(scores: np.ndarray) -> float:
    """Standard deviation of scores, 1 if all are equal."""
    return float(np.asarray(scores, np.float64).std()) or 1.0


def pictured(names: list[str], worst: np.ndarray, shown: Iterable[str], count: int) -> list[int]:
    """Rows of the images to picture, ascending: all of `shown`, then the images with the largest errors.

    Args:
        names: N images.
        worst: (N,) largest error of each image.
        shown: images among them.
        count: how many to picture; more if more are shown.
    """
    first = [names.index(image) for image in shown]
    rest = [int(row) for row in np.argsort(-worst, kind="stable") if row not in first]
    return sorted(first + rest[: max(count - len(first), 0)])


def _images(
    results: Results, album: Album, name: str, domain: str, drawn: np.ndarray, shown: list[str], count: int
) -> dict[str, Any]:
    every, errors_of_all = _worst(results, album, name, domain)
    names, worst = [every[row] for row in drawn], errors_of_all[drawn]
    rows = pictured(names, worst, shown, count)
    # Read here, not through the album's cache: they may be many.
    items = [album.item(name, domain, names[row]) for row in rows]
    return {
        "names": names,
        "pictured": rows,
        "pictures": [_picture(album.fitted(load_image(item))) for item in items],
        "masks": [
            _picture(album.fitted(load_mask(item))) if item.defect != GOOD and item.mask_known else "" for item in items
        ],
        "aspects": [album.aspect(name, domain, names[row]) for row in rows],
        "shown": [names.index(image) for image in shown],
    }


def _worst(results: Results, album: Album, name: str, domain: str) -> tuple[list[str], np.ndarray]:
    """Names of the test images of a domain, and each one's largest error over methods and scenarios."""
    tested = [
        (album.predictions(method, name, scenario, domain), album.thresholds[method, name, scenario.name])
        for method in results.methods
        for scenario in results.scenarios
        if scenario.test == domain
    ]
    names = list(tested[0][0].names)
    labels = anomalous(names)
    return names, np.max([errors(one.scores, labels, threshold) for one, threshold in tested], axis=0)


def _cells(results: Results, album: Album, method: str, drawn: Mapping[tuple[str, str], np.ndarray]) -> dict[str, Any]:
    return {
        one.name: {name: _cell(results, album, method, one, name, drawn[name, one.test]) for name in results.classes}
        for one in results.scenarios
    }


def _cell(
    results: Results, album: Album, method: str, scenario: Scenario, name: str, drawn: np.ndarray
) -> dict[str, Any]:
    predictions = album.predictions(method, name, scenario, scenario.test)
    scale = album.scale(method, name, scenario)
    threshold = album.thresholds[method, name, scenario.name]
    counts = results.counts(method, scenario.name, name)
    if int(decide(predictions.scores[labelled(predictions.names)], threshold).sum()) != counts.tp + counts.fp:
        message = f"scores of {method} on {name} ({scenario.name}) are others than those that were evaluated"
        raise AdshiftError(message, "run `dvc repro evaluate report`")
    return {
        "scores": [float(score) for score in predictions.scores[drawn]],
        "threshold": threshold,
        "sigma": sigma(predictions.scores),
        "scale": [scale.low, scale.threshold, scale.high],
        "intervals": {
            metric: [low, high]
            for metric in RATES
            for _, low, high in [results.estimate(method, scenario.name, name, metric)]
        },
        "maps": maps_key(method, scenario, name),
    }


def _maps(predictions: Any, rows: np.ndarray) -> tuple[dict[str, Any], dict[str, str]]:
    """Maps of the pictured images, and the matrices that enlarge them."""
    maps = predictions.maps[rows].astype(np.float32)
    low = maps.min(axis=(1, 2))
    step = (maps.max(axis=(1, 2)) - low) / 255
    values = np.rint((maps - low[:, None, None]) / np.where(step > 0, step, 1)[:, None, None]).astype(np.uint8)
    full = sides(predictions.size)
    keys = [f"{side}-{pixels}-{predictions.smoothing:g}" for side, pixels in zip(maps.shape[1:], full, strict=True)]
    matrices = {
        key: _base64(matrix.astype("<f4")) for key, matrix in zip(keys, pictures.enlargements(predictions), strict=True)
    }
    stored = {
        "height": maps.shape[1], "width": maps.shape[2], "size": full, "rows": keys[0], "columns": keys[1],
        "low": [float(value) for value in low], "step": [float(value) for value in step], "values": _base64(values),
    }  # fmt: skip
    return stored, matrices


def _picture(picture: np.ndarray) -> str:
    return pictures.thumbnail(picture, min(max(picture.shape[:2]), SIDE))


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
