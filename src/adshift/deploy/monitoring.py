"""The verbs `adshift recalibrate` and `adshift drift`: they read models and images, and call the statistics.

A model holds its threshold and its reference, scores and features of the normal validation images. A recalibration
adds threshold-NAME.json and reference-NAME.npz, those of its own normal images, in the model's directory or beside its
file, and changes neither.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adshift.data.image_files import images
from adshift.data.images import sha256
from adshift.data.pasting import Pasted
from adshift.deploy import advice, blindness, graph_file, recalibration
from adshift.deploy.drift import DEFECTS, look, set_aside
from adshift.deploy.recalibration import TARGET_FPR, reference_path, threshold_path
from adshift.detectors.records import Reference
from adshift.errors import AdshiftError
from adshift.evaluation import threshold_file
from adshift.evaluation.calibration import F1_RULES
from adshift.evaluation.conformal import CONFIDENCE, CONFORMAL, enough
from adshift.evaluation.metrics.counts import decide
from adshift.evaluation.settings import PASTED
from adshift.evaluation.threshold_file import Recalibration, Record
from adshift.runtime import seeding
from adshift.runtime.checksums import MODEL_REMEDY
from adshift.runtime.extras import needs
from adshift.runtime.files import write_json

if TYPE_CHECKING:
    from adshift.deploy.inference import Model

TRIED = 100  # images on which the levers are tried, at most
ENOUGH = 30  # fewer images advised the right lever too rarely: docs/monitoring.md
NOTHING = "fine", "harmless"  # verdicts after which nothing is to be done
VERDICTS: dict[advice.Lever | None, str] = {
    "nothing": "harmless", "recalibrate": "recalibrate", "adapt": "adapt", "refit": "refit", None: "unclear",
}  # fmt: skip
REMEDIES = {
    "fine": "no change detected; nothing to do",
    "harmless": "the images changed, but no lever does better than the model as it is",
    "recalibrate": "try a new threshold first: adshift recalibrate {model} --normal DIR",
    "adapt": "try to adapt the model with about {images} normal images of today: adshift adapt {model} --normal DIR",
    "refit": "no other lever seems to do; fit the model on normal images of today",
    "unclear": "the images changed and cannot tell what would help: give at least {enough}, or label some of them",
}


def recalibrate(
    folder: Path,
    normal: str,
    anomalous: str | None,
    target_fpr: float | None,
    name: str | None,
    pasted: bool = False,
) -> tuple[Path, Recalibration]:
    """Write a new threshold and the normal images' reference; returns path and record.

    Args:
        folder: model directory, in which they are written, or an exported file, beside which they are.
        normal, anomalous: folders of images.
        target_fpr: see `recalibration.recalibrate`.
        name: of the threshold; None for the next number.
        pasted: whether copies of the normal images with pasted defects (`adshift.data.pasting`) are the anomalous ones.

    Raises:
        AdshiftError: no model, no or too few images, anomalous images given twice over, or a name that is taken.
    """
    needs("scipy", *(["skimage"] if pasted else []), extra="drift", what="adshift recalibrate computes intervals")
    if pasted and anomalous is not None:
        raise AdshiftError("--pasted and --anomalous: both say which images are anomalous", "leave one of them out")
    old = _own(folder)[0]
    if old.rule is None:
        raise AdshiftError(f"{folder}: its threshold does not say its rule", MODEL_REMEDY)
    name = recalibration.checked_name(folder, name) if name is not None else recalibration.next_name(folder)
    rule = PASTED if pasted else "f1_grid" if old.rule == PASTED else old.rule
    if target_fpr is None and ((anomalous is None and not pasted) or rule not in (*F1_RULES, PASTED)):
        target_fpr = TARGET_FPR
    good, bad = (images([source]) if source is not None else [] for source in (normal, anomalous))
    twins = {sha256(path): path for path in good} if bad else {}
    for path in bad:
        if twin := twins.get(sha256(path)):
            raise AdshiftError(f"{path}: is given as normal too, as {twin}", "take one of the two out")
    if target_fpr is not None:
        enough(len(good), target_fpr)  # raises before the model is loaded

    from adshift.deploy import loading

    model = loading.load(folder)
    scores, features = model.score(good)
    patches = Pasted.of([path.name for path in good], seed=0) if pasted else None
    unseen = blindness.inputs(patches, model, good) if patches else bad
    defective = model.score(unseen)[0] if unseen else np.empty(0)
    result = recalibration.recalibrate(scores, defective, old.threshold, target_fpr, rule)
    used: dict[str, Any] = {
        "normal_images": [path.name for path in good],
        "anomalous_images": [path.name for path in bad],
    }
    if patches:
        used["pasted"] = len(patches.patches)
    more = {**used, "name": name, "reference": reference_path(folder, name).name}
    record = Recalibration.of(result.to_dict() | more).to_dict()
    recalibration.create(reference_path(folder, name), Reference(scores, features).save)
    path = threshold_path(folder, name)
    recalibration.create(path, lambda temporary: write_json(temporary, record, checksum=True))
    return path, Recalibration.of(record)


def recalibration_lines(result: Recalibration) -> list[str]:
    """The lines that describe a recalibration on the command line."""
    percent = round(100 * CONFIDENCE)
    expected_text = "of normal images to come, expected" if result.rule == CONFORMAL else "of normal images to come"
    lines = [
        f"{result.normal} normal and {result.anomalous} {'pasted' if result.pasted else 'anomalous'} images, "
        f"rule {result.rule}",
        f"{'':<12}{'threshold':>12}{'false alarms':>16}{'recall':>9}   on these images",
    ]
    for when, effect in (("before", result.before), ("after", result.after)):
        alarms = f"{effect.fp}/{effect.fp + effect.tn}"
        recall = "-" if effect.recall is None else f"{effect.recall:.3f}"
        lines.append(f"{when:<12}{effect.threshold:>12.5g}{alarms:>16}{recall:>9}")
    for when, text, rate in (
        ("before", "of normal images today", result.before_fpr),
        ("after", expected_text, result.expected_fpr),
    ):
        interval = f"{percent} % interval {rate.low:.3f} to {rate.high:.3f}"
        lines.append(f"{when}: false-positive rate {text}: {rate.value:.3f} ({interval})")
    return lines


def drift(
    folder: Path, sources: Iterable[str], number: int = 1, defects: float = DEFECTS, threshold: str | None = None
) -> dict[str, Any]:
    """The result of a look at recent images (`adshift.deploy.drift.Drift`), with the share of alarms and a verdict.

    If the images changed, levers are tried on at most `TRIED` of them (`adshift.deploy.advice`).

    Args:
        folder: model directory or exported file.
        sources: files, folders or patterns of recent images, without labels.
        number: of the look at this reference, from 1.
        defects: upper bound on the share of defective images.
        threshold: file of a recalibration of it, or its NAME; then its images are the reference.

    Raises:
        AdshiftError: no model directory, no or too few images, or one that cannot be read.
    """
    needs("skimage", "scipy", extra="drift", what="adshift drift computes tests")
    if threshold is None:
        record, reference = _own(folder)
    else:
        name = recalibration.name_of(_existing(folder), threshold)
        record = threshold_file.read(threshold_path(folder, name))
        reference = lambda: Reference.load(reference_path(folder, name))  # noqa: E731
    limit, kept = record.threshold, reference()
    paths = images(sources)

    from adshift.deploy import loading

    model = loading.load(folder)
    scores, features = model.score(paths)
    outcome = look(kept, scores, features, number, defects)
    tried = _tried(model, paths, limit, defects) if outcome.changed else []
    verdict = VERDICTS[advice.judged(tried) if len(paths) >= ENOUGH else None] if tried else "fine"
    return {
        **outcome.to_dict(), "alarms": float(decide(scores, limit).mean()), "reasons": outcome.reasons,
        "levers": [one.to_dict() for one in tried], "verdict": verdict,
        "remedy": REMEDIES[verdict].format(model=folder, images=min(len(paths), TRIED), enough=ENOUGH),
    }  # fmt: skip


def _tried(model: "Model", paths: Sequence[Path], limit: float, defects: float) -> list[advice.Estimate]:
    """Levers on recent images, or on some of them at random."""
    if len(paths) > TRIED:
        some = seeding.generator(0, "drift", "levers").choice(len(paths), TRIED, replace=False)
        paths = [paths[index] for index in sorted(some)]
    pasted, aside = Pasted.of([path.name for path in paths], seed=0), set_aside(len(paths), defects)
    copies = blindness.inputs(pasted, model, paths)
    if graph_file.is_file(model.source):  # its detector is part of the graph
        scores, pasted_scores = model.score(paths)[0], model.score(copies)[0]
        kept = advice.likely_normal(scores, aside)
        return advice.unchanged(scores[kept], pasted_scores[np.isin(pasted.owners, kept)], limit, TARGET_FPR)
    today = advice.Today(model.features(paths), model.features(copies), pasted.owners)  # type: ignore[attr-defined]
    return advice.estimates(model.detector, model.scoring, limit, today, aside, TARGET_FPR)  # type: ignore[attr-defined]


def verdict_lines(result: Mapping[str, Any]) -> list[str]:
    """The lines that describe a look on the command line."""
    tried = [advice.Estimate(**one) for one in result["levers"]]
    evidence = ["  tried on these images, half of them with pasted defects:", *(f"    {one}" for one in tried)]
    return [
        f"{result['verdict']}: {result['remedy']}",
        *(f"  {reason}" for reason in result["reasons"]),
        *(evidence if tried else []),
        f"  look {result['look']}: {result['images']} images beside {result['reference']} reference images; at most "
        f"{result['set_aside']} taken for defective; {100 * result['alarms']:.0f} % are above the threshold",
    ]


def _existing(model: Path) -> Path:
    if not (model.is_file() if graph_file.is_file(model) else model.is_dir()):
        raise AdshiftError(f"{model}: no model directory, nor an exported file", "pull the model first, or export it")
    return model


def _own(model: Path) -> tuple[Record, Callable[[], Reference]]:
    """The threshold of a model directory or exported file, and a function that reads its reference."""
    if not graph_file.is_file(_existing(model)):
        return threshold_file.read(model / "threshold.json"), lambda: Reference.load(model / "reference.npz")
    from adshift.deploy.graph import GraphModel

    description = GraphModel(model, threshold=0.0).description
    if description.threshold is None:
        raise AdshiftError(f"{model}: has no threshold", "export a model directory that has one")
    return description.threshold, lambda: description.reference(model)
