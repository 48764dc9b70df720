"""Models in use: the same scores as the pipeline's, by path, array or reference; `adshift predict`; what is refused."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from threadpoolctl import threadpool_info

import adshift
import trained
from adshift import cli
from adshift.data.geometry import fit
from adshift.data.images import read_image
from adshift.data.manifest import path_of, read
from adshift.deploy import inference, predict, pull
from adshift.deploy.inference import Geometry, Model
from adshift.detectors import records
from adshift.detectors.records import Predictions, Reference
from adshift.errors import AdshiftError
from adshift.evaluation.pairs import pair
from adshift.features.backbones import Backbone, from_spec
from adshift.project.paths import models_path, scores_path
from adshift.runtime.files import read_json
from tiny import ROOT, flip

NAME = trained.NAMES[0]


def directory(study: Path, method: str = "patchcore", model: str = NAME, domain: str = "clean") -> Path:
    return study / models_path("mvtec", method) / model / domain


@pytest.fixture(scope="module")
def model(study: Path) -> Model:
    return adshift.load(directory(study))


@pytest.fixture(scope="module")
def files(study: Path) -> dict[str, str]:
    """{image's name: its path} of a class."""
    with contextlib.chdir(study):
        return {item.name: str(study / item.image) for item in read(path_of("mvtec", NAME, "clean"))}


@pytest.fixture
def copied(study: Path, tmp_path: Path) -> Path:
    """A model directory to damage."""
    return Path(shutil.copytree(directory(study), tmp_path / "model"))


def edit(path: Path, **values: Any) -> None:
    """Change a record by hand; without the checksum, which would be told first."""
    record = json.loads(path.read_text())
    record.pop("checksum", None)
    path.write_text(json.dumps(record | values))


@pytest.mark.parametrize("method", trained.METHODS)
@pytest.mark.parametrize("part", ["val", "test"])
def test_scores_are_the_pipelines(study: Path, files: dict[str, str], method: str, part: str) -> None:
    """To the bit, since these features were made in batches of one."""
    found = Predictions.load(study / scores_path(part, "mvtec", method, NAME, pair("clean", "clean"), NAME))
    assert len(found.names) >= 4
    model = adshift.load(directory(study, method))
    predictions = model.predict([files[name] for name in found.names])
    np.testing.assert_array_equal(np.float32([one.score for one in predictions]), found.scores)
    np.testing.assert_array_equal([one.anomaly_map for one in predictions], found.full_maps())
    assert [one.anomalous for one in predictions] == [float(score) >= model.threshold for score in found.scores]


def test_scores_and_features_are_those_of_the_reference(study: Path, model: Model, files: dict[str, str]) -> None:
    found = Predictions.load(study / scores_path("val", "mvtec", "patchcore", NAME, pair("clean", "clean"), NAME))
    normal = [name for name in found.names if "/good/" in name]
    scores, features = model.score([files[name] for name in normal])
    assert scores.shape == (len(normal),)
    np.testing.assert_array_equal(scores, model.reference.scores)
    np.testing.assert_array_equal(features, model.reference.features)
    assert [part.shape for part in model.score([])] == [(0,), (0, features.shape[1])]


def test_paths_pictures_and_arrays_are_one(model: Model, files: dict[str, str], tmp_path: Path) -> None:
    path = next(iter(files.values()))
    with Image.open(path) as picture:
        kinds = [path, Path(path), picture, picture.convert("RGBA"), read_image(path), model.read(path)]
        found = model.predict(kinds)
    assert len({one.score for one in found}) == 1
    assert [one.name for one in found] == [path, path, "image 2", "image 3", "image 4", path]
    grey = Image.fromarray(np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64))
    grey.save(tmp_path / "deep.png")
    cmyk = Image.open(path).convert("CMYK")
    cmyk.save(tmp_path / "cmyk.tif")
    for picture, name in ((grey, "deep.png"), (cmyk, "cmyk.tif")):
        from_memory, from_file = model.predict([picture, tmp_path / name])
        assert from_memory.score == from_file.score
    assert model.predict(path)[0].score == found[0].score  # one image alone


def test_a_score_does_not_depend_on_its_company(model: Model, files: dict[str, str]) -> None:
    paths = list(files.values())[:5]
    together = model.predict(paths)
    for batch in (1, 2, 5):
        again = model.predict(reversed(paths), batch=batch)[::-1]
        assert [one.score for one in again] == [one.score for one in together]
        np.testing.assert_array_equal([one.anomaly_map for one in again], [one.anomaly_map for one in together])


def test_a_network_whose_bits_hang_on_threads_has_one(
    model: Model, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]
) -> None:
    import torch

    monkeypatch.setenv("ADSHIFT_THREADS", "2")
    path = next(iter(files.values()))
    whole, used = Backbone.__call__, []

    def watched(network: Backbone, images: np.ndarray, *finish: Any) -> list[np.ndarray]:
        used.append(torch.get_num_threads())
        return whole(network, images, *finish)

    def shaken(network: Backbone, images: np.ndarray, *finish: Any) -> list[np.ndarray]:
        maps = watched(network, images, *finish)
        maps[-1][0, 0, 0, 0] += 1e-6 * torch.get_num_threads()
        return maps

    for network, threads in ((watched, 2), (shaken, 1)):
        monkeypatch.setattr(Backbone, "__call__", network)
        again = adshift.load(model.folder)
        used.clear()
        again.predict(path)
        again.predict([path, path])
        assert used == [threads, 1, 1]


def test_eight_threads_share_a_model(model: Model, files: dict[str, str]) -> None:
    import torch

    def threads() -> list[int]:
        return [torch.get_num_threads(), *(library["num_threads"] for library in threadpool_info())]

    paths = list(files.values())[:4]
    model.predict(paths)  # loads what it needs
    found = threads()
    alone = [(one.score, one.anomaly_map.tobytes()) for one in model.predict(paths)]

    def work(_: int) -> list[tuple[float, bytes]]:
        return [(one.score, one.anomaly_map.tobytes()) for one in model.predict(paths, batch=3)]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [alone] * 8
    assert threads() == found  # the caller's own settings


def test_a_prediction_says_where(model: Model, files: dict[str, str], tmp_path: Path) -> None:
    """A white square on an image of another size: its box and mask, in that image's pixels."""
    image = Image.open(next(path for name, path in files.items() if "/good/" in name)).resize((288, 144))
    pixels = np.asarray(image).copy()
    pixels[48:96, 96:192] = 255
    plain, marked = model.predict([np.asarray(image), pixels])
    assert marked.score > plain.score
    assert marked.anomalous
    left, top, right, bottom = marked.regions[0].box
    assert left < 144 < right
    assert top < 72 < bottom
    assert 0 <= left < right <= 288
    assert 0 <= top < bottom <= 144
    mask = marked.mask()
    assert mask.shape == (144, 288)
    assert mask.dtype == bool
    assert sum(region.area for region in marked.regions) == pytest.approx(mask.sum(), rel=0.05)
    assert mask[48:96, 96:192].mean() > 1.5 * mask.mean()  # the threshold lets through 5 % of normal images
    assert marked.regions[0].peak == marked.anomaly_map.max()
    assert marked.seconds > 0
    assert marked.anomaly_map.shape == (64, 64)


def test_regions_never_contradict_the_verdict(study: Path, files: dict[str, str]) -> None:
    paths = list(files.values())
    for threshold in (0.0, 1e9, None):
        for one in adshift.load(directory(study), threshold=threshold).predict(paths):
            assert bool(one.regions) == one.anomalous == bool(one.mask().any())


@pytest.mark.parametrize(
    ("height", "width", "resize", "crop"), [(50, 80, 64, None), (50, 80, 72, 64), (64, 64, 64, 32)]
)
def test_geometry_and_fit_agree(height: int, width: int, resize: int, crop: int | None) -> None:
    """A square of an image, found in the network's input, leads back to where it was, to a pixel of the input."""
    image = np.zeros((height, width), dtype=bool)
    image[20:30, 30:50] = True
    seen = fit(image, resize, crop)
    geometry = Geometry(height, width, resize, crop or resize)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    box = geometry.box(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
    np.testing.assert_allclose(box, (30, 20, 50, 30), atol=max(height, width) / resize + 1)
    back = geometry.enlarge(seen)
    assert back.shape == image.shape
    assert (back & image).sum() / (back | image).sum() > 0.8


def test_thresholds_may_be_others(study: Path, files: dict[str, str], copied: Path) -> None:
    path = next(iter(files.values()))
    model = adshift.load(copied)
    shifted = json.loads((copied / "threshold-shift.json").read_text())["threshold"]
    assert adshift.load(copied, threshold="threshold-shift.json").threshold == shifted
    (copied / "threshold-mine.json").write_text('{"threshold": 1.5}')  # a recalibration's: it knows no maps
    mine = adshift.load(copied, threshold=copied / "threshold-mine.json")
    assert (mine.threshold, mine.map_ratio) == (1.5, model.map_ratio)
    assert mine.map_threshold == 1.5 * model.map_ratio
    score = model.predict([path])[0].score
    for threshold, anomalous in ((score, True), (np.nextafter(score, np.inf), False)):
        model.threshold = threshold
        assert model.predict([path])[0].anomalous is anomalous
    unified = directory(study, model="unified")
    record = json.loads((unified / "threshold.json").read_text())
    assert adshift.load(unified).threshold == record["threshold"]
    assert adshift.load(unified, class_name=NAME).threshold == record["classes"][NAME]["threshold"]
    with pytest.raises(AdshiftError, match="no threshold of nuts"):
        adshift.load(unified, class_name="nuts")
    with pytest.raises(AdshiftError, match="no thresholds a class"):
        adshift.load(copied, class_name=NAME)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "model.json").unlink(), r"model\.json: not there"),
        (lambda folder: (folder / "model.json").write_text("[]"), "holds list"),
        (lambda folder: edit(folder / "model.json", method="os.system"), "no model of adshift"),
        (lambda folder: edit(folder / "model.json", method=["patchcore"]), "no model of adshift"),
        (
            lambda folder: edit(folder / "model.json", features={"backbone": "resnet18"}),
            "features is damaged|KeyError",
        ),
        (lambda folder: (folder / "score.json").write_text('{"neighbours": 0}'), r"score\.json: not its settings"),
        (lambda folder: (folder / "threshold.json").write_text("{"), r"threshold\.json: not readable"),
        (lambda folder: (folder / "threshold.json").write_text('{"threshold": "x"}'), "no threshold"),
        (lambda folder: (folder / "threshold.json").write_text('{"threshold": NaN}'), "no threshold"),
        (lambda folder: edit(folder / "threshold.json", threshold=True), r"threshold: input should be a valid number"),
        (lambda folder: edit(folder / "threshold.json", threshold="38"), r"threshold: input should be a valid number"),
        (lambda folder: edit(folder / "threshold.json", threshold=10**400), r"threshold\.json: holds no threshold"),
        (lambda folder: edit(folder / "threshold.json", map_ratio=1e308), r"map_ratio: input should be less than"),
        (lambda folder: edit(folder / "threshold.json", map_ratio=-1), r"map_ratio: input should be greater than"),
        (lambda folder: edit(folder / "threshold.json", normal=-1), r"normal: input should be greater than"),
        (lambda folder: edit(folder / "threshold.json", map_ration=1.0), r"map_ration: extra inputs"),
        (lambda folder: edit(folder / "score.json", smoothing=1e7), r"score\.json: not its settings \(smoothing"),
        (lambda folder: edit(folder / "score.json", smoothing=1e308), r"score\.json: not its settings \(smoothing"),
        (lambda folder: edit(folder / "score.json", smoothing=True), r"score\.json: not its settings \(smoothing"),
        (lambda folder: edit(folder / "score.json", neighbours="9"), r"score\.json: not its settings \(neighbours"),
        (lambda folder: edit(folder / "score.json", smoothing=10**400), r"score\.json: not its settings"),
        (lambda folder: edit(folder / "model.json", format=True), r"of format True"),
        (lambda folder: (folder / "threshold.json").unlink(), r"threshold\.json: not there"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x80" * 99), r"model\.safetensors: 99 bytes"),
    ],
)
def test_a_damaged_model_is_refused(copied: Path, damage: Any, words: str) -> None:
    damage(copied)
    with pytest.raises(AdshiftError, match=words):
        adshift.load(copied)


def test_weights_of_another_hash_are_refused(copied: Path) -> None:
    spec = json.loads((copied / "model.json").read_text())["features"]
    assert from_spec(spec).record["weights"] == spec["weights"]
    with pytest.raises(AdshiftError, match=r"fitted with package .*, 0000"):
        from_spec(spec | {"weights": spec["weights"] | {"sha256": "0" * 64}})
    with pytest.raises(AdshiftError, match=r"came from a file mine\.pth"):
        from_spec(spec | {"weights": {"source": "file mine.pth", "sha256": "0" * 64}})


def test_a_spec_that_the_network_does_not_obey_is_refused(copied: Path) -> None:
    features = json.loads((copied / "model.json").read_text())["features"]
    features["layers"][0]["shape"] = [1, 1, 1]
    edit(copied / "model.json", features=features)
    with pytest.raises(AdshiftError, match="the network makes"):
        adshift.load(copied)


def test_a_damaged_reference_is_told(copied: Path, files: dict[str, str]) -> None:
    (copied / "reference.npz").write_bytes(b"PK")
    model = adshift.load(copied)
    assert model.predict([next(iter(files.values()))])  # which needs none
    with pytest.raises(AdshiftError, match=r"reference\.npz: not a readable reference"):
        _ = model.reference


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": np.zeros(4)}, r"scores: float64 \(4,\), expected float32 of 1"),
        ({"scores": np.zeros((4, 1), np.float32)}, r"scores: float32 \(4, 1\), expected float32 of 1"),
        ({"scores": np.array(["38"] * 4)}, "scores: <U2"),
        ({"scores": np.full(4, np.nan, np.float32)}, "is not finite"),
        ({"features": np.zeros((3, 2), np.float32)}, r"scores \(4,\), features \(3, 2\)"),
        ({"features": np.zeros((0, 2), np.float32)}, r"features \(0, 2\)"),
        ({"features": None}, "features.npy"),
    ],
)
def test_a_reference_of_other_arrays_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    arrays = {"scores": np.zeros(4, np.float32), "features": np.zeros((4, 2), np.float32)} | change
    np.savez(tmp_path / "reference.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(AdshiftError, match=rf"reference\.npz: not a readable reference \(.*{words}"):
        Reference.load(tmp_path / "reference.npz")


def test_a_reference_that_unfolds_to_gigabytes_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MOST_REFERENCE", 1000)
    path = tmp_path / "reference.npz"
    np.savez_compressed(path, scores=np.zeros(4, np.float32), features=np.zeros((4, 63), np.float32))
    with pytest.raises(AdshiftError, match=r"features: \(4, 63\) takes more than 1000 bytes"):
        Reference.load(path)
    np.savez_compressed(path, scores=np.zeros(4, np.float32), features=np.zeros((4, 62), np.float32))
    assert Reference.load(path).features.shape == (4, 62)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((8, 8), np.uint8), r"image 0: uint8 \(8, 8\)"),
        (np.zeros((8, 8, 3)), "image 0: float64"),
        (np.zeros((0, 8, 3), np.uint8), "image 0: has no pixel"),
        (Image.new("F", (8, 8)), "image 0: has floating-point pixels"),
        (17, "image 0: int"),
        ("nowhere.png", r"nowhere\.png: cannot be read"),
    ],
)
def test_what_is_no_image_is_refused(model: Model, image: Any, words: str) -> None:
    with pytest.raises(AdshiftError, match=words):
        model.predict([image])


# The command.


def command(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `adshift predict`, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["adshift", "predict", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stopped:
            cli._main()
    return stopped.value.code, out.getvalue(), err.getvalue()  # type: ignore[return-value]


def test_the_command_goes_on_after_a_bad_file(study: Path, files: dict[str, str], tmp_path: Path) -> None:
    """Images of the same name in two folders, a name that is markup, a truncated file and one that is not there."""
    images, out = tmp_path / "images", tmp_path / "out"
    good, bad = files["test/good/000"], next(path for name, path in files.items() if "/hole/" in name)
    for name, source in (("a/1.png", good), ("b/1.png", bad), ("b/<img src=x onerror=alert(1)>.png", bad)):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, images / name)
    (images / "b/cut.png").write_bytes(Path(bad).read_bytes()[:200])
    (images / "b/notes.txt").write_text("no image")
    everything = ("--out", out, "--json", "--boxes", "--masks", "--overlays", "--batch", 2)
    code, said, told = command(directory(study), images, tmp_path / "none.png", *everything)
    assert code == 2
    records = [json.loads(line) for line in said.splitlines()]
    assert said == (out / "predictions.jsonl").read_text()
    names = ["a/1.png", "b/1.png", "b/<img src=x onerror=alert(1)>.png", "b/cut.png"]
    assert [one["image"] for one in records] == [*(str(images / name) for name in names), str(tmp_path / "none.png")]
    assert ["error" in one for one in records] == [False, False, False, True, True]
    assert "cut.png: damaged or truncated" in told
    assert "none.png: cannot be read" in told
    model = adshift.load(directory(study))
    expected = model.predict([images / name for name in names[:3]])
    for record, one in zip(records[:3], expected, strict=True):
        assert (record["score"], record["threshold"], record["anomalous"]) == (one.score, one.threshold, one.anomalous)
        assert [tuple(region["box"]) for region in record["boxes"]] == [region.box for region in one.regions]
        mask = np.asarray(Image.open(out / record["mask"])) > 0
        np.testing.assert_array_equal(mask, one.mask())
        assert Image.open(out / record["overlay"]).size == (64, 64)
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    pictures = {one[kind] for one in records[:3] for kind in ("mask", "overlay")}
    assert len(pictures) == 6
    assert written == {*pictures, "predictions.jsonl"}


def test_nothing_that_may_hide_an_image_is_normal(
    study: Path, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed subfolder and a link to nothing are failures; a linked one is looked at; other suffixes are told."""
    folder, normal = tmp_path / "images", ("--threshold", 1e9)
    for name in ("1.png", "sub/2.png", "../elsewhere/3.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(files["test/good/000"], folder / name)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "link/loop").symlink_to(folder)
    (folder / "4.jfif").touch()
    code, said, told = command(directory(study), folder, *normal, "--json")
    assert (code, len(said.splitlines())) == (0, 3)
    assert told == "passed over, no images by name: 1 (1 .jfif)\n"
    (folder / "gone").symlink_to("nowhere")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("images/sub"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    code, said, told = command(directory(study), folder, *normal, "--json")
    records = {Path(one["image"]).name: one for one in map(json.loads, said.splitlines())}
    assert code == 2
    assert {name for name, one in records.items() if "error" in one} == {"sub", "gone"}
    assert {name for name, one in records.items() if one.get("anomalous") is False} == {"1.png", "3.png"}
    assert records["sub"]["error"] == f"{folder}/sub: cannot be looked at (Permission denied)"
    assert "gone: cannot be looked at (No such file" in told


def test_exit_codes_and_lines(study: Path, files: dict[str, str]) -> None:
    path = files["test/good/000"]
    code, said, told = command(directory(study), path, "--threshold", 1e9)
    assert (code, told) == (0, "")
    assert said.split()[2] == "normal"
    assert said.rstrip().endswith(path)
    code, said, _ = command(directory(study), path, "--threshold", 0, "--boxes")
    assert code == 1
    assert said.split()[2] == "anomalous"
    code, said, _ = command(directory(study), "-", "--threshold", 1e9, "--json", stdin=f"{path}\n\n{path}\r\n")
    assert (code, [json.loads(line)["image"] for line in said.splitlines()]) == (0, [path, path])
    pattern = str(Path(path).parent / "*.png")
    assert len(command(directory(study), pattern, "--threshold", 1e9)[1].splitlines()) == 4
    unified = json.loads((directory(study, model="unified") / "threshold.json").read_text())["classes"][NAME]
    said = command(directory(study, model="unified"), path, "--class", NAME, "--json")[1]
    assert json.loads(said)["threshold"] == unified["threshold"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "x.png"], "nowhere/model.json: not there"),
        (["MODEL", "EMPTY"], "no image"),
        (["MODEL", "x*.png"], "x*.png: cannot be read"),
        (["MODEL", "IMAGE", "--threshold", "none.json"], "none.json: not there"),
        (["MODEL", "IMAGE", "--threshold", "nan"], "threshold nan"),
        (["MODEL", "IMAGE", "--batch", "0"], "--batch 0"),
        (["MODEL", "IMAGE", "--masks"], "--out DIR"),
        (["MODEL", "IMAGE", "--out", "IMAGE"], "cannot be written"),
        (["MODEL", "IMAGE", "--class", "nuts"], "no thresholds a class"),
        (["repo#patchcore/..", "IMAGE"], "no reference to a model"),
    ],
)
def test_mistakes_end_with_two(
    study: Path, files: dict[str, str], tmp_path: Path, arguments: list[str], words: str
) -> None:
    stands = {"MODEL": str(directory(study)), "IMAGE": files["test/good/000"], "EMPTY": str(tmp_path)}
    code, _, told = command(*(stands.get(word, word) for word in arguments))
    assert code == 2
    assert words in told


def test_names_are_shown_on_one_line() -> None:
    assert predict.shown("a\nb\x1b[31m\udcff é") == "a\\nb\\x1b[31m\\udcff é"
    assert predict._safe("../../<b>é\0") == "b"
    assert predict._safe("..") == "image"
    assert len(predict._safe("x" * 300)) == 80


# By reference.


def test_a_model_by_reference(study: Path, files: dict[str, str], tmp_path: Path) -> None:
    """From a git repository with a DVC remote, its workspace and cache gone: `REPO#METHOD/CLASS/DOMAIN@REV`."""
    repo, cache = tmp_path / "repo", tmp_path / "cache"
    repo.mkdir()
    shutil.copytree(study / "models", repo / "models")
    shutil.copy(study / "params.yaml", repo)

    def run(*arguments: str) -> str:
        bin_folder = Path(sys.executable).parent
        identity = {
            f"GIT_{role}_{part}": "test@example.org" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")
        }
        environment = {**os.environ, **identity, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
        return subprocess.run(arguments, cwd=repo, env=environment, check=True, capture_output=True, text=True).stdout

    run("git", "init", "-q", "-b", "main")
    run("dvc", "init", "-q")
    run("dvc", "add", "-q", "models/mvtec/patchcore")
    run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
    run("git", "add", "-A")
    run("git", "commit", "-q", "-m", "one")
    commit = run("git", "rev-parse", "HEAD").strip()
    with pytest.raises(AdshiftError, match="neither in a cache nor in a remote"):  # not pushed yet
        adshift.load(f"file://{repo}#patchcore/{NAME}/clean", cache=cache)
    run("dvc", "push", "-q")
    shutil.rmtree(repo / ".dvc" / "cache")
    shutil.rmtree(repo / "models" / "mvtec" / "patchcore")

    path = files["test/good/000"]
    expected = adshift.load(directory(study)).predict([path])[0].score
    for reference in (f"{repo}#patchcore/{NAME}/clean", f"file://{repo}#mvtec/patchcore/{NAME}/clean@main"):
        model = adshift.load(reference, cache=cache)
        assert model.predict([path])[0].score == expected
        origin = json.loads((model.folder / pull.ORIGIN).read_text())
        assert (origin["commit"], origin["path"]) == (commit, f"models/mvtec/patchcore/{NAME}/clean")
        ours = {one.name: one.read_bytes() for one in directory(study).iterdir()}
        theirs = {one.name: one.read_bytes() for one in model.folder.iterdir() if one.name != pull.ORIGIN}
        assert theirs == ours
    for reference, words in (
        (
            f"{repo}#patchcore/nuts/clean",
            rf"no model models/mvtec/patchcore/nuts/clean at HEAD(.|\n)*mvtec/patchcore/{NAME}/shift",
        ),
        (f"{repo}#patchcore/{NAME}/clean@v9", "no such revision"),
        (f"{tmp_path / 'no'}#patchcore/{NAME}/clean", "cannot be cloned"),
    ):
        with pytest.raises(AdshiftError, match=words):
            adshift.load(reference, cache=cache)
    pinned = f"{repo}#patchcore/{NAME}/clean@{commit}"
    for file in (*ours, pull.ORIGIN):  # what is damaged in the cache is fetched again
        flip(pull.fetch(pinned, cache) / file)
        kept = pull.fetch(pinned, cache)
        assert {one.name: one.read_bytes() for one in kept.iterdir() if one.name != pull.ORIGIN} == ours
        assert read_json(kept / pull.ORIGIN)["commit"] == commit
    shutil.rmtree(repo)  # a commit that was fetched is at hand
    assert pull.fetch(pinned, cache).is_dir()


@pytest.mark.parametrize(
    "reference",
    ["#a/b/c", "repo#a/b", "repo#a/b/c/d/e", "repo#a/../c", "repo#a/b/c@", "repo#a/b/c@--upload-pack=x", "repo#a//c"],
)
def test_what_is_no_reference_is_refused(reference: str) -> None:
    assert pull.is_reference(reference)
    with pytest.raises(AdshiftError, match="no reference to a model"):
        pull.fetch(reference)


def test_the_cache_is_where_the_desktop_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert pull.cache_folder() == tmp_path / "adshift" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert pull.cache_folder() == Path.home() / ".cache" / "adshift" / "models"


def test_importing_adshift_stays_cheap() -> None:
    code = "import sys, adshift; print([m for m in ('numpy', 'torch', 'PIL') if m in sys.modules]); adshift.load"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
    assert adshift.Model is inference.Model
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = adshift.nothing
