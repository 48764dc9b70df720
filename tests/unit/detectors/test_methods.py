"""What holds for every detector of the registry: names that agree, and what it loads."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML
from threadpoolctl import threadpool_limits

import budgets
from adshift.detectors import registry
from adshift.errors import AdshiftError
from adshift.features.store import Features
from adshift.report.labels import label
from tiny import ROOT

CODE = """
import json, sys
from pathlib import Path
import numpy as np
from adshift.detectors import registry
from adshift.features.store import Features

name, folder, section = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
halves = registry.halves(name, section)
settings, scoring = (registry.schemas(name)[part].of(halves[part]) for part in ("fit", "score"))
shapes = {0: (32, 32, 3), 1: (8, 8, 24), 2: (4, 4, 40), 3: (2, 2, 112)}  # the backbone's on 32 pixels
generator = np.random.default_rng(0)
maps = {level: generator.integers(0, 255, (5, *shape)).astype(np.uint8) for level, shape in shapes.items()}
layers = [{"name": f"blocks.{block}", "shape": shapes[level]} for level, block in ((1, 1), (2, 2), (3, 4))]
preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3}
spec = {"backbone": "tf_efficientnet_lite0", "size": 32, "layers": layers, "preprocessing": preprocessing}
spec = json.loads(json.dumps(spec))
features = Features.of([f"train/good/{i}" for i in range(5)], maps, spec)
if (folder / "model.json").exists():
    model = registry.detector_class(name).load(folder)
    model.predict(features, scoring)
else:
    registry.warm_up(name)
    model = registry.detector_class(name)(settings)
    model.fit(features, np.random.default_rng(1))
    model.save(folder)
print(json.dumps([module for module in sys.argv[4].split(",") if module in sys.modules]))
"""


@pytest.fixture(scope="module")
def shipped() -> dict:
    return YAML(typ="safe").load((ROOT / "params.yaml").read_text())


@pytest.mark.parametrize("method", list(registry.REGISTRY))
def test_a_fit_and_a_scoring_load_what_they_may(tmp_path: Path, shipped: dict, method: str) -> None:
    """In a process each, as stages are: the model goes from one to the other by its folder alone."""
    section = shipped[method] | ({"epochs": 1} if "epochs" in shipped[method] else {})
    section |= {"coreset": 0.5} if method.startswith("patchcore") else {}
    for allowed in (budgets.FIT[method], budgets.SCORE[method]):
        arguments = (method, str(tmp_path / "model"), json.dumps(section), ",".join(budgets.HEAVY))
        done = subprocess.run(
            [sys.executable, "-c", CODE, *arguments], check=True, capture_output=True, text=True, cwd=ROOT
        )
        assert set(json.loads(done.stdout)) <= allowed


@pytest.mark.parametrize("method", list(registry.REGISTRY))
def test_names_agree(shipped: dict, method: str) -> None:
    """DVC finds a method's sources by its name; a section stands for it even where it is not in use."""
    module = registry.REGISTRY[method]
    assert module == f"adshift.detectors.{method}"
    assert registry.schema(method)(
        **{key: tuple(v) if isinstance(v, list) else v for key, v in shipped[method].items()}
    )
    detector = registry.detector_class(method)
    assert detector.label and detector.artifact and detector.licence
    assert label(method) == detector.label
    assert "layers" in registry.schemas(method)["fit"].model_fields  # checks.py looks at them


def features(count: int, seed: int, side: int = 32, **changes: Any) -> Features:
    """Stored features of the default backbone on `side` x `side` pixels, with images."""
    generator = np.random.default_rng(seed)
    sides = [side // step for step in (1, 4, 8, 16)]
    shapes = {
        level: (at, at, channels) for level, (at, channels) in enumerate(zip(sides, (3, 24, 40, 112), strict=True))
    }
    maps = {level: generator.integers(0, 255, (count, *shape)).astype(np.uint8) for level, shape in shapes.items()}
    layers = [{"name": f"blocks.{block}", "shape": list(shapes[level])} for level, block in ((1, 1), (2, 2), (3, 4))]
    preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3}
    spec = {"backbone": "tf_efficientnet_lite0", "size": side, "layers": layers, "preprocessing": preprocessing}
    return Features.of([f"train/good/{index}" for index in range(count)], maps, spec | changes)


@pytest.mark.parametrize("method", [name for name in registry.REGISTRY if registry.detector_class(name).adaptable])
def test_a_model_adapts_to_the_same_bytes_on_any_number_of_threads(tmp_path: Path, shipped: dict, method: str) -> None:
    """Those of BLAS too, which a machine's processors decide: its products differ in their last bits."""
    section = shipped[method] | ({"coreset": 0.02} if method.startswith("patchcore") else {})
    detector = registry.detector_class(method)(
        registry.schemas(method)["fit"].of(registry.halves(method, section)["fit"])
    )
    detector.fit(features(3, 0, side=160), np.random.default_rng(1))
    files = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads):
            detector.adapted(features(4, 1, side=160), 30).save(tmp_path / str(threads))
        files.append((tmp_path / str(threads) / "model.safetensors").read_bytes())
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize("method", list(registry.REGISTRY))
def test_the_contract_of_a_detector(
    tmp_path: Path, shipped: dict, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal bytes on any number of threads, shapes, a round trip, other features and damage refused."""
    section = shipped[method] | ({"epochs": 1} if "epochs" in shipped[method] else {})
    section |= {"coreset": 0.5} if method.startswith("patchcore") else {}
    halves = registry.halves(method, section)
    settings, scoring = (registry.schemas(method)[part].of(halves[part]) for part in ("fit", "score"))
    normal, test = features(5, 0), features(3, 1)
    files, scores = [], []
    for threads in ("1", "2"):
        monkeypatch.setenv("ADSHIFT_THREADS", threads)
        detector = registry.detector_class(method)(settings)
        detector.fit(normal, np.random.default_rng(1))
        detector.save(tmp_path / threads)
        files.append({path.name: path.read_bytes() for path in (tmp_path / threads).iterdir()})
        scores.append(detector.predict(test, scoring))
    assert files[0] == files[1] and set(files[0]) == {"model.json", "model.safetensors"}
    loaded = registry.detector_class(method).load(tmp_path / "2")
    again = loaded.predict(test, scoring)
    for predictions in scores:
        np.testing.assert_array_equal(predictions.scores, again.scores)
        np.testing.assert_array_equal(predictions.maps, again.maps)
    assert again.names == test.names and again.scores.shape == (3,) and again.scores.dtype == np.float32
    assert again.maps.ndim == 3 and again.maps.shape[0] == 3 and again.maps.dtype == np.float32
    with pytest.raises(AdshiftError, match="another network"):
        loaded.predict(features(3, 1, backbone="another"), scoring)
    content = files[0]["model.safetensors"]
    (tmp_path / "2" / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(AdshiftError, match="damaged"):
        registry.detector_class(method).load(tmp_path / "2")
