"""Vision transformers as backbones, against timm's own forward pass, with random weights."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from adshift.errors import AdshiftError
from adshift.features.backbones import TOKENS, Backbone, from_spec, usual_layers
from adshift.features.backbones.cost import describe
from adshift.features.extract import spec_of
from adshift.features.settings import Features
from adshift.project import params
from tiny import ROOT

TINY, DINO3 = "vit_tiny_patch16_224", "vit_small_patch16_dinov3.lvd1689m"


def settings(weights: str, **changes: object) -> Features:
    shipped = dict(params.load("features", path=ROOT / "params.yaml").features)
    return Features.within(
        {
            **shipped,
            "backbone": TINY,
            "weights": weights,
            "resize": 224,
            "batch": 2,
            "options": {"token_norm": True},
            **changes,
        }
    )


def images(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    return {name: timm.create_model(name).state_dict() for name in (TINY, DINO3)}


def saved(folder: Path, state: dict[str, torch.Tensor]) -> str:
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "w.safetensors")
    return str(folder / "w.safetensors")


def theirs(
    name: str, state: dict[str, torch.Tensor], pixels: np.ndarray, chosen: Features, norm: bool
) -> list[np.ndarray]:
    """timm's own intermediates, built for the size; its loader interpolates the position embeddings."""
    from timm.layers import resample_abs_pos_embed

    model = timm.create_model(name, img_size=pixels.shape[1:3]).eval()
    wanted = dict(state)
    if "pos_embed" in wanted and wanted["pos_embed"].shape != model.state_dict()["pos_embed"].shape:
        wanted["pos_embed"] = resample_abs_pos_embed(
            wanted["pos_embed"], new_size=list(model.patch_embed.grid_size), num_prefix_tokens=1
        )
    model.load_state_dict(wanted)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (chosen.mean, chosen.std))
    batch = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        maps = model.forward_intermediates(batch, indices=[3, 7, 11], norm=norm, intermediates_only=True)
    return [one.permute(0, 2, 3, 1).numpy() for one in maps]


@pytest.mark.parametrize(
    ("name", "size", "norm"),
    [(TINY, 224, True), (TINY, 128, False), (TINY, 128, True), (TINY, (96, 160), True), (DINO3, 128, True)],
)
def test_maps_are_timms(
    tmp_path: Path, states: dict[str, dict[str, torch.Tensor]], name: str, size: int | tuple[int, int], norm: bool
) -> None:
    chosen = settings(
        saved(tmp_path, states[name]), backbone=name, resize=size, options={"token_norm": True} if norm else {}
    )
    backbone, pixels = Backbone(chosen), images(*((size, size) if isinstance(size, int) else size))
    ours = backbone(pixels)
    assert backbone.names == usual_layers(name) == ("blocks.3", "blocks.7", "blocks.11")
    assert {maps.shape[1:3] for maps in ours} == {(pixels.shape[1] // 16, pixels.shape[2] // 16)}
    for one, other in zip(ours, theirs(name, states[name], pixels, chosen, norm), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4 * np.abs(other).max())
        assert not norm or one.std() > 0.9


def test_a_file_without_what_lies_behind(tmp_path: Path, states: dict[str, dict[str, torch.Tensor]]) -> None:
    """Up to block 5 with the last norm: the rest may be missing, the norm may not. The spec finds the network again."""
    part = {
        name: one for name, one in states[TINY].items()
        if not name.startswith(("head", *(f"blocks.{n}." for n in range(6, 12))))
    }  # fmt: skip
    chosen = settings(saved(tmp_path, part), layers=("blocks.2", "blocks.5"), resize=64)
    backbone = Backbone(chosen)
    assert all(name.startswith(("head", "blocks")) for name in backbone.record["weights"]["not_in_file"])
    again = from_spec(spec_of(backbone), tmp_path / "w.safetensors")
    for one, other in zip(backbone(images(64, 64)), again(images(64, 64)), strict=True):
        np.testing.assert_array_equal(one, other)
    del part["norm.weight"]
    with pytest.raises(AdshiftError, match=r"norm\.weight \(192,\) is not there"):
        Backbone(settings(saved(tmp_path, part), layers=("blocks.2", "blocks.5"), resize=64))


def test_a_size_that_patches_do_not_divide(tmp_path: Path, states: dict[str, dict[str, torch.Tensor]]) -> None:
    with pytest.raises(AdshiftError, match="no multiple of the transformer's patches of 16 pixels") as error:
        Backbone(settings(saved(tmp_path, states[TINY]), resize=100))
    assert "96" in error.value.remedy


def test_the_norm_is_for_transformers(tmp_path: Path) -> None:
    file = saved(tmp_path, timm.create_model("resnet18").state_dict())
    with pytest.raises(AdshiftError, match="token_norm is for transformers, and resnet18 is none"):
        Backbone(settings(file, backbone="resnet18", resize=64))


def test_tiles(tmp_path: Path, states: dict[str, dict[str, torch.Tensor]]) -> None:
    backbone = Backbone(settings(saved(tmp_path, states[TINY]), resize=(64, 128), fit="tile"))
    assert [maps.shape for maps in backbone(images(64, 128))] == [(2, 4, 8, 192)] * 3


def test_cost() -> None:
    """Published: ViT-Ti/16 has 5.72 M parameters; 1.26 G multiply-adds with attention."""
    profile = describe(TINY, repeats=1)
    assert profile.whole.parameters == pytest.approx(5.72e6, rel=0.01)
    assert profile.whole.multiply_adds == pytest.approx(1.26e9, rel=0.02)
    assert profile.cut.parameters < profile.whole.parameters
    assert profile.shapes == ((14, 14, 192),) * 3
    assert TINY in TOKENS


@pytest.mark.parametrize("method", ["patchcore", "padim"])
def test_detectors_and_their_graphs(tmp_path: Path, states: dict[str, dict[str, torch.Tensor]], method: str) -> None:
    """PatchCore and PaDiM on tokens, and the exported graph against both."""
    import onnxruntime

    from adshift.deploy.export import export
    from adshift.detectors import registry
    from adshift.features.store import Features as Maps

    file = saved(tmp_path, states[TINY])
    backbone = Backbone(settings(file, resize=64, dtype="float32"))
    section = dict(getattr(params.load_all(ROOT / "params.yaml"), method))
    section |= {"coreset": 0.5} if method == "patchcore" else {"n_features": 20}
    halves = registry.halves(method, section)
    kinds = registry.schemas(method)
    fit, score = (kinds[part].of(halves[part]) for part in ("fit", "score"))

    def maps(count: int, seed: int) -> tuple[np.ndarray, Maps]:
        pixels = np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
        levels = [one.astype(np.float32) for one in backbone(pixels)]
        return pixels, Maps.of(map(str, range(count)), dict(enumerate(levels, 1)), spec_of(backbone))

    detector = registry.detector_class(method)(fit)
    detector.fit(maps(6, 0)[1], np.random.default_rng(0))
    folder = tmp_path / method / "dots" / "clean"
    detector.save(folder)
    pixels, test = maps(2, 1)
    ours = detector.predict(test, score)
    export(folder, score, tmp_path / "model.onnx", weights=Path(file))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    scores, anomaly_maps = session.run(["score", "map"], {"image": pixels})
    np.testing.assert_allclose(scores, ours.scores, rtol=1e-3)
    np.testing.assert_allclose(anomaly_maps, ours.full_maps(), rtol=1e-2, atol=1e-3)
