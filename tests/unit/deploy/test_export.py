"""Exported graphs, run by onnxruntime, against the detectors that they came from."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import adshift
from adshift.cli import _main
from adshift.data.geometry import fit as squeeze
from adshift.data.normalising import Reference as Intensities
from adshift.data.shapes import sides
from adshift.deploy import export
from adshift.detectors import registry
from adshift.detectors.records import Predictions
from adshift.errors import AdshiftError
from adshift.features import extract
from adshift.features.backbones import Backbone, from_spec
from adshift.features.settings import Features as Settings
from adshift.features.store import Features
from adshift.project import params
from adshift.runtime.files import read_json, write_json
from tiny import ROOT, texture

SIDE = 64
METADATA = {"method", "class", "before", "preprocessing", "weights_sha256", "adshift_version", "scoring", "input"}
SHALLOW = ("blocks.0", "blocks.1", "blocks.2")  # a graph of the usual layers takes twice as long to trace
SMALL = {"n_features": 24, "coreset": 0.2, "bytes": 12}
ALL_ROWS = {"candidates": 10_000}


def drawn(count: int, seed: int, defect: bool = False) -> np.ndarray:
    """(N, S, S, 3) uint8: one texture, with a bright square if asked for."""
    images = np.stack([texture("dots", np.random.default_rng([seed, index])) for index in range(count)])
    if defect:
        images[:, 20:32, 24:36] = 230
    return images


TRAIN, NORMAL, DEFECTIVE = drawn(12, 0), drawn(4, 1), drawn(4, 2, defect=True)
TEST = np.concatenate([NORMAL, DEFECTIVE])


def network(**changes: Any) -> Backbone:
    settings = dict(params.load("features", path=ROOT / "params.yaml").features)
    return Backbone(Settings.within({**settings, "resize": SIDE + 16, "crop": SIDE, **changes}))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return network(layers=SHALLOW)


@pytest.fixture(scope="module")
def features(backbone: Backbone) -> Callable[..., Features]:
    return features_of(backbone)


@pytest.fixture(scope="module")
def deep_features() -> Callable[..., Features]:
    """Of the usual layers."""
    return features_of(network())


def features_of(backbone: Backbone) -> Callable[..., Features]:
    """Features of images as the pipeline stores them."""
    settings = backbone.settings

    def of(images: np.ndarray, dtype: str = "float16") -> Features:
        images = np.stack([squeeze(image, settings.resize, settings.crop) for image in images])
        arrays = {level: maps.astype(dtype) for level, maps in enumerate(backbone(images), start=1)}
        layers = [
            {"name": name, "file": f"level{level}.npy", "shape": list(arrays[level].shape[1:])}
            for level, name in enumerate(backbone.names, start=1)
        ]
        preprocessing = {"resize": settings.resize, "crop": settings.crop, "mean": list(settings.mean),
                         "std": list(settings.std)}  # fmt: skip
        spec = {**backbone.record, "preprocessing": preprocessing, "size": SIDE, "dtype": dtype, "layers": layers}
        return Features.of([str(index) for index in range(len(images))], arrays, spec)

    return of


def model(features: Any, folder: Path, method: str, **changes: Any) -> tuple[Any, Any, Path]:
    """A detector fitted on TRAIN, how it scores, and the model directory that it is saved in."""
    section = dict(getattr(params.load(method, path=ROOT / "params.yaml"), method))
    section |= {name: value for name, value in {**SMALL, **changes}.items() if name in section}
    halves = registry.schemas(method)
    detector = registry.detector_class(method)(halves["fit"].within(section))
    detector.fit(features(TRAIN), np.random.default_rng(0))
    place = folder / method / "dots" / "clean"
    detector.save(place)
    return detector, halves["score"].within(section), place


def run(file: Path, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    scores, maps = session.run(["score", "map"], {"image": images})
    return scores, maps


def assert_same(found: tuple[np.ndarray, np.ndarray], expected: Predictions) -> None:
    scores, maps = found
    full = expected.full_maps()
    assert scores.dtype == maps.dtype == np.float32
    np.testing.assert_allclose(scores, expected.scores, rtol=1e-4)
    np.testing.assert_allclose(maps, full, rtol=1e-3, atol=1e-4 * full.max())


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("patchcore", {}),
        ("patchcore", {"reweight": "original", "metric": "cosine", "image_score": "top_mean", "top_percent": 5.0}),
        ("patchcore", {"reweight": "none", "layers": (1, 2, 3), "pool": 5, "stride": 2, "smoothing": 0.0}),
        ("patchcore", {"reweight": "original", "neighbours": 1}),
        ("patchcore", {"foreground": 5.0, "image_score": "top_mean", "top_percent": 20.0}),
        ("patchcore_pq", ALL_ROWS),
        ("patchcore_pq", {**ALL_ROWS, "metric": "cosine", "reweight": "original", "refined": 4}),
        ("patchcore_pq", {**ALL_ROWS, "reweight": "original", "refined": 1}),
        ("padim", {}),
        ("padim_streaming", {"layers": (2, 3)}),
        ("padim_diagonal", {}),
    ],
)
def test_the_graph_scores_as_the_detector_does(
    request: pytest.FixtureRequest, tmp_path: Path, method: str, changes: dict[str, Any]
) -> None:
    usual = method == "patchcore" and not changes
    features = request.getfixturevalue("deep_features" if usual else "features")
    # A float16 that two libraries round to either side of a boundary would be all that is seen here.
    features = partial(features, dtype="float32")
    detector, how, folder = model(features, tmp_path, method, **changes)
    (folder / "threshold.json").write_text('{"threshold": 1.25, "rule": "f1_grid", "val": "clean"}')
    told = export.export(folder, how, tmp_path / "graph.onnx")
    expected = detector.predict(features(TEST), how)
    found = run(tmp_path / "graph.onnx", TEST)
    assert_same(found, expected)
    for one in (run(tmp_path / "graph.onnx", TEST[:1]), run(tmp_path / "graph.onnx", TEST[:3])):  # any batch
        np.testing.assert_allclose(one[0], found[0][: len(one[0])], rtol=1e-5)
    file = onnx.load(tmp_path / "graph.onnx")
    onnx.checker.check_model(file)
    metadata = {prop.key: prop.value for prop in file.metadata_props}
    assert len(metadata.pop("sha256")) == 64  # of all before it
    assert metadata == told
    assert metadata.keys() >= METADATA
    assert (metadata["method"], metadata["class"], float(metadata["threshold"])) == (method, "dots", 1.25)
    assert "resizes to 80 x 80" in metadata["before"]
    assert "centre of 64 x 64" in metadata["before"]
    assert json.loads(metadata["scoring"])["smoothing"] == how.smoothing
    assert str(ROOT).encode() not in file.SerializeToString()


@pytest.mark.parametrize("method", ["patchcore", "padim_diagonal"])
@pytest.mark.parametrize(("fit", "resize"), [("squeeze", (64, 96)), ("tile", (64, 160)), ("tile", (96, 64))])
def test_oblong_inputs(tmp_path: Path, method: str, fit: str, resize: tuple[int, int]) -> None:
    """Tiled or not, the graph of an oblong input scores as the detector does."""
    settings = dict(params.load("features", path=ROOT / "params.yaml").features)
    settings |= {"resize": resize, "fit": fit, "crop": None, "dtype": "float32", "layers": SHALLOW}
    backbone = Backbone(Settings.within(settings))
    spec = json.loads(json.dumps(extract.spec_of(backbone)))

    def features(images: np.ndarray) -> Features:
        wide = np.stack([squeeze(image, resize) for image in images])
        maps = dict(enumerate(backbone(wide), start=1))
        return Features.of([str(index) for index in range(len(images))], maps, spec)

    detector, how, folder = model(features, tmp_path, method)
    told = export.export(folder, how, tmp_path / "graph.onnx")
    assert_same(run(tmp_path / "graph.onnx", TEST), detector.predict(features(TEST), how))
    assert told["size"] == f"{resize[0]} {resize[1]}"
    assert f"resizes to {resize[1]} x {resize[0]} (width x height)" in told["before"]


@pytest.mark.parametrize("kind", ["moments", "histogram"])
def test_a_graph_normalizes_intensities(
    features: Any, backbone: Backbone, tmp_path: Path, kind: Literal["moments", "histogram"]
) -> None:
    reference = Intensities.fit([image // 2 + 20 for image in TRAIN], kind)
    features = partial(features, dtype="float32")
    detector, how, folder = model(features, tmp_path, "padim_diagonal")
    record = read_json(folder / "model.json")
    record["features"]["preprocessing"] |= {"normalise": reference.to_dict()}
    write_json(folder / "model.json", record, checksum=True)
    told = export.export(folder, how, tmp_path / "graph.onnx")
    assert told["before"].endswith(f", then brings each channel's {kind} to the model's")
    assert json.loads(told["preprocessing"])["normalise"] == reference.to_dict()
    normalized = np.stack([reference(squeeze(image, 80, 64)) for image in TEST])
    assert np.abs(normalized.astype(int) - np.stack([squeeze(image, 80, 64) for image in TEST])).mean() > 5
    maps = dict(enumerate(backbone(normalized), start=1))
    expected = detector.predict(Features.of([str(index) for index in range(8)], maps, detector.spec), how)
    assert_same(run(tmp_path / "graph.onnx", TEST), expected)


@pytest.mark.parametrize(("resize", "crop"), [(80, 64), ((40, 96), None)])
def test_a_graph_resizes_as_pillow_does(tmp_path: Path, resize: Any, crop: int | None) -> None:
    """To the byte, also where a sum lies half way between two levels, and where Pillow starts with the rows."""
    from adshift.deploy.export.files import traced
    from adshift.deploy.export.inputs import Resize

    file = traced(Resize(resize, crop).eval(), torch.zeros(2, 3, 90, 85), 18, (0, 2, 3), ["resized"])
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    shapes = [
        (300, 400),
        (80, 80),
        (80, 200),
        (64, 64),
        (33, 50),
        (1, 1),
        (411, 719),
        (719, 411),
        (300, 200),
        (1200, 13),
    ]
    high, wide = sides(resize)
    shapes += [(high + 2 * 60 + more, wide + 60) for more in (-1, 0, 1)]
    for height, width in shapes:
        noise = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        [found] = session.run(None, {"image": noise.transpose(0, 3, 1, 2).astype(np.float32)})
        expected = np.stack([squeeze(image, resize, crop) for image in noise])
        np.testing.assert_array_equal(found.transpose(0, 2, 3, 1), expected, err_msg=f"{height} x {width}")


# In a process of its own, since its threads stay.
OPENVINO = """
import sys
from pathlib import Path
import numpy as np
import openvino
folder = Path(sys.argv[1])
graph = openvino.Core().read_model(folder / "graph.onnx")
images = np.load(folder / "images.npy")
compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
alone = [compiled({"image": image[None]})["score"].copy() for image in images[:2]]
found = compiled({"image": images})
np.savez(folder / "outputs.npz", score=found["score"], map=found["map"], alone=np.concatenate(alone))
"""


def test_images_of_their_own_size(features: Any, tmp_path: Path) -> None:
    """The file takes images of any size, and `adshift.load` the same file."""
    features = partial(features, dtype="float32")  # no value that two libraries round differently
    detector, how, folder = model(features, tmp_path, "padim_diagonal")
    expected_small = detector.predict(features(TEST), how).scores
    middle = float(np.median(expected_small.astype(float)))
    write_json(folder / "threshold.json", {"threshold": middle, "rule": "f1_grid", "map_ratio": 0.9}, checksum=True)
    file = tmp_path / "graph.onnx"
    export.export(folder, how, file)
    large = np.stack([np.asarray(Image.fromarray(image).resize((213, 170))) for image in TEST])
    expected = detector.predict(features(large), how)
    assert_same(run(file, large), expected)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert session.run(["anomalous"], {"image": TEST})[0].tolist() == (expected_small >= middle).tolist()
    found = adshift.load(file)
    assert (found.threshold, found.map_ratio, found.method) == (middle, 0.9, "padim_diagonal")
    predictions = found.predict(list(large))
    np.testing.assert_allclose([one.score for one in predictions], expected.scores, rtol=1e-4)
    assert [one.anomalous for one in predictions] == [one.score >= middle for one in predictions]


def test_openvino_computes_the_same_from_the_first_image_on(tmp_path: Path) -> None:
    """Inputs of 224 pixels, where the first result was wrong; with inputs of 64 pixels it was not."""
    features = partial(features_of(network(resize=224, crop=None, layers=SHALLOW)), dtype="float32")
    detector, how, folder = model(features, tmp_path, "padim_diagonal")
    file = tmp_path / "graph.onnx"
    export.export(folder, how, file)
    large = np.stack([np.asarray(Image.fromarray(image).resize((256, 256))) for image in TEST])
    expected = detector.predict(features(large), how)
    assert_same(run(file, large), expected)
    np.save(tmp_path / "images.npy", large)
    subprocess.run([sys.executable, "-c", OPENVINO, tmp_path], check=True)
    outputs = np.load(tmp_path / "outputs.npz")
    np.testing.assert_allclose(outputs["alone"], expected.scores[:2], rtol=1e-4)
    assert_same((outputs["score"], outputs["map"]), expected)


def test_a_model_of_aligned_features_is_refused(features: Any, tmp_path: Path) -> None:
    _, how, folder = model(features, tmp_path, "padim_diagonal")
    (folder / "alignment.npz").touch()
    with pytest.raises(AdshiftError, match="aligned features"):
        export.export(folder, how, tmp_path / "graph.onnx")


def test_a_model_of_padded_images_is_refused(features: Any, tmp_path: Path) -> None:
    _, how, folder = model(features, tmp_path, "padim_diagonal")
    record = read_json(folder / "model.json")
    record["features"]["preprocessing"] |= {"fit": "pad", "crop": None, "resize": SIDE}
    write_json(folder / "model.json", record, checksum=True)
    with pytest.raises(AdshiftError, match="not which of them are padding"):
        export.export(folder, how, tmp_path / "graph.onnx")


def test_an_hnsw_bank_is_searched_exactly(features: Any, tmp_path: Path) -> None:
    detector, how, folder = model(features, tmp_path, "patchcore", index="hnsw")
    export.export(folder, how, tmp_path / "graph.onnx")
    detector.graph = {}
    assert_same(run(tmp_path / "graph.onnx", TEST), detector.predict(features(TEST), how))


def test_inputs_and_opsets(features: Any, tmp_path: Path) -> None:
    detector, how, folder = model(features, tmp_path, "padim_diagonal")
    file = tmp_path / "graph.onnx"
    export.export(folder, how, file, opset=21, pixels="float32", layout="NCHW")
    assert [entry.version for entry in onnx.load(file).opset_import if not entry.domain] == [21]
    images = np.ascontiguousarray((TEST / np.float32(255)).transpose(0, 3, 1, 2))
    assert_same(run(file, images), detector.predict(features(TEST), how))
    assert "threshold" not in {prop.key for prop in onnx.load(file).metadata_props}


def constants(file: Path) -> dict[str, np.ndarray]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}


def test_quantized_banks_stay_small(features: Any, tmp_path: Path) -> None:
    """The graph carries codes and codebooks, and no row of the bank."""
    detector, how, folder = model(features, tmp_path, "patchcore_pq", coreset=1.0)
    export.export(folder, how, tmp_path / "graph.onnx")
    head = {name: array for name, array in constants(tmp_path / "graph.onnx").items() if name.startswith("head.bank")}
    np.testing.assert_array_equal(head["head.bank.codes.value"], detector.codes.codes)
    assert 8 * sum(array.nbytes for array in head.values()) < detector.bank.nbytes


def test_half_the_bytes(features: Any, tmp_path: Path) -> None:
    detector, how, folder = model(features, tmp_path, "patchcore")
    export.export(folder, how, tmp_path / "graph.onnx", dtype="float16")
    held = constants(tmp_path / "graph.onnx")
    assert {str(array.dtype) for array in held.values() if array.dtype.kind == "f" and array.size >= 1024} == {
        "float16"
    }
    assert held["head.bank.bank.value.half"].shape == detector.bank.shape
    scores = run(tmp_path / "graph.onnx", TEST)[0]
    expected = detector.predict(features(TEST), how).scores
    np.testing.assert_allclose(scores, expected, rtol=0.02)
    assert np.abs(scores / expected - 1).max() > 1e-6


@pytest.fixture
def normal(tmp_path: Path) -> Path:
    return write_normal(tmp_path)


def write_normal(parent: Path) -> Path:
    """A folder of images to calibrate with."""
    folder = parent / "normal"
    folder.mkdir()
    for index, image in enumerate(TRAIN[:6]):
        Image.fromarray(image).resize((100, 90)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def int8(deep_features: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path, Path, dict[str, str]]:
    """A detector, how it scores, its folder, its graph in 8 bits, and the graph's metadata."""
    folder = tmp_path_factory.mktemp("int8")
    detector, how, directory = model(deep_features, folder, "patchcore")
    told = export.export(directory, how, folder / "int8.onnx", dtype="int8", calibrate=write_normal(folder))
    return detector, how, directory, folder / "int8.onnx", told


def test_int8_is_near_and_small(deep_features: Any, int8: Any, tmp_path: Path) -> None:
    detector, how, folder, file, told = int8
    assert told["calibration_images"] == "6"
    held = constants(file)
    assert sum(array.dtype == np.int8 and array.ndim == 4 for array in held.values()) == 18  # of 33 convolutions
    assert {array.dtype.name for name, array in held.items() if name.startswith("head.")} <= {"float32", "int64"}
    export.export(folder, how, tmp_path / "exact.onnx")
    scores = run(file, TEST)[0]
    expected = detector.predict(deep_features(TEST), how).scores
    assert 1e-4 < np.abs(scores / expected - 1).max() < 0.1
    assert scores[: len(NORMAL)].max() < scores[len(NORMAL) :].min()


def test_int8_products_do_not_saturate(int8: Any) -> None:
    """Two products of a byte and a weight are added in 16 bits where a processor has no VNNI instructions."""
    *_, file, _ = int8
    weights = [array for array in constants(file).values() if array.dtype == np.int8 and array.ndim == 4]
    assert {int(np.abs(array.astype(int)).max()) for array in weights} == {64}
    assert 2 * 255 * 64 < 2**15
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # the same graph in float32
    exact = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    reference = exact.run(["score"], {"image": TEST})[0]
    np.testing.assert_allclose(run(file, TEST)[0], reference, rtol=0.03)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["adshift", "export", *map(str, arguments)])
    _main()


def test_the_command(features: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    detector, how, folder = model(features, tmp_path, "padim_diagonal")
    monkeypatch.chdir(tmp_path)
    command(monkeypatch, folder, "--params", ROOT / "params.yaml")
    assert "the graph resizes to 80 x 80" in capsys.readouterr().out
    assert_same(run(tmp_path / "padim_diagonal-dots-float32.onnx", TEST), detector.predict(features(TEST), how))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "tensorrt"], r"format tensorrt is unknown\n.*--format onnx"),
        (["--format", "onnx", "--dtype", "int4"], r"dtype int4 is unknown\n.*float32, float16, int8"),
        (["--format", "onnx", "--input", "int8"], "input int8 is unknown"),
        (["--format", "onnx", "--layout", "HWC"], "layout HWC is unknown"),
        (["--format", "onnx", "--opset", "9"], r"opset 9 is not supported\n.*choose 18 to 23"),
        (["--format", "onnx", "--dtype", "int8"], "int8 needs normal images"),
        (["--format", "onnx", "--calibrate", "somewhere"], "nothing else does"),
        (["--format", "onnx", "--dtype", "int8", "--calibrate", "nowhere"], "nowhere: no image to calibrate with"),
        (["--format", "onnx", "--params", "nowhere.yaml"], r"nowhere\.yaml"),
    ],
)
def test_wrong_arguments_are_told(
    features: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    _, _, folder = model(features, tmp_path, "padim_diagonal")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").symlink_to(ROOT / "params.yaml")
    with pytest.raises(AdshiftError, match=message):
        command(monkeypatch, folder, *arguments)
    assert not list(tmp_path.glob("*.onnx"))


def test_no_model_and_methods_without_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AdshiftError, match=r"nowhere: no model directory"):
        command(monkeypatch, tmp_path / "nowhere", "--format", "onnx")
    for content, named in (({"method": "stfpm"}, "stfpm"), ({"method": "x"}, "x"), ([], "no known method")):
        (tmp_path / "model.json").write_text(json.dumps(content))
        with pytest.raises(AdshiftError, match=rf"a model of {named}, .*\n.*patchcore, patchcore_pq, padim, padim_str"):
            command(monkeypatch, tmp_path, "--format", "onnx")


def test_a_threshold_that_is_none(features: Any, tmp_path: Path) -> None:
    _, how, folder = model(features, tmp_path, "padim_diagonal")
    for content in ("{}", "[]", '{"threshold": "high"}', '{"threshold": NaN}'):
        (folder / "threshold.json").write_text(content)
        with pytest.raises(AdshiftError, match=r"threshold\.json: holds no threshold"):
            export.export(folder, how, tmp_path / "graph.onnx")


def test_a_network_of_a_spec_is_the_one_that_made_it(features: Any, backbone: Backbone, tmp_path: Path) -> None:
    spec = json.loads(json.dumps(features(TEST[:1]).spec))
    for found, expected in zip(from_spec(spec)(TEST), backbone(TEST), strict=True):
        np.testing.assert_array_equal(found, expected)
    other = {**spec, "weights": {**spec["weights"], "sha256": "0" * 64}}
    with pytest.raises(AdshiftError, match=r"sha256 5e984df53b00\.\.\., the model was .* 000000000000"):
        from_spec(other)
    with pytest.raises(AdshiftError, match=r"came from a file mine\.pth, .*\n.*--weights PATH"):
        from_spec({**spec, "weights": {**spec["weights"], "source": "file mine.pth"}})
    for damaged in ({}, {**spec, "layers": 3}, {**spec, "preprocessing": {}}, {**spec, "backbone": None}):
        with pytest.raises(AdshiftError, match="says of its features is damaged"):
            from_spec(damaged)


def test_features_in_half_precision_are_refused(features: Any, tmp_path: Path) -> None:
    _, how, folder = model(features, tmp_path, "padim_diagonal")
    record = json.loads((folder / "model.json").read_text())
    record["features"]["precision"] = "bfloat16"
    del record["checksum"]
    (folder / "model.json").write_text(json.dumps(record))
    with pytest.raises(AdshiftError, match=r"computed in bfloat16.*\n.*features\.precision: float32"):
        export.export(folder, how, tmp_path / "graph.onnx")
