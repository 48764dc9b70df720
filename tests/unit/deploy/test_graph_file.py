"""Exported files as models: the same verdicts as their directories, damage, recalibration, drift, and no torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import adshift
import trained
from adshift.deploy import export, graph_file, monitoring, recalibration
from adshift.deploy.graph import GraphModel
from adshift.errors import AdshiftError
from adshift.project.paths import models_path
from tiny import ROOT

NAME = trained.NAMES[0]


def directory(study: Path, method: str = "patchcore", model: str = NAME) -> Path:
    return study / models_path("mvtec", method) / model / "clean"


@pytest.fixture(scope="module")
def exported(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """{method}.onnx of each method, and unified.onnx."""
    folder = tmp_path_factory.mktemp("exported")
    for method, model, file in (
        *((one, NAME, one) for one in trained.METHODS),
        ("padim_diagonal", "unified", "unified"),
    ):
        source = directory(study, method, model)
        export.export(source, export.scoring(method, source, Path()), folder / f"{file}.onnx")
    return folder


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(exported / "padim_diagonal.onnx", tmp_path / "nut.onnx"))


@pytest.fixture(scope="module")
def images(study: Path) -> list[Path]:
    return sorted((study / "photos" / NAME).glob("test/*/*.png"))


@pytest.mark.parametrize("method", trained.METHODS)
def test_a_file_predicts_as_its_directory(study: Path, exported: Path, images: list[Path], method: str) -> None:
    theirs, ours = adshift.load(directory(study, method)), adshift.load(exported / f"{method}.onnx")
    assert isinstance(ours, GraphModel)
    for name in ("method", "threshold", "map_ratio", "bits", "resize", "crop", "channels"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.identity != theirs.identity
    mixed = [
        *images,
        images[0].read_bytes(),
        np.asarray(adshift.load(exported / f"{method}.onnx").read(images[1]).pixels),
    ]
    expected, found = theirs.predict(mixed), ours.predict(mixed)
    assert len({one.anomalous for one in found}) == 2
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, rel=2e-3)  # features are rounded to float16
        assert (one.name, one.anomalous, one.geometry) == (other.name, other.anomalous, other.geometry)
        assert one.anomaly_map.shape == other.anomaly_map.shape
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, rtol=0.01, atol=0.005 * other.anomaly_map.max())
        np.testing.assert_allclose(one.features, other.features, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(ours.reference.scores, theirs.reference.scores)
    np.testing.assert_array_equal(ours.reference.features, theirs.reference.features)
    assert [part.shape for part in ours.score([])] == [(0,), (0, ours.channels)]


def test_threads_change_no_bit(exported: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for threads in ("1", "2"):
        monkeypatch.setenv("ADSHIFT_THREADS", threads)
        predictions = adshift.load(exported / "patchcore.onnx").predict(images)
        found.append([(one.score, one.anomaly_map.tobytes()) for one in predictions])
    assert found[0] == found[1]


def test_a_file_is_complete(study: Path, exported: Path) -> None:
    about = adshift.load(exported / "patchcore.onnx").description  # type: ignore[attr-defined]
    source = directory(study)
    assert (about.method, about.class_name, about.domain) == ("patchcore", NAME, "clean")
    assert about.version == adshift.__version__
    card = json.loads((source / "card.json").read_text())
    card.pop("checksum", None)
    assert about.card == card
    threshold = json.loads((source / "threshold.json").read_text())
    threshold.pop("checksum", None)
    assert about.threshold.to_dict() == threshold
    onnx.checker.check_model(onnx.load(exported / "patchcore.onnx"))


def test_thresholds_of_a_file(exported: Path, copied: Path, images: list[Path]) -> None:
    model = adshift.load(copied)
    assert adshift.load(copied, threshold=2.5).threshold == 2.5
    (copied.parent / "mine.json").write_text('{"threshold": 1.5}')
    assert adshift.load(copied, threshold="mine.json").threshold == 1.5
    other = model.with_threshold(1.5)
    assert (other.threshold, other.map_ratio, model.threshold) == (1.5, model.map_ratio, adshift.load(copied).threshold)
    assert other.with_threshold(None).threshold == model.threshold
    assert other.predict(images[:1])[0].threshold == 1.5
    unified = exported / "unified.onnx"
    of_class = adshift.load(unified, class_name=NAME)
    assert of_class.threshold != adshift.load(unified).threshold
    with pytest.raises(AdshiftError, match="no threshold of nuts"):
        adshift.load(unified, class_name="nuts")


def test_every_flipped_byte_is_told(copied: Path) -> None:
    data = copied.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(data), 40):
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8)
        copied.write_bytes(damaged)
        with pytest.raises(AdshiftError, match=r"nut\.onnx: damaged"):
            adshift.load(copied)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "damaged"),
        (b"an image", "damaged"),
        (graph_file.sealed(b""), "damaged"),
        (graph_file.sealed(b"nonsense"), "not a graph that onnxruntime"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "nut.onnx").write_bytes(content)
    with pytest.raises(AdshiftError, match=rf"nut\.onnx: {words}"):
        adshift.load(tmp_path / "nut.onnx")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": None}, "method"),
        ({"features": "{"}, "Expecting"),
        ({"features": "{}"}, "size"),
        ({"threshold_record": '{"threshold": "high"}'}, "threshold"),
    ],
)
def test_metadata_of_no_model(copied: Path, changes: dict[str, str | None], words: str) -> None:
    file = onnx.load(copied)
    metadata = {prop.key: prop.value for prop in file.metadata_props if prop.key != "sha256"} | changes
    onnx.helper.set_model_props(file, {key: value for key, value in metadata.items() if value is not None})
    copied.write_bytes(graph_file.sealed(file.SerializeToString()))
    with pytest.raises(AdshiftError, match=rf"its metadata are not a model's \(.*{words}"):
        adshift.load(copied)


def test_a_damaged_reference_is_told(copied: Path) -> None:
    file = onnx.load(copied)
    metadata = {prop.key: prop.value for prop in file.metadata_props if prop.key != "sha256"}
    for value, words in (
        ("UEs=", "not a readable reference"),
        ("?", "not a readable reference"),
        (None, "holds no refer"),
    ):
        given = {key: text for key, text in (metadata | {"reference": value}).items() if text is not None}
        onnx.helper.set_model_props(file, given)
        copied.write_bytes(graph_file.sealed(file.SerializeToString()))
        with pytest.raises(AdshiftError, match=rf"nut\.onnx: {words}"):
            _ = adshift.load(copied).reference


def test_recalibrating_and_watching_a_file(copied: Path, study: Path) -> None:
    photos = study / "photos" / NAME
    path, result = monitoring.recalibrate(copied, str(photos / "train"), None, 0.3, None)
    assert path == copied.parent / "nut.threshold-1.json"
    assert (copied.parent / "nut.reference-1.npz").is_file()
    assert adshift.load(copied, threshold=path).threshold == result.threshold
    assert recalibration.name_of(copied, "nut.threshold-1.json") == recalibration.name_of(copied, "1") == "1"
    assert monitoring.recalibrate(copied, str(photos / "train"), None, 0.3, "mine")[0].name == "nut.threshold-mine.json"
    with pytest.raises(AdshiftError, match="is there already"):
        monitoring.recalibrate(copied, str(photos / "train"), None, 0.3, "mine")
    for model in (directory(study, "padim_diagonal"), copied):
        with pytest.raises(AdshiftError, match="10 images cannot tell at look 1, beside 2 reference images"):
            monitoring.drift(model, [str(photos / "train")])
    for threshold in ("1", "nut.threshold-1.json"):
        again = monitoring.drift(copied, [str(photos / "train")], threshold=threshold)
        assert (again["reference"], again["verdict"]) == (result.normal, "fine")


def test_a_file_without_a_threshold(study: Path, tmp_path: Path, images: list[Path]) -> None:
    source = Path(shutil.copytree(directory(study, "padim_diagonal"), tmp_path / "clean"))
    (source / "threshold.json").unlink()
    export.export(source, export.scoring("padim_diagonal", source, Path()), tmp_path / "nut.onnx")
    with pytest.raises(AdshiftError, match=r"nut\.onnx: has no threshold"):
        adshift.load(tmp_path / "nut.onnx")
    assert adshift.load(tmp_path / "nut.onnx", threshold=1.0).predict(images[:1])[0].threshold == 1.0


UNIMPORTABLE = (
    "torch", "timm", "torchvision", "anomalib", "sklearn", "pandas", "skimage", "scipy", "numba", "faiss", "dvc",
    "onnx", "requests", "ruamel", "jinja2", "safetensors", "fastapi", "lightning", "cv2",
)  # fmt: skip
SMALL = """
import sys
for name in {names}:
    sys.modules[name] = None
sys.argv = ["adshift", *sys.argv[1:]]
from adshift.cli import main
main()
"""


def small(*words: object) -> subprocess.CompletedProcess[str]:
    """`adshift WORDS...` where the packages of all extras cannot be imported."""
    command = [sys.executable, "-c", SMALL.format(names=UNIMPORTABLE), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT)


def test_a_small_install_predicts(exported: Path, images: list[Path], tmp_path: Path) -> None:
    done = small(
        "predict", exported / "patchcore.onnx", *images, "--boxes", "--json", "--out", tmp_path, "--overlays", "--masks"
    )
    assert done.returncode == 1, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    expected = adshift.load(exported / "patchcore.onnx").predict(images)
    assert [one["score"] for one in records] == [one.score for one in expected]
    assert any(one["boxes"] for one in records)
    assert len(list(tmp_path.glob("overlays/*.png"))) == len(list(tmp_path.glob("masks/*.png"))) == len(images)


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("drift", "FILE", "x.png"), "drift"),
        (("recalibrate", "FILE", "--normal", "x"), "drift"),
        (("predict", "DIRECTORY", "IMAGE"), "torch"),
        (("serve", "FILE"), "serve"),
        (("repro",), "study"),
        (("study", "list"), "study"),
        (("export", "DIRECTORY"), "torch"),
    ],
)
def test_a_small_install_says_which_extra(
    study: Path, exported: Path, images: list[Path], words: tuple[str, ...], extra: str
) -> None:
    places = {"FILE": exported / "patchcore.onnx", "DIRECTORY": directory(study), "IMAGE": images[0]}
    done = small(*(places.get(word, word) for word in words))
    assert done.returncode in (1, 2)
    assert f'pip install "adshift[{extra}]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_not_there_is_told_before_anything_heavy_is_loaded(study: Path, tmp_path: Path) -> None:
    for words, told in (
        (("predict", tmp_path / "no.onnx", "x.png"), "no.onnx: not there"),
        (("predict", tmp_path / "no", "x.png"), "model.json: not there"),
        (("predict", directory(study), tmp_path / "no.png"), "no.png: cannot be read (No such file"),
    ):
        done = small(*words)
        assert done.returncode == 2
        assert told in done.stderr
        assert "adshift[" not in done.stderr
