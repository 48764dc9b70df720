"""Models of anomalib as methods: against anomalib called by hand, their files, and what is said of bad sections."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adshift.detectors import anomalib_bridge, registry
from adshift.detectors.anomalib_bridge import Bridged
from adshift.detectors.components import pretrained, training
from adshift.errors import AdshiftError
from adshift.features.backbones import full_model
from adshift.features.settings import Features as Settings
from adshift.features.store import IMAGES, Features
from adshift.project import params
from tiny import ROOT

DFM = {
    "model": "Dfm", "weights": None, "epochs": None, "batch": 3, "backbone": "tf_efficientnet_lite0",
    "layer": "blocks.4", "pooling_kernel_size": 2,
}  # fmt: skip
DRAEM = {"model": "Draem", "weights": None, "epochs": 1, "batch": 4, "sspcab": True}
FASTFLOW = {
    "model": "Fastflow", "weights": None, "epochs": 2, "batch": 4, "backbone": "resnet18", "pre_trained": False,
    "flow_steps": 2,
}  # fmt: skip


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def images(count: int, seed: int, side: int = 64) -> Features:
    values = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    spec = {
        "size": side, "layers": [{"name": "x", "file": "level1.npy", "shape": [2, 2, 3]}], "preprocessing": {},
        "backbone": "tf_efficientnet_lite0",
    }  # fmt: skip
    maps = np.zeros((count, 2, 2, 3), np.float32)
    return Features.of([f"train/good/{index}" for index in range(count)], {IMAGES: values, 1: maps}, spec)


def fitted(method: str, section: dict[str, Any], normal: Features, seed: int = 1) -> Bridged:
    halves = registry.halves(method, section)
    detector: Bridged = registry.detector_class(method)(registry.schemas(method)["fit"].of(halves["fit"]))
    detector.fit(normal, np.random.default_rng(seed))
    return detector


SCORE = anomalib_bridge.Score()


@pytest.mark.parametrize("own", [{}, {"mean": (0.5, 0.4, 0.6), "std": (0.5, 0.25, 0.5)}], ids=["imagenet", "own"])
def test_dfm_by_hand(own: dict[str, Any]) -> None:
    """anomalib's own torch model with the packaged weights, fed by hand; normalized as its section says."""
    from anomalib.models.image.dfm.torch_model import DFMModel

    normal, test = images(8, 0), images(4, 1)
    ours = fitted("anomalib_dfm", {**DFM, **own}, normal).predict(test, SCORE)

    shipped = dict(params.load("features", path=ROOT / "params.yaml").features)
    model = DFMModel("tf_efficientnet_lite0", "blocks.4", pre_trained=False, pooling_kernel_size=2, n_comps=0.97)
    outcome = model.feature_extractor.feature_extractor.load_state_dict(
        full_model(Settings.within(shipped)).state_dict(), strict=False
    )
    assert not outcome.missing_keys
    mean, std = (torch.tensor((IMAGENET | own)[key]).view(1, 3, 1, 1) for key in ("mean", "std"))

    def inputs(features: Features) -> torch.Tensor:
        return ((torch.from_numpy(features.images()).permute(0, 3, 1, 2) / 255 - mean) / std).contiguous()

    with torch.no_grad():
        model.train()
        model(inputs(normal))
        model.fit()
        model.eval()
        theirs = model(inputs(test))
    np.testing.assert_allclose(ours.scores, theirs.pred_score.numpy(), rtol=1e-4)
    np.testing.assert_allclose(ours.maps, theirs.anomaly_map[:, 0].numpy(), rtol=1e-3, atol=1e-4)
    assert ours.scores.std() > 0.001 * ours.scores.mean()


def test_a_mean_for_a_model_that_does_not_normalize_is_refused() -> None:
    section = {"model": "Draem", "weights": None, "epochs": 1, "batch": 4, "mean": (0.5, 0.5, 0.5)}
    with pytest.raises(AdshiftError, match="anomalib_draem: this model of anomalib does not normalize") as error:
        fitted("anomalib_draem", section, images(4, 0))
    assert error.value.remedy == "leave mean and std out"


@pytest.mark.parametrize(("method", "section"), [("anomalib_dfm", DFM), ("anomalib_flow", FASTFLOW)])
def test_the_contract_of_a_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, section: dict[str, Any]
) -> None:
    """Equal bytes on any number of threads, a round trip, scores of an image alone and among others."""
    normal, test, files, scores = images(6, 0), images(3, 1), [], []
    for threads in ("1", "2"):
        monkeypatch.setenv("ADSHIFT_THREADS", threads)
        np.random.seed(int(threads))  # what libraries draw from, and must not show
        detector = fitted(method, section, normal)
        detector.save(tmp_path / threads)
        files.append({path.name: path.read_bytes() for path in (tmp_path / threads).iterdir()})
        scores.append(detector.predict(test, SCORE))
    assert files[0] == files[1]
    loaded = registry.detector_class(method).load(tmp_path / "2")
    again, alone = loaded.predict(test, SCORE), loaded.predict(test[1:2], SCORE)
    for one in scores:
        np.testing.assert_array_equal(one.scores, again.scores)
        np.testing.assert_array_equal(one.maps, again.maps)
    assert again.scores[1] == alone.scores[0]
    assert again.maps.shape == (3, 64, 64)
    assert again.full_maps().shape == (3, 64, 64)
    with pytest.raises(AdshiftError, match="another network"):
        loaded.predict(Features.of(["a"], {}, {**test.spec, "size": 32}), SCORE)
    other = fitted(method, section, normal, seed=2).predict(test, SCORE)
    assert method == "anomalib_dfm" or not np.array_equal(other.scores, again.scores)


def test_names_and_sections() -> None:
    assert registry.is_bridged("anomalib_dfm")
    for name in ("anomalib_", "anomalib_Dfm", "anomalib_a.b", "anomalib-dfm", "dfm", "anomalib_a@b"):
        assert not registry.is_bridged(name)
    assert registry.detector_class("anomalib_dfm").label == "anomalib: dfm"
    assert registry.detector_class("anomalib_dfm") is registry.detector_class("anomalib_dfm")
    halves = registry.halves("anomalib_dfm", DFM)
    assert halves["score"] == {}
    assert registry.schema("anomalib_dfm")(**DFM).layer == "blocks.4"
    assert {key: value for key, value in halves["fit"].items() if key != "weights_sha256"} == DFM
    with pytest.raises(AdshiftError, match="'anomalib_X' is unknown"):
        registry.detector_class("anomalib_X")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": "Dfn"}, r"anomalib_dfm\.model: anomalib has no model Dfn"),
        ({"layers": ("a",)}, r"anomalib_dfm\.layers: Dfm has no argument of this name"),
        ({"pca_level": "high"}, r"anomalib_dfm\.pca_level: 'high'.*number"),
        ({"evaluator": False}, r"anomalib_dfm\.evaluator: Dfm has no argument of this name"),
    ],
)
def test_a_section_is_checked_against_the_models_signature(changed: dict[str, Any], message: str) -> None:
    settings = anomalib_bridge.Fit(**{**DFM, **changed})
    with pytest.raises(AdshiftError, match=message) as error:
        registry.check("anomalib_dfm", settings)
    assert error.value.remedy
    registry.check("anomalib_dfm", anomalib_bridge.Fit(**DFM))


def test_values_of_a_section_are_plain_and_bounded() -> None:
    for bad in ({"pca_level": 10**12}, {"layer": "x" * 300}, {"a": {"b": 1}}, {"batch": 0}, {"epochs": 0}):
        with pytest.raises(ValueError):
            anomalib_bridge.Fit(**{**DFM, **bad})


def test_weights_of_a_hub_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No stage asks a hub, whatever the network; the remedy names the file."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    section = {**DFM, "backbone": "resnet18", "layer": "layer3"}
    with pytest.raises(
        AdshiftError, match=r"weights of resnet18 are in no package and not in the hub's cache"
    ) as error:
        fitted("anomalib_dfm", section, images(3, 0))
    assert "anomalib_dfm.weights: PATH" in error.value.remedy


def test_a_model_that_needs_a_download_says_so() -> None:
    section = {"model": "EfficientAd", "weights": None, "epochs": 1, "batch": 1, "imagenet_dir": "./nowhere"}
    with pytest.raises(AdshiftError, match=r"anomalib_e: .*EfficientAd could not be fitted") as error:
        fitted("anomalib_e", section, images(3, 0))
    assert "docs/anomalib.md" in error.value.remedy


def test_a_model_without_maps() -> None:
    """Its map is one position with the score, and it does not localize, so pixel metrics are null."""
    section = {"model": "Dfkde", "weights": None, "epochs": None, "batch": 4, "backbone": "resnet18"}
    detector = fitted("anomalib_k", {**section, "layers": ["layer3"], "pre_trained": False}, images(20, 0))
    found = detector.predict(images(3, 1), SCORE)
    assert found.maps.shape == (3, 1, 1)
    assert not found.localized
    np.testing.assert_allclose(found.full_maps(), np.broadcast_to(found.scores[:, None, None], (3, 64, 64)))


def test_weights_are_those_that_were_checked(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    file = tmp_path / "w.safetensors"
    save_file({name: one.contiguous() for name, one in timm.create_model("resnet18").state_dict().items()}, file)
    section = {**DFM, "backbone": "resnet18", "layer": "layer3", "weights": str(file)}
    halves = registry.halves("anomalib_dfm", section)
    detector = registry.detector_class("anomalib_dfm")(anomalib_bridge.Fit.of(halves["fit"]))
    detector.fit(images(4, 0), np.random.default_rng(0))
    detector.save(tmp_path / "model")
    about = json.loads((tmp_path / "model/model.json").read_text())["settings"]
    assert (about["weights"], about["weights_sha256"]) == ("w.safetensors", halves["fit"]["weights_sha256"])
    registry.detector_class("anomalib_dfm").load(tmp_path / "model")  # holds its backbone
    save_file({name: one.contiguous() for name, one in timm.create_model("resnet18").state_dict().items()}, file)
    with pytest.raises(
        AdshiftError, match=r"w\.safetensors has sha256 [0-9a-f]{12}\.\.\., but [0-9a-f]{12}\.\.\. when"
    ):
        detector.fit(images(4, 0), np.random.default_rng(0))
    with pytest.raises(AdshiftError, match="is not a file"):
        registry.halves("anomalib_dfm", {**section, "weights": str(tmp_path / "none.pth")})


def test_the_network_is_closed_to_this_thread_alone() -> None:
    from concurrent.futures import ThreadPoolExecutor

    def resolved() -> bool:
        return bool(socket.getaddrinfo("127.0.0.1", 80))

    with pretrained.offline():
        with pytest.raises(OSError, match="no stage connects"):
            socket.create_connection(("127.0.0.1", 9), timeout=1)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(resolved).result()
    assert resolved()


def test_a_model_that_is_not_its_state_dict_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    restore: Callable[..., Any] = training.restore

    def lossy(network: Any, arrays: Any) -> Any:
        return restore(network, {name: one * 0 if "pca" in name else one for name, one in arrays.items()})

    monkeypatch.setattr(training, "restore", lossy)
    with pytest.raises(AdshiftError, match="keeps part of its fit outside its state dict"):
        fitted("anomalib_dfm", DFM, images(6, 0))


@pytest.mark.parametrize("damage", ["missing", "other"])
def test_a_damaged_model_is_refused(tmp_path: Path, damage: str) -> None:
    from safetensors.numpy import load_file

    detector = fitted("anomalib_dfm", DFM, images(6, 0))
    detector.save(tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    name = next(one for one in arrays if one.endswith("conv_stem.weight"))
    arrays = {key: one for key, one in arrays.items() if key != name} if damage == "missing" else {
        **arrays, name: np.zeros((1, 2), np.float32)
    }  # fmt: skip
    fresh = registry.detector_class("anomalib_dfm")(detector.settings)
    fresh.spec = json.loads((tmp_path / "model.json").read_text())["features"]
    with pytest.raises(AdshiftError, match="no Dfm of anomalib"):
        fresh.from_arrays(tmp_path, arrays)
