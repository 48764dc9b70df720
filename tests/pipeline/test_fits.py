"""Oblong images of several shapes through the whole pipeline and `predict`: padded, and in tiles."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import adshift
import trained
from adshift.data.manifest import path_of, read
from adshift.deploy import monitoring
from adshift.detectors.records import Predictions
from adshift.evaluation.pairs import PAIRS
from adshift.project.paths import scores_path
from adshift.runtime.files import read_json
from kinds import Made

NAME, METHOD = "nut", "patchcore"
KINDS = {"pad": "oblong of several sizes", "tile": "oblong"}


@pytest.fixture(params=list(KINDS))
def study(request: pytest.FixtureRequest, kind_run: Callable[[str], Made]) -> Iterator[tuple[Path, str]]:
    """A project, and its `features.fit`."""
    with trained.one_network():
        yield kind_run(KINDS[request.param]).folder, request.param


def test_the_model_sees_what_the_pipeline_saw(study: tuple[Path, str]) -> None:
    """Scores and boxes, of an oblong image in its own pixels, from the packaged model alone."""
    folder, _ = study
    with contextlib.chdir(folder):
        scores = Predictions.load(scores_path("test", "mvtec", METHOD, NAME, PAIRS[0], NAME))
        items = {item.name: item for item in read(path_of("mvtec", NAME, "clean"))}
        model = adshift.load(f"models/mvtec/{METHOD}/{NAME}/clean", threshold=0.0)
        found = model.predict([items[name].image for name in scores.names])
    np.testing.assert_allclose([one.score for one in found], scores.scores, rtol=1e-5)
    assert scores.size == (64, 128)
    for name, one in zip(scores.names, found, strict=True):
        item = items[name]
        assert one.anomaly_map.shape == (64, 128)
        assert one.mask().shape == (item.height, item.width)
        assert all(0 <= left < right <= item.width for region in one.regions for left, _, right, _ in [region.box])
        assert all(0 <= top < bottom <= item.height for region in one.regions for _, top, _, bottom in [region.box])


def test_the_peak_lies_on_the_defect(study: tuple[Path, str]) -> None:
    folder, _ = study
    with contextlib.chdir(folder):
        items = [item for item in read(path_of("mvtec", NAME, "clean")) if item.anomalous]
        model = adshift.load(f"models/mvtec/{METHOD}/{NAME}/clean", threshold=0.0)
        hits = []
        for item, one in zip(items, model.predict([item.image for item in items]), strict=True):
            mask = np.asarray(Image.open(item.mask)) > 0
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            row, column = np.unravel_index(one.anomaly_map.argmax(), one.anomaly_map.shape)
            left, top, right, bottom = one.geometry.box(int(row), int(column), int(row) + 1, int(column) + 1)
            near = 6  # pixels: a position of the map
            hits.append(
                rows[0] - near <= bottom and top <= rows[-1] + near
                and columns[0] - near <= right and left <= columns[-1] + near
            )  # fmt: skip
    assert np.mean(hits) >= 0.75, hits


def test_small_and_odd_images_are_looked_at_too(study: tuple[Path, str]) -> None:
    folder, _ = study
    model = adshift.load(folder / f"models/mvtec/{METHOD}/{NAME}/clean", threshold=0.0)
    images = [np.full((height, width, 3), 90, np.uint8) for height, width in ((20, 31), (1, 5), (300, 2), (7, 7))]
    for image, found in zip(images, model.predict(images), strict=True):
        assert np.isfinite(found.score)
        assert found.mask().shape == image.shape[:2]


def test_features_and_metrics_know_the_shape(study: tuple[Path, str]) -> None:
    folder, fit = study
    record = read_json(folder / "data/features/clean/mvtec" / NAME / "features.json")
    assert (record["size"], record["preprocessing"]["fit"]) == ([64, 128], fit)
    assert ("content" in record) == (fit == "pad")
    pixel = read_json(folder / f"data/evaluation/mvtec/pixel/{METHOD}.json")[NAME]["clean-on-clean"]
    assert pixel["auroc"] > 0.8


def test_drift_and_recalibration(study: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = study
    model = shutil.copytree(folder / f"models/mvtec/{METHOD}/{NAME}/clean", tmp_path / "model")
    path, found = monitoring.recalibrate(model, str(folder / f"raw/{NAME}/train/good"), None, 0.2, "own")
    assert path.is_file()
    assert found.normal == 30
    told = monitoring.drift(model, [str(folder / f"raw/{NAME}/train/good")], 1, 0.1, str(path))
    assert told["verdict"] == "fine"
