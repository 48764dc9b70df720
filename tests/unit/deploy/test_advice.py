"""Levers tried on today's images: estimates by hand, the definition of the advice, and a model that meets a drift."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import adshift
import trained
from adshift.data.images import read_image
from adshift.deploy import advice, monitoring
from adshift.deploy.advice import CHANCE, MARGIN, Estimate, Today, cheapest, estimates, judged
from adshift.deploy.blindness import auroc_of
from adshift.detectors.patchcore import PatchCore
from adshift.evaluation.conformal import attainable
from adshift.evaluation.metrics.counts import decide
from adshift.project.paths import models_path
from adshift.runtime import seeding

NAME = trained.NAMES[0]


def tried(*figures: tuple[float, float], auroc: float = 0.9) -> list[Estimate]:
    return [Estimate(lever, 1.0, *pair, auroc) for lever, pair in zip(advice.LEVERS, figures, strict=False)]


@pytest.mark.parametrize(
    ("figures", "lever"),
    [
        ([(0.9, 0.9), (0.95, 0.9), (0.95, 0.9), (0.95, 0.9)], "nothing"),
        ([(0.5, 1.0), (0.95, 0.9), (0.95, 0.92), (0.95, 0.94)], "recalibrate"),
        ([(0.5, 1.0), (0.95, 0.5), (0.95, 0.9), (0.95, 0.94)], "adapt"),
        ([(0.5, 1.0), (0.95, 0.5), (0.80, 0.94), (0.95, 0.94)], "refit"),  # recall alone is not enough
        ([(1.0, 0.7), (0.9, 0.9)], "recalibrate"),
        ([(0.95, 0.85), (0.9, 0.9)], "nothing"),  # exactly the margin
    ],
)
def test_the_cheapest_that_comes_near_the_best(figures, lever) -> None:
    assert cheapest(tried(*figures)).lever == judged(tried(*figures)) == lever
    assert judged(tried(*figures, auroc=CHANCE - 0.01)) is None


def test_the_margin_is_that_of_the_definition() -> None:
    assert cheapest(tried((0.9 - MARGIN, 0.9), (0.9, 0.9))).lever == "nothing"
    assert cheapest(tried((0.9 - MARGIN - 0.01, 0.9), (0.9, 0.9))).lever == "recalibrate"


@pytest.fixture(scope="module")
def model(study: Path) -> Path:
    return study / models_path("mvtec", "patchcore") / NAME / "clean"


@pytest.fixture(scope="module")
def dark(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Normal images of a darker day."""
    folder = tmp_path_factory.mktemp("dark")
    for path in sorted((study / "photos" / NAME / "train" / "good").glob("*.png")):
        for gain in (0.6, 0.55):  # two reference images need many of today
            Image.fromarray((read_image(path) * gain).astype(np.uint8)).save(folder / f"{path.stem}-{gain}.png")
    return folder


def test_estimates_by_hand(model: Path, dark: Path) -> None:
    loaded = adshift.load(model)
    paths = sorted(dark.iterdir())
    brighter = [np.minimum(read_image(path).astype(int) + 60, 255).astype(np.uint8) for path in paths]
    owners = np.arange(len(paths))
    today = Today(loaded.features(paths), loaded.features(brighter), owners)
    detector, scoring = loaded.detector, loaded.scoring
    figures = estimates(detector, scoring, loaded.threshold, today, 0, 0.05)
    assert [one.lever for one in figures] == list(advice.LEVERS)

    def scores(of, images):
        return of.predict(images, scoring).scores

    folds = [[index for index in range(len(paths)) if index % 5 == part] for part in range(5)]
    for one in figures:
        normal, pasted = scores(detector, today.normal), scores(detector, today.pasted)
        if one.lever in ("adapt", "refit"):
            normal, pasted = [], []
            for fold in folds:
                other = [index for index in range(len(paths)) if index not in fold]
                if one.lever == "adapt":
                    made = detector.adapted(today.normal.take(other))
                else:
                    made = PatchCore(detector.settings)
                    made.fit(today.normal.take(other), seeding.generator(0, "refit"))
                normal += scores(made, today.normal.take(fold)).tolist()
                pasted += scores(made, today.pasted.take(fold)).tolist()
        threshold, promised = attainable(np.array(normal), 0.05)
        specificity = 1 - promised.value
        if one.lever == "nothing":
            threshold, specificity = loaded.threshold, 1 - decide(normal, loaded.threshold).mean()
        assert (one.threshold, one.specificity) == pytest.approx((threshold, specificity))
        assert one.recall == pytest.approx(decide(np.array(pasted), threshold).mean())
        assert one.auroc == pytest.approx(auroc_of(np.array(normal), np.array(pasted)))


def test_images_taken_for_defective_are_left_out_everywhere(model: Path, dark: Path) -> None:
    loaded = adshift.load(model)
    today = Today(
        loaded.features(sorted(dark.iterdir())),
        loaded.features(sorted(dark.iterdir())),
        np.arange(len(list(dark.iterdir()))),
    )
    scores = loaded.detector.predict(today.normal, loaded.scoring).scores
    rest = np.sort(np.argsort(scores, kind="stable")[:-2])
    args = loaded.detector, loaded.scoring, loaded.threshold
    assert estimates(*args, today, 2, 0.05) == estimates(*args, today.take(rest), 0, 0.05)


def test_drift_tries_levers_on_images_that_changed(model: Path, dark: Path, study: Path, monkeypatch) -> None:
    monkeypatch.setattr(monitoring, "ENOUGH", 20)
    text, code = trained.adshift("drift", str(model), str(dark), "--json", "--defects", "0")
    result = json.loads(text)
    assert [one["lever"] for one in result["levers"]] == list(advice.LEVERS)
    figures = [Estimate(**one) for one in result["levers"]]
    assert result["verdict"] == monitoring.VERDICTS[judged(figures)]
    assert code == (result["verdict"] not in monitoring.NOTHING)
    assert figures[0].specificity == pytest.approx(1 - result["alarms"])
    monkeypatch.setattr(monitoring, "TRIED", 4)
    few = json.loads(trained.adshift("drift", str(model), str(dark), "--json", "--defects", "0")[0])
    assert few["levers"] != result["levers"] and few["images"] == result["images"]
    diagonal = study / models_path("mvtec", "padim_diagonal") / NAME / "clean"
    lines = trained.adshift("drift", str(diagonal), str(dark), "--defects", "0")[0].splitlines()
    assert [line.split()[0] for line in lines if "AUROC" in line][:2] == ["nothing", "recalibrate"]
