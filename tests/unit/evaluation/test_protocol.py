"""The official protocol from split to thresholds: the test images stand in for validation images, scored once."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from adshift.data import split_file, splits
from adshift.data.manifest import Item, anomalous
from adshift.data.settings import Split
from adshift.detectors import registry
from adshift.detectors.records import Predictions
from adshift.evaluation import image_level, thresholds
from adshift.evaluation.scenarios import SCENARIOS
from adshift.evaluation.settings import Calibrate
from adshift.project.paths import features_path, scores_path, split_path
from adshift.runtime.files import write_json
from tiny import ROOT

NAMES = [f"{part}/{i}" for part in ("test/cut", "test/good", "train/good") for i in range(10)]
scored: list[tuple[str, ...]] = []


class Detector:
    """Scores an image by its number, defective ones higher; overlapping."""

    def __init__(self, *_: object) -> None: ...

    @classmethod
    def load(cls, _: Path) -> "Detector":
        return cls()

    def predict(self, features, how) -> Predictions:
        scored.append(features.names)
        scores = [int(name.split("/")[2]) + 4 * ("cut" in name) for name in features.names]
        maps = np.zeros((len(scores), 2, 2), np.float32)
        return Predictions(features.names, np.array(scores, np.float32), maps, 4, 0.0)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """stages/score.py with a detector that counts, over the stored features of the class `01`."""
    monkeypatch.chdir(tmp_path)
    folder = features_path("set", "01", "clean")
    folder.mkdir(parents=True)
    np.save(folder / "level1.npy", np.zeros((len(NAMES), 1, 1, 1), np.float16))
    layers = [{"name": "a", "file": "level1.npy", "shape": [1, 1, 1]}]
    write_json(folder / "features.json", {"names": NAMES, "layers": layers, "size": 4})
    (tmp_path / "params.yaml").write_text("dataset: {name: mvtec, root: x}\n")
    spec = importlib.util.spec_from_file_location("score", ROOT / "stages/score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(registry, "detector_class", lambda _: Detector)
    monkeypatch.setattr(registry, "settings", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["score.py", "--dataset=set", "--method=padim", "--model=01", "--domains=clean"])
    scored.clear()
    return module


def run(stage: ModuleType, protocol: str) -> dict[str, Predictions]:
    settings = Split(protocol=protocol, train_fraction=0.8, val_defect_fraction=0.3, group=None, order="random",
                     max_train=None, contamination=0.0)  # fmt: skip
    items = [Item(name, *name.split("/")[:2], "i", "", "", "", 1, 1) for name in NAMES]
    split_file.write(split_path("set", "01"), {split_file.BOTH: splits.split(items, settings, 42, "01")})
    stage.main()
    return {
        part: Predictions.load(scores_path(part, "set", "padim", "01", "clean-on-clean", "01"))
        for part in ("val", "test")
    }


def test_official_validates_on_the_whole_test_part_and_scores_it_once(stage: ModuleType) -> None:
    found = run(stage, "official")
    assert found["val"].names == found["test"].names == tuple(name for name in NAMES if name.startswith("test/"))
    assert (found["val"].scores == found["test"].scores).all()
    assert scored == [found["test"].names]


def test_study_validates_apart(stage: ModuleType) -> None:
    found = run(stage, "study")
    assert not set(found["val"].names) & set(found["test"].names)
    assert scored == [found["val"].names, found["test"].names]
    assert anomalous(found["val"].names).sum() == 3 and anomalous(found["test"].names).sum() == 7


def test_f1_at_a_threshold_chosen_on_test_is_the_upper_bound_and_says_so(
    stage: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = Calibrate(rule="f1_exact", min_normal=10, min_defective=5, steps=1000, target_fpr=0.05)
    for protocol, on in (("official", "test"), ("study", "val")):
        found = run(stage, protocol)
        for module in (thresholds, image_level):
            monkeypatch.setattr(module, "predictions", lambda part, *_, found=found: found[part])
        chosen = thresholds.thresholds("set", "padim", ["01"], rule, split_file.calibrated_on(protocol))
        report = image_level.image_level("set", "padim", ("01",), chosen, 42, 100)["report"]
        assert report["on"] == on
        assert {record["on"] for record in chosen["01"].values()} == {on}
        clean = report["classes"]["01"][SCENARIOS[0].name]
        assert (clean["f1"] == clean["best_f1_upper_bound"]) is (protocol == "official")
