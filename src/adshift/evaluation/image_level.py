"""Image metrics of each scenario, and of the coreset ablation, from scores and thresholds."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from adshift.data.manifest import anomalous, labelled
from adshift.detectors.records import Predictions
from adshift.evaluation import intervals
from adshift.evaluation.calibration import Threshold, by_rate, calibrate
from adshift.evaluation.metrics.counts import decide
from adshift.evaluation.metrics.image import false_positive_rate, image_metrics
from adshift.evaluation.normals import normals
from adshift.evaluation.scenarios import POOLED, SCENARIOS, Scenario
from adshift.evaluation.settings import PASTED, Calibrate
from adshift.evaluation.stored_predictions import predictions
from adshift.project.paths import ablation_scores_path

COLUMNS = {
    "roc": ["class", "scenario", "fpr", "tpr"],
    "pr": ["class", "scenario", "recall", "precision"],
    "scores": ["class", "scenario", "name", "defect", "anomalous", "score", "threshold", "predicted"],
}  # of the curve tables


def image_level(
    dataset: str,
    method: str,
    classes: tuple[str, ...],
    chosen: Mapping[str, Mapping[str, Any]],
    seed: int,
    resamples: int,
    scenarios: Sequence[Scenario] = SCENARIOS,
) -> dict[str, Any]:
    """Image metrics of every class and scenario, the cross-class matrix, and the rows of the three curve tables.

    In the report, `on` is the part that set the thresholds, `val` or `test`; `set_by` is the number of normal images
    that set each; `normal` is the record of `normals`;
    `unlabelled` counts images without a label and the alarms among them, which enter no metric. `replicates` holds the
    bootstrap's replicates of the image metrics, {(class, scenario): (metrics, resamples)}.
    """
    records = {name: {key: Threshold.from_dict(value) for key, value in chosen[name].items()} for name in classes}
    [on] = {record.on for by_scenario in records.values() for record in by_scenario.values()}
    report: dict[str, Any] = {"on": on, "classes": {}, "set_by": {}, "normal": {}, "unlabelled": {}, "cross_class": {}}
    tables: dict[str, list[dict[str, Any]]] = {"roc": [], "pr": [], "scores": []}
    normal: dict[str, np.ndarray] = {}
    replicates: dict[tuple[str, str], np.ndarray] = {}
    for name in classes:
        for part in ("classes", "set_by", "normal", "unlabelled"):
            report[part][name] = {}
        for scenario in scenarios:
            stored, record = predictions("test", dataset, method, scenario, name), records[name][scenario.name]
            threshold, known = record.threshold, labelled(stored.names)
            scores, labels = _labelled(stored)
            good = [
                image for image, label in zip(np.array(stored.names)[known].tolist(), labels, strict=True) if not label
            ]
            report["classes"][name][scenario.name] = image_metrics(scores, labels, threshold).to_dict()
            report["set_by"][name][scenario.name] = record.fp + record.tn
            report["normal"][name][scenario.name] = normals(tuple(good), scores[~labels], record)
            report["unlabelled"][name][scenario.name] = unlabelled(stored, threshold)
            drawn = intervals.Resamples.draw(int((~labels).sum()), int(labels.sum()), resamples, seed, name)
            replicates[name, scenario.name] = intervals.replicates(scores, labels, threshold, drawn)
            if scenario is POOLED:
                normal[name] = scores[~labels]
            for table, rows in curves(stored, threshold).items():
                tables[table] += [{"class": name, "scenario": scenario.name, **row} for row in rows]
    for owner in normal:
        limit = records[owner][POOLED.name].threshold
        report["cross_class"][owner] = {other: false_positive_rate(normal[other], limit) for other in normal}
    return {"report": report, "tables": tables, "replicates": replicates}


def unlabelled(predictions: Predictions, threshold: float) -> dict[str, Any]:
    """Images without a label: {images, alarms, scores: [name, score] of each, the highest first}."""
    rows = np.flatnonzero(~labelled(predictions.names))
    ordered = sorted(rows, key=lambda row: (-float(predictions.scores[row]), predictions.names[row]))
    return {
        "images": len(rows),
        "alarms": int(decide(predictions.scores[rows], threshold).sum()),
        "scores": [[predictions.names[row], float(predictions.scores[row])] for row in ordered],
    }


def curves(predictions: Predictions, threshold: float) -> dict[str, list[dict[str, Any]]]:
    """Rows of the ROC, precision-recall and score tables of one set of predictions."""
    from adshift.evaluation.metrics.ranking import pr_points, roc_points

    labels, known, ranked = anomalous(predictions.names), labelled(predictions.names), _labelled(predictions)
    scores = zip(
        predictions.names, known, labels, predictions.scores, decide(predictions.scores, threshold), strict=True
    )
    return {
        "roc": [{"fpr": x, "tpr": y} for x, y in zip(*roc_points(*ranked), strict=True)],
        "pr": [{"recall": x, "precision": y} for x, y in zip(*pr_points(*ranked), strict=True)],
        "scores": [
            {"name": name, "defect": name.split("/")[1], "anomalous": int(label) if is_known else "",
             "score": float(score), "threshold": threshold, "predicted": int(predicted)}
            for name, is_known, label, score, predicted in scores
        ],
    }  # fmt: skip


def ablation(
    dataset: str,
    classes: Iterable[str],
    ratios: Iterable[float],
    settings: Calibrate,
    on: Literal["val", "test"],
) -> dict[str, Any]:
    """{class: {ratio: metrics}} of the coreset ablation; each ratio's validation scores set its threshold.

    Nothing is pasted for the ablation: with the rule `pasted`, normal images alone set its thresholds.
    """
    from adshift.runtime.files import read_json

    result: dict[str, Any] = {}
    for name in classes:
        folder = ablation_scores_path(dataset, name)
        rows = read_json(folder / "rows.json")
        result[name] = {}
        for ratio in ratios:
            val, test = (Predictions.load(folder / f"{part}-{ratio}.npz") for part in ("val", "test"))
            (scores, labels), tested = _labelled(val), _labelled(test)
            if settings.rule == PASTED:
                limit = by_rate(scores, labels, settings, on, "").threshold
            else:
                limit = calibrate(scores, labels, settings, on, f"{folder}: validation scores").threshold
            metrics = image_metrics(*tested, limit).to_dict()
            result[name][str(ratio)] = {**metrics, "rows": rows[str(ratio)]}
    return {"classes": result}


def _labelled(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the labelled images and whether each is defective."""
    known = labelled(predictions.names)
    return predictions.scores[known], anomalous(predictions.names)[known]
