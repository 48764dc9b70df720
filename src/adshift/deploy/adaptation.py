"""The verb `adshift adapt`: a new model directory from an old one and normal images of today, with its evidence.

Today's images change the model (`Detector.adapted`) and set its threshold: the conformal one for the target rate, or
the lowest rate that so few images can promise. A model would score images that it was adapted with too low, so each of
five folds is scored by the model adapted with the other four (`evaluation.levers.adapt.cross_fitted`).
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adshift.data.image_files import images
from adshift.data.images import sha256
from adshift.deploy import graph_file, package
from adshift.deploy.recalibration import TARGET_FPR, effect
from adshift.detectors.records import Reference
from adshift.detectors.registry import REGISTRY, UNIFIED, detector_class, exists
from adshift.errors import AdshiftError, warn
from adshift.evaluation import threshold_file
from adshift.evaluation.conformal import Rate, attainable
from adshift.evaluation.levers.adapt import cross_fitted
from adshift.evaluation.threshold_file import Effect, Record
from adshift.runtime.checksums import MODEL_REMEDY
from adshift.runtime.files import output, read_json, write_json

EVIDENCE = "adaptation.json"
KEPT = ("score.json", package.ALIGNMENT)
CARD = "card.json"
MEASURED = ("metrics", "false_alarms")  # in a card


@dataclass(frozen=True)
class Adaptation:
    """What an adaptation did.

    Attributes:
        folder: the new model directory.
        images: of today.
        rows: rows that a memory bank gained; None for a method without one.
        before: the old model with its threshold on today's images.
        after: the adapted model with the new threshold on today's images, each fold of them scored by a model that
            has not seen it.
        threshold: the new one.
        expected_fpr: false-positive rate of further images like today's, with its interval.
        earlier: the old and the new model, each with its threshold, on normal images from before; None if none given.
    """

    folder: Path
    images: int
    rows: int | None
    before: Effect
    after: Effect
    threshold: float
    expected_fpr: Rate
    earlier: tuple[Effect, Effect] | None

    def lines(self) -> list[str]:
        """For the command line."""
        rate = self.expected_fpr
        lines = [
            f"{self.images} normal images of today" + (f", {self.rows} new rows" if self.rows is not None else ""),
            f"false alarms on them: {self.before.fp} before; {self.after.fp} after, by models that had not seen them",
            f"expected of images to come: {rate.value:.3f} (95 % interval {rate.low:.3f} to {rate.high:.3f})",
        ]
        if self.earlier:
            old, new = self.earlier
            lines.append(f"false alarms on {old.fp + old.tn} images from before: {old.fp} before, {new.fp} after")
        return [*lines, f"written: {self.folder}"]


def adapt(
    folder: Path, normal: str, out: Path | None = None, *, rows: int | None = None,
    target_fpr: float = TARGET_FPR, earlier: str | None = None,
) -> Adaptation:  # fmt: skip
    """Write a new model directory, adapted with normal images of today; the old one is left as it is.

    Args:
        folder: model directory of one class.
        normal: file, folder or pattern of normal images of today, at least two.
        out: of the new directory; `FOLDER-adapted` beside the old one if not given. It must not exist.
        rows: largest number of rows that a memory bank gains; None for as many as it needs.
        target_fpr: false-positive rate wanted, in (0, 1).
        earlier: normal images from before the drift, on which the cost is measured.

    Raises:
        AdshiftError: no model directory, a method or model that cannot be adapted, too few images, or `out` exists.
    """
    out = out or folder.with_name(f"{folder.name}-adapted")
    about = _refuse(folder, out, rows, target_fpr)
    today = images([normal])
    if len(today) < 2:
        raise AdshiftError(f"{normal}: {len(today)} images", "give at least two: one part tests what the others adapt")
    before = images([earlier]) if earlier else []

    from adshift.deploy.directory import DirectoryModel

    model = DirectoryModel(folder)
    maps = model.features(today)
    old_scores = model.detector.predict(maps, model.scoring).scores
    adapted = model.detector.adapted(maps, rows)
    unseen = cross_fitted(model.detector, lambda part: model.detector.adapted(part, rows), maps, model.scoring)
    threshold, expected = attainable(unseen.scores, target_fpr)
    if expected.value > target_fpr:
        warn(f"{len(today)} images promise a false-positive rate of {expected.value:.3g}, not {target_fpr:g}")
    none = np.empty(0)
    cost = None
    if before:
        known = model.features(before)
        scores = [one.predict(known, model.scoring).scores for one in (model.detector, adapted)]
        cost = effect(model.threshold, scores[0], none), effect(threshold, scores[1], none)
    gained = len(adapted.bank) - len(model.detector.bank) if hasattr(adapted, "bank") else None
    result = Adaptation(
        out, len(today), gained, effect(model.threshold, old_scores, none), effect(threshold, unseen.scores, none),
        threshold, expected, cost,
    )  # fmt: skip
    order = [maps.names.index(name) for name in unseen.names]
    reference = Reference(unseen.scores, package.pooled(maps.take(order)))
    with output(out) as new:
        adapted.save(new)
        for file in KEPT:
            if (folder / file).is_file():
                shutil.copyfile(folder / file, new / file)
        threshold_record = _record(result, model.map_ratio).to_dict()
        write_json(new / "threshold.json", threshold_record, checksum=True)
        if (folder / CARD).is_file():
            write_json(new / CARD, _card(folder / CARD, threshold_record), checksum=True)
        reference.save(new / "reference.npz")
        write_json(new / EVIDENCE, _evidence(about, result, today, rows, target_fpr), checksum=True)
        (new / "README.md").write_text(_text(about, result), encoding="utf-8")
    return result


def _record(result: Adaptation, map_ratio: float) -> Record:
    """The new threshold."""
    return Record(
        threshold=result.threshold, rule="conformal", normal=result.images, anomalous=0,
        expected_fpr=result.expected_fpr, map_ratio=map_ratio,
    )  # fmt: skip


def _card(old: Path, threshold_record: dict[str, Any]) -> dict[str, Any]:
    """The old model's card without its metrics, which the new model does not have."""
    card = {key: value for key, value in read_json(old, MODEL_REMEDY).items() if key not in MEASURED}
    return {**card, "thresholds": {"threshold.json": threshold_record}, "adapted": EVIDENCE}


def _refuse(folder: Path, out: Path, rows: int | None, target_fpr: float) -> dict[str, Any]:
    """The description of the old model; refuse what cannot be adapted, before the model is loaded."""
    if not 0 < target_fpr < 1:
        raise AdshiftError(f"target false-positive rate {target_fpr}: not between 0 and 1", "give one such as 0.05")
    if rows is not None and rows < 1:
        raise AdshiftError(f"--rows {rows}", "at least 1")
    if graph_file.is_file(folder):
        raise AdshiftError(
            f"{folder}: an exported file cannot be adapted", "adapt its model directory, and export that"
        )
    if not folder.is_dir():
        raise AdshiftError(f"{folder}: no model directory", "pull the model first")
    if out.exists():
        raise AdshiftError(f"{out} is there already, and no model is overwritten", "give another --out")
    about: dict[str, Any] = read_json(folder / "model.json")
    method = about.get("method") if isinstance(about, dict) else None
    if not isinstance(method, str) or not exists(method):
        raise AdshiftError(f"{folder / 'model.json'}: no model of adshift", "name a model directory (docs/models.md)")
    if not detector_class(method).adaptable:
        adaptable = ", ".join(name for name in REGISTRY if detector_class(name).adaptable)
        raise AdshiftError(f"a model of {method} cannot be adapted", f"fit it again; {adaptable} can be")
    if threshold_file.read(folder / "threshold.json").classes is not None:
        message = f"{folder}: one model for all classes ({UNIFIED}), and images of one class would set its threshold"
        raise AdshiftError(message, "adapt the model of a class")
    return about


def _evidence(
    about: dict[str, Any], result: Adaptation, today: list[Path], rows: int | None, target_fpr: float
) -> dict[str, Any]:
    return {
        "model": {"method": about["method"], "sha256": about["sha256"]},
        "images": [{"name": path.name, "sha256": sha256(path)} for path in today],
        "rows": {"most": rows, "gained": result.rows},
        "target_fpr": target_fpr,
        "expected_fpr": result.expected_fpr.model_dump(),
        "today": {"before": result.before.model_dump(), "after": result.after.model_dump()},
        "earlier": [one.model_dump() for one in result.earlier] if result.earlier else None,
    }


def _text(about: dict[str, Any], result: Adaptation) -> str:
    lines = "\n".join(f"- {line}" for line in result.lines()[:-1])
    return (
        f"# {about['method']}, adapted\n\nFrom the model with sha256 {about['sha256']}.\n\n{lines}\n\n"
        f"`{EVIDENCE}` lists the images. Use: `adshift predict THIS_DIRECTORY IMAGES`.\n"
    )
