"""Complete model directories: the fitted model, and all that its use without the pipeline needs.

    model.json, model.safetensors   as fitted
    score.json                      settings of the scoring
    threshold.json                  the calibrated threshold (`threshold_record`)
    threshold-shift.json            of a clean model: recalibrated on the drifted domain, if there is one
    reference.npz                   validation normals: scores (V,), features (V, D) float32, D channels of all layers
    alignment.npz                   of the lever `align`: statistics of the training images (`features.alignment`)
    card.json, README.md            the model card

The JSON files carry a checksum, which `adshift` checks when it reads them; directories without checksums load too.

Nothing in a directory depends on the time, the machine or the git revision, so equal models have equal bytes. The card
holds hashes of the code that fitted the model; fetching a model by reference records the revision beside it
(`adshift.deploy.pull`).
"""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from adshift.data import split_file
from adshift.data.manifest import anomalous, class_names, labelled
from adshift.deploy import card
from adshift.detectors.records import Predictions, Reference
from adshift.detectors.registry import UNIFIED
from adshift.detectors.storage import REMEDY
from adshift.errors import AdshiftError
from adshift.evaluation.calibration import Threshold
from adshift.evaluation.scenarios import ABSOLUTE, BASELINE, POOLED, THRESHOLD_ONLY, Scenario, named, own
from adshift.evaluation.stored_predictions import predictions
from adshift.evaluation.threshold_file import Record
from adshift.features import duplicates
from adshift.features.alignment import FILE as ALIGNMENT
from adshift.features.alignment import Alignment
from adshift.features.store import Features, levels_of
from adshift.project.paths import (
    DOMAINS,
    evaluation_path,
    feature_maps_path,
    features_path,
    model_path,
    models_path,
    settings_path,
    split_path,
    thresholds_path,
)
from adshift.runtime.files import read_json, write_json

FITTED = ("model.json", "model.safetensors")
FILES = (
    *FITTED,
    "score.json",
    "threshold.json",
    "threshold-shift.json",
    "reference.npz",
    ALIGNMENT,
    "card.json",
    "README.md",
)

SAMPLED = 64  # largest number of images that set `map_ratio`


def models(classes: Sequence[str], scenarios: Sequence[Scenario]) -> list[tuple[str, Scenario]]:
    """Every model of a method: its class, or unified, and the scenario whose threshold it is packaged with."""
    variants = dict.fromkeys(one.variant for one in scenarios if not one.unified)
    models = [(name, own(variant, scenarios)) for name in classes for variant in variants]
    return models + ([(UNIFIED, POOLED)] if POOLED in scenarios and ABSOLUTE in scenarios else [])


def pooled(features: Features) -> np.ndarray:
    """Feature maps averaged over positions without padding, all layers concatenated: (N, D) float32."""
    levels = levels_of(features.spec)
    rows = []
    for index in range(len(features)):
        image = features[index : index + 1]
        means = []
        for level in levels:
            maps = image.maps(level)
            ((high, wide),) = image.shown(maps.shape[1:3])
            means.append(maps[0, :high, :wide].mean((0, 1), dtype=np.float64))
        rows.append(np.concatenate(means))
    return np.array(rows, dtype=np.float32)


def near_duplicates(dataset: str, classes: Sequence[str], drift: str) -> list[str]:
    """A warning for each class and domain that has near duplicates in different parts."""
    names, lines = class_names(dataset, classes), []
    for name in classes:
        # A synthetic image is no duplicate of its original.
        for domain in DOMAINS if drift == "recorded" else DOMAINS[:1]:
            roles = split_file.read(split_path(dataset, name), domain)
            pairs = duplicates.near_duplicates(Features.open(features_path(dataset, name, domain)), roles)
            lines.append(duplicates.warning(pairs, f"{names[name]}, {domain} domain"))
    return [line for line in lines if line]


def map_ratio(predictions: Sequence[Predictions]) -> float:
    """Peak of a smoothed anomaly map divided by the image's score: the median over images.

    1 if the score is the peak, as in PaDiM; less if the score is taken before the map is smoothed, as in PatchCore.
    """
    peaks, scores = [], []
    for one in predictions:
        every = slice(None, None, max(1, -(-len(one.names) // SAMPLED)))
        some = Predictions(one.names[every], one.scores[every], one.maps[every], one.size, one.smoothing)
        peaks.append(some.full_maps().max(axis=(1, 2)))
        scores.append(some.scores)
    peak, score = np.concatenate(peaks), np.concatenate(scores)
    usable = (score > 0) & (peak > 0)
    return float(np.median(peak[usable].astype(np.float64) / score[usable])) if usable.any() else 1.0


def threshold_record(threshold: Threshold, val: str, ratio: float) -> dict[str, Any]:
    """The content of a threshold file (`adshift.evaluation.threshold_file.Record`).

    Args:
        threshold: as calibrated.
        val: domain of the images that set it.
        ratio: of `map_ratio`.
    """
    return Record.of({
        "threshold": threshold.threshold,
        "rule": threshold.rule,
        "val": val,
        "on": threshold.on,
        "normal": threshold.tn + threshold.fp,
        "anomalous": threshold.tp + threshold.fn,
        "map_ratio": ratio,
        **({"reason": threshold.reason} if threshold.reason else {}),
        **({"expected_fpr": threshold.expected_fpr.model_dump()} if threshold.expected_fpr else {}),
    }).to_dict()  # fmt: skip


def write(folder: Path, method: str, settings: Any) -> None:
    """Write the model directories of a method into `folder`.

    Args:
        folder: in which CLASS/DOMAIN are made.
        method: whose models are fitted, calibrated and evaluated.
        settings: `seed`, `dataset.name`, `classes`, `split`, `shift.kind`, `calibrate` and `graph.scenarios` of
            params.yaml.

    Raises:
        AdshiftError: an input is missing or damaged.
    """
    dataset, classes = settings.dataset.name, settings.classes
    shown = class_names(dataset, classes)
    chosen = read_json(thresholds_path(dataset, method))
    thresholds = {
        name: {key: Threshold.from_dict(value) for key, value in chosen[name].items()} for name in classes
    }  # fmt: skip
    evaluation = evaluation_path(dataset)
    image, pixel = (read_json(evaluation / level / f"{method}.json") for level in ("image", "pixel"))
    score = read_json(settings_path(method, "score"))
    scenarios = named(settings.graph.scenarios)
    for model, scenario in models(classes, scenarios):
        variant = scenario.variant
        target, source = folder / model / variant, model_path(dataset, method, model, variant)
        target.mkdir(parents=True)
        _fitted(source, models_path(dataset, method) / model / variant, target)
        if scenario.lever == "align":
            Alignment.load(source / ALIGNMENT).save(target / ALIGNMENT)
        write_json(target / "score.json", score, checksum=True)
        names = classes if model == UNIFIED else (model,)
        val = {name: predictions("val", dataset, method, scenario, name) for name in names}
        drifted = partial(predictions, "val", dataset, method, THRESHOLD_ONLY, names[0])
        records = _thresholds(scenario, val, thresholds, drifted)
        for file, record in records.items():
            write_json(target / file, record, checksum=True)
        _reference(dataset, scenario, val).save(target / "reference.npz")
        about = card.card(settings, method, model, variant, read_json(target / "model.json"), score)
        about["thresholds"] = records
        about["metrics"] = card.metrics(model, variant, names, image["classes"], pixel, scenarios)
        if normal := image.get("normal"):
            about["false_alarms"] = card.false_alarms(model, variant, names, normal, scenarios)
        write_json(target / "card.json", about, checksum=True)
        (target / "README.md").write_text(card.text(about, shown.get(model, "all classes")), encoding="utf-8")


def _fitted(source: Path, old: Path, target: Path) -> None:
    """Hard-link the fitted model to `target`, from the packaged model `old` if its files are the same.

    DVC recognizes a file of the same path, inode and time, and neither hashes nor copies it again. Every file is first
    compared with the hash in the fitted model.json: DVC would record a damaged file as sound.

    Args:
        source: the model as fitted.
        old: the packaged model; need not exist.
        target: an existing folder.

    Raises:
        AdshiftError: the fitted model is damaged.
    """
    description, weights = FITTED
    expected = {description: _sha256(source / description), weights: read_json(source / description, REMEDY)["sha256"]}
    for file, sha256_of_it in expected.items():
        folder = next((folder for folder in (old, source) if _sha256(folder / file) == sha256_of_it), None)
        if folder is None:
            raise AdshiftError(f"{source / file}: damaged, its content is not what model.json says", REMEDY)
        try:
            os.link((folder / file).resolve(), target / file)  # DVC may have made it a symbolic link to its cache
        except OSError:  # across file systems, or without hard links
            shutil.copy2(folder / file, target / file)


def _sha256(file: Path) -> str | None:
    """Hash of a file of any size; None if it cannot be read."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None


def _thresholds(
    scenario: Scenario, val: Mapping[str, Predictions], thresholds: Mapping[str, Mapping[str, Threshold]], drifted: Any
) -> dict[str, dict[str, Any]]:
    """{file: content} of the threshold files.

    Args:
        scenario: `own` of the model.
        val: {class: predictions of its validation images}.
        thresholds: {class: {scenario: threshold}}.
        drifted: called for the predictions of a clean model on validation images under drift.
    """
    ratio = map_ratio(list(val.values()))
    if scenario.unified:
        any_class = next(iter(val))
        by_class = {name: threshold_record(thresholds[name][POOLED.name], scenario.val, ratio) for name in val}
        absolute = threshold_record(thresholds[any_class][ABSOLUTE.name], scenario.val, ratio)
        return {"threshold.json": Record.of({**absolute, "classes": by_class}).to_dict()}
    [name] = val
    records = {"threshold.json": threshold_record(thresholds[name][scenario.name], scenario.val, ratio)}
    if scenario is BASELINE and (adapted := thresholds[name].get(THRESHOLD_ONLY.name)):
        records["threshold-shift.json"] = threshold_record(adapted, THRESHOLD_ONLY.val, map_ratio([drifted()]))
    return records


def _reference(dataset: str, scenario: Scenario, val: Mapping[str, Predictions]) -> Reference:
    """The normal images that set the threshold, without drifted copies."""
    scores, features = [], []
    for name, scored in val.items():
        stored = Features.open(feature_maps_path(scenario.lever, dataset, name, scenario.val))
        normal = labelled(scored.names) & ~anomalous(scored.names)
        here = set(stored.names)
        rows = [row for row in np.flatnonzero(normal) if scenario.lever != "harden" or scored.names[row] in here]
        scores.append(scored.scores[rows])
        features.append(pooled(stored.select(scored.names[row] for row in rows)))
    return Reference(np.concatenate(scores), np.concatenate(features))
