"""How far features and scores may lie from exact arithmetic on any device, and that no metric notices: docs/devices.md.

The processor stands in for a card: code and tolerances are the same. Tests that need a card skip by name.
"""

import functools
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from adshift.detectors import registry
from adshift.evaluation.metrics.image import image_metrics
from adshift.evaluation.metrics.pixel import pixel_metrics
from adshift.evaluation.metrics.ranking import best_f1
from adshift.features import extract
from adshift.features.backbones import Backbone
from adshift.features.extract import as_stored, spec_of
from adshift.features.settings import Features as Settings
from adshift.features.store import Features
from adshift.project import params
from adshift.runtime import device
from tiny import ROOT, texture

SIDE = 64
NORMAL, TESTED = 12, 40  # images that train; normal and as many defective ones that test
TOLERANCE = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 5e-2}  # of a layer's largest value
MOVED = 0.002  # of a metric
NO_METRICS = ("threshold", "best_threshold", "tn", "fp", "fn", "tp", "pro_limit")  # beside metrics in a record

needs_card = pytest.mark.skipif(not device.cards(), reason="needs a CUDA card")


def settings(**changes: object) -> Settings:
    base = dict(
        backbone="tf_efficientnet_lite0", weights=None, layers=None, resize=SIDE, fit="squeeze", crop=None,
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), precision="float32", dtype="float32", images=False,
        batch=8, options={}, tiles=None,
    )  # fmt: skip
    return Settings(**{**base, **changes})


@functools.cache
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """(N, 64, 64, 3) uint8 images, the training ones first, then normal, then defective ones; their masks."""
    generator = np.random.default_rng(7)
    images = np.stack([texture("dots", generator) for _ in range(NORMAL + 2 * TESTED)])
    masks = np.zeros(images.shape[:3], bool)
    for index in range(NORMAL + TESTED, len(images)):
        row, column = generator.integers(8, 50, 2)
        masks[index, row : row + 6, column : column + 6] = True
        faint = images[index].astype(int) + (masks[index] * 90)[..., None]  # so that metrics lie below 1
        images[index] = faint.clip(0, 255)
    return images, masks


@functools.cache
def maps_of(precision: str = "float32", count: int | None = None) -> list[np.ndarray]:
    return Backbone(settings(precision=precision))(pictures()[0][:count])


def exact(count: int) -> list[np.ndarray]:
    """The maps in float64, of the network before its activations are fused."""
    backbone = Backbone(settings())
    network = deepcopy(backbone.network).double()
    batch = torch.from_numpy(pictures()[0][:count]).permute(0, 3, 1, 2).double() / 255
    with torch.inference_mode():
        return [maps.permute(0, 2, 3, 1).numpy() for maps in network((batch - backbone.mean) / backbone.std)]


def relative(maps: np.ndarray, reference: np.ndarray) -> float:
    """The largest error, of the layer's largest value."""
    return float(np.abs(maps - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_features_lie_near_those_of_exact_arithmetic(precision: str) -> None:
    for maps, reference in zip(maps_of(precision, 4), exact(4), strict=True):
        assert relative(maps, reference) <= TOLERANCE[precision]


def stored(maps: list[np.ndarray], part: slice) -> Features:
    """Features as `embed` stores them."""
    spec = spec_of(Backbone(settings()))
    spec = {**spec, "dtype": "float16", "layers": [{**one, "shape": list(one["shape"])} for one in spec["layers"]]}
    names = [
        f"train/good/{i}" if i < NORMAL else f"test/{'good' if i < NORMAL + TESTED else 'spot'}/{i}"
        for i in range(len(maps[0]))
    ]
    convert = as_stored("float16", "part")
    arrays = {level: convert(torch.from_numpy(one[part])).numpy() for level, one in enumerate(maps, start=1)}
    return Features.of(names[part], arrays, spec)


def measured(method: str, maps: list[np.ndarray]) -> tuple[dict[str, float | None], np.ndarray]:
    """All metrics of a fit and scoring, the threshold set once, and the scores."""
    section = registry.schema(method)
    shipped = params.read()[method]
    values = section(**{key: tuple(v) if isinstance(v, list) else v for key, v in shipped.items()})
    halves = registry.halves(method, dict(values))
    fit, score = (registry.schemas(method)[part].of(halves[part]) for part in ("fit", "score"))
    detector = registry.detector_class(method)(fit)
    detector.fit(stored(maps, slice(0, NORMAL)), np.random.default_rng(1))
    predictions = detector.predict(stored(maps, slice(NORMAL, None)), score)
    _, masks = pictures()
    defective = np.arange(2 * TESTED) >= TESTED
    threshold = best_f1(predictions.scores, defective)[1]
    image = image_metrics(predictions.scores, defective, threshold).to_dict()
    pixel = pixel_metrics(predictions.full_maps(), masks[NORMAL:], 0.3, defective).to_dict()
    every = {
        f"{level} {name}": value for level, of in (("image", image), ("pixel", pixel)) for name, value in of.items()
    }
    return {name: value for name, value in every.items() if name.split()[1] not in NO_METRICS}, predictions.scores


@pytest.mark.parametrize("method", ["patchcore", "padim_streaming", "padim_diagonal"])
def test_no_metric_notices_another_device(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Noise of the tolerance's size on all maps, as if a card had made them."""
    monkeypatch.chdir(ROOT)
    maps, generator = maps_of(), np.random.default_rng(3)
    noisy = [
        (one + TOLERANCE["float32"] * np.abs(one).max() * generator.uniform(-1, 1, one.shape)).astype("f4")
        for one in maps
    ]
    before, scores = measured(method, maps)
    after, moved = measured(method, noisy)
    assert not np.array_equal(scores, moved)
    assert before["image auroc"] > 0.55 and before["pixel pro"] > 0.1 and len(before) > 12
    for name, value in before.items():
        assert abs(after[name] - value) <= MOVED, name


@pytest.mark.parametrize(("card", "expected"), [(False, 16), (True, extract.DECODERS)])
def test_few_threads_decode_for_a_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, card: bool, expected: int
) -> None:
    network = Backbone(settings())
    monkeypatch.setenv("ADSHIFT_THREADS", "16")
    monkeypatch.setattr(extract.device, "on_card", lambda: card)
    monkeypatch.setattr(extract, "spec_of", lambda *_: {"layers": [], "size": SIDE})
    asked: list[int] = []
    monkeypatch.setattr(extract, "map_ordered", lambda *_, threads=None, **__: asked.append(threads) or [])
    extract.embed([], network, tmp_path / "stored", what="none")
    assert asked[-1] == expected


@needs_card
@pytest.mark.parametrize("precision", list(TOLERANCE))
def test_a_card_makes_the_features_of_the_processor(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setenv("ADSHIFT_DEVICE", "cpu")
    reference = maps_of()
    monkeypatch.setenv("ADSHIFT_DEVICE", "cuda")
    for maps, expected in zip(Backbone(settings(precision=precision))(pictures()[0]), reference, strict=True):
        assert relative(maps, expected) <= TOLERANCE[precision]


@needs_card
@pytest.mark.parametrize("method", ["patchcore", "padim", "cfa"])
def test_a_card_gives_the_scores_of_the_processor(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.chdir(ROOT)
    found = {}
    for name in ("cpu", "cuda"):
        monkeypatch.setenv("ADSHIFT_DEVICE", name)
        found[name] = measured(method, maps_of())[1]
    np.testing.assert_allclose(found["cuda"], found["cpu"], rtol=1e-3)
