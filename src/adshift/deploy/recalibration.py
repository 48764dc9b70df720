"""A new threshold for an unchanged model, from recent images, with its evidence.

Normal images alone give an order statistic of their scores (`adshift.evaluation.conformal`). Normal and anomalous
images give the threshold of a rule of `adshift.evaluation.calibration`.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from adshift.deploy import graph_file
from adshift.errors import AdshiftError
from adshift.evaluation.calibration import by_pasted, calibrate
from adshift.evaluation.conformal import CONFIDENCE, CONFORMAL, chosen_rate, clopper_pearson, conformal
from adshift.evaluation.metrics.counts import FALSE_POSITIVE_RATE, RECALL, Counts, decide
from adshift.evaluation.settings import PASTED, Calibrate
from adshift.evaluation.threshold_file import Effect, Recalibration

TARGET_FPR = 0.05  # false-positive rate wanted, unless another one is given
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"  # of a recalibration
STEPS = 1000  # of f1_grid, as in the study


def effect(threshold: float, normal: np.ndarray, anomalous: np.ndarray) -> Effect:
    """Counts and rates of a threshold on these scores."""
    labels = np.arange(len(normal) + len(anomalous)) >= len(normal)
    counts = Counts.of(np.concatenate([normal, anomalous]), labels, threshold)
    return Effect(
        threshold=threshold, **counts._asdict(), fpr=FALSE_POSITIVE_RATE(counts),
        recall=RECALL(counts) if len(anomalous) else None,
    )  # fmt: skip


def recalibrate(
    normal: np.ndarray, anomalous: np.ndarray, old: float, target_fpr: float | None, rule: str = CONFORMAL
) -> Recalibration:
    """The new threshold from scores (N,) of normal and (P,) of anomalous images; P may be 0.

    Args:
        normal, anomalous: raw scores of the model.
        old: the current threshold.
        target_fpr: the false-positive rate wanted; normal images alone then set the threshold, and anomalous images
            only measure its recall. None to use `rule`.
        rule: `f1_grid`, `f1_exact`, or `pasted` if the anomalous images are normal ones with pasted defects.

    Raises:
        AdshiftError: too few images for the rate or the rule, or a score that is not finite.
    """
    normal, anomalous = (_checked(scores, kind) for scores, kind in ((normal, "normal"), (anomalous, "anomalous")))
    if target_fpr is not None:
        rule = CONFORMAL
        threshold, expected = conformal(normal, target_fpr)
    else:
        if not len(normal) or not len(anomalous):
            message = f"{len(normal)} normal and {len(anomalous)} anomalous images: {rule} needs both"
            raise AdshiftError(message, "give both, or a target false-positive rate for normal images alone")
        threshold = _chosen(normal, anomalous, rule)
        expected = chosen_rate(int(decide(normal, threshold).sum()), len(normal))
    before, after = (effect(value, normal, anomalous) for value in (float(old), threshold))
    return Recalibration.model_validate({
        "threshold": threshold, "rule": rule, "target_fpr": target_fpr, "confidence": CONFIDENCE,
        "normal": len(normal), "anomalous": len(anomalous), "expected_fpr": expected,
        "before_fpr": clopper_pearson(before.fp, len(normal)), "before": before, "after": after,
    })  # fmt: skip


def _chosen(normal: np.ndarray, anomalous: np.ndarray, rule: str) -> float:
    """The threshold of a rule that needs both kinds of images."""
    if rule == PASTED:
        return by_pasted(normal, anomalous, STEPS).threshold
    scores = np.concatenate([normal, anomalous])
    labels = np.arange(len(scores)) >= len(normal)
    settings = Calibrate(rule=rule, min_normal=1, min_defective=1, steps=STEPS, target_fpr=0.0)  # type: ignore[arg-type]
    return calibrate(scores, labels, settings).threshold


def _checked(scores: np.ndarray, kind: str) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1:
        raise ValueError(f"scores {scores.shape}: expected (N,)")
    if not np.isfinite(scores).all():
        raise AdshiftError(f"{np.sum(~np.isfinite(scores))} scores of {kind} images are not finite", "check the images")
    return scores


def next_name(model: Path) -> str:
    """The smallest number that is no name of a threshold file of the model."""
    number = 1
    while threshold_path(model, str(number)).exists() or reference_path(model, str(number)).exists():
        number += 1
    return str(number)


def threshold_path(model: Path, name: str) -> Path:
    """Path of a recalibrated threshold: in the model's directory, or beside its file as FILE.threshold-NAME.json."""
    return _of(model, f"threshold-{name}.json")


def reference_path(model: Path, name: str) -> Path:
    """Path of a recalibration's reference: scores and pooled features of its normal images, for `adshift drift`."""
    return _of(model, f"reference-{name}.npz")


def _of(model: Path, file: str) -> Path:
    return model.with_name(f"{model.stem}.{file}") if graph_file.is_file(model) else model / file


def name_of(model: Path, file: str) -> str:
    """NAME of a recalibration of the model, given as NAME or as the path of its threshold file."""
    start = _of(model, "threshold-").name
    return Path(file).name.removeprefix(start).removesuffix(".json")


def checked_name(model: Path, name: str) -> str:
    """Check that a name can be part of a file's name, and return it.

    Raises:
        AdshiftError: it is taken, or could lead out of the folder.
    """
    if not re.fullmatch(NAME, name):
        raise AdshiftError(f"name {name!r}: letters, digits, `_`, `-` and `.` only", "give another --name")
    for path in (threshold_path(model, name), reference_path(model, name)):
        if path.exists():
            raise AdshiftError(f"{path} is there already, and no threshold is overwritten", "give another --name")
    return name


def create(path: Path, write: Callable[[Path], object]) -> None:
    """Write a new file, whole or not at all; never over another, even one that appears meanwhile.

    Raises:
        AdshiftError: the file exists, or the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.stem}.tmp-{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        os.link(temporary, path)  # fails where a rename would overwrite
    except FileExistsError:
        raise AdshiftError(f"{path} is there already, and no threshold is overwritten", "give another --name") from None
    except OSError as error:
        raise AdshiftError(f"{path}: {error.strerror}", "make the model's folder writable") from None
    finally:
        temporary.unlink(missing_ok=True)
