"""From scores and thresholds to image metrics, scenario by scenario; the same of the coreset ablation."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from adshift.data.manifest import anomalous
from adshift.detectors.records import Predictions
from adshift.evaluation import intervals
from adshift.evaluation.calibration import Threshold, calibrate
from adshift.evaluation.metrics.image import false_positive_rate, image_metrics
from adshift.evaluation.scenarios import POOLED, SCENARIOS
from adshift.evaluation.settings import Calibrate
from adshift.evaluation.stored_predictions import predictions
from adshift.project.paths import ablation_scores_path


def image_level(
    dataset: str,
    method: str,
    classes: tuple[str, ...],
    chosen: Mapping[str, Mapping[str, Any]],
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """Image metrics of every class and scenario, the cross-class matrix, and the rows of the three curve tables.

    The report's `on` says on which images the thresholds were chosen, `val` or `test`. Beside it, the bootstrap's
    replicates of the image metrics, {(class, scenario): (metrics, resamples)}.
    """
    records = {name: {key: Threshold.from_dict(value) for key, value in chosen[name].items()} for name in classes}
    [on] = {record.on for by_scenario in records.values() for record in by_scenario.values()}
    report: dict[str, Any] = {"on": on, "classes": {}, "cross_class": {}}
    tables: dict[str, list[dict[str, Any]]] = {"roc": [], "pr": [], "scores": []}
    normal: dict[str, np.ndarray] = {}
    replicates: dict[tuple[str, str], np.ndarray] = {}
    for name in classes:
        report["classes"][name] = {}
        for scenario in SCENARIOS:
            found = predictions("test", dataset, method, scenario, name)
            labels = anomalous(found.names)
            threshold = records[name][scenario.name].threshold
            report["classes"][name][scenario.name] = image_metrics(found.scores, labels, threshold).to_dict()
            drawn = intervals.Resamples.draw(int((~labels).sum()), int(labels.sum()), resamples, seed, name)
            replicates[name, scenario.name] = intervals.replicates(found.scores, labels, threshold, drawn)
            if scenario is POOLED:
                normal[name] = found.scores[~labels]
            for table, rows in curves(found, threshold).items():
                tables[table] += [{"class": name, "scenario": scenario.name, **row} for row in rows]
    for owner in classes:
        limit = records[owner][POOLED.name].threshold
        report["cross_class"][owner] = {other: false_positive_rate(normal[other], limit) for other in classes}
    return {"report": report, "tables": tables, "replicates": replicates}


def curves(found: Predictions, threshold: float) -> dict[str, list[dict[str, Any]]]:
    """Rows of the ROC, precision-recall and score tables of one set of predictions."""
    from adshift.evaluation.metrics.counts import decide
    from adshift.evaluation.metrics.ranking import pr_points, roc_points

    labels = anomalous(found.names)
    scores = zip(found.names, labels, found.scores, decide(found.scores, threshold), strict=True)
    return {
        "roc": [{"fpr": x, "tpr": y} for x, y in zip(*roc_points(found.scores, labels), strict=True)],
        "pr": [{"recall": x, "precision": y} for x, y in zip(*pr_points(found.scores, labels), strict=True)],
        "scores": [
            {"name": name, "defect": name.split("/")[1], "anomalous": int(label), "score": float(score),
             "threshold": threshold, "predicted": int(predicted)}
            for name, label, score, predicted in scores
        ],
    }  # fmt: skip


def ablation(
    dataset: str,
    classes: Iterable[str],
    ratios: Iterable[float],
    settings: Calibrate,
    on: Literal["val", "test"],
) -> dict[str, Any]:
    """{class: {ratio: metrics}} of the coreset ablation, thresholds from its own validation scores."""
    from adshift.runtime.files import read_json

    result: dict[str, Any] = {}
    for name in classes:
        folder = ablation_scores_path(dataset, name)
        rows = read_json(folder / "rows.json")
        result[name] = {}
        for ratio in ratios:
            val, test = (Predictions.load(folder / f"{part}-{ratio}.npz") for part in ("val", "test"))
            limit = calibrate(val.scores, anomalous(val.names), settings, on, f"{folder}: validation scores").threshold
            metrics = image_metrics(test.scores, anomalous(test.names), limit).to_dict()
            result[name][str(ratio)] = {**metrics, "rows": rows[str(ratio)]}
    return {"classes": result}
