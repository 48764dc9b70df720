"""PaDiM fed from stored feature maps against anomalib's own path from image to score."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from adshift.detectors.components.comoments import upper_triangles
from adshift.detectors.padim import Fit, Padim, Score
from adshift.errors import AdshiftError
from adshift.features.backbones import Backbone, cut, full_model
from adshift.features.settings import Features as Settings
from adshift.features.store import Features
from adshift.runtime.parallel import torch_threads
from adshift.search.kernels import quadratic_forms

SETTINGS = Settings(
    backbone="tf_efficientnet_lite0", weights=None, layers=None, resize=224, fit="squeeze", crop=None,
    tiles=None, options={},
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), precision="float32", dtype="float32",
    images=False, batch=4,
)  # fmt: skip


FIT, HOW = Fit(layers=(1, 2, 3), n_features=100), Score(smoothing=4.0)


@pytest.fixture(scope="module")
def backbone() -> Iterator[Backbone]:
    """One thread: convolutions on another number of threads differ in the last bits.

    The inverse covariances magnify that: anomalib's own maps differ by up to 4e-4 between 1 and 2 threads, or between
    memory layouts, of the same network. So its batch normalization is not folded away here: theirs is not.
    """
    backbone = Backbone(SETTINGS)
    backbone.network = backbone.fused = cut(full_model(SETTINGS), SETTINGS.backbone, backbone.names)
    with torch_threads(1):
        yield backbone


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Smooth random images: (14, 224, 224, 3) uint8, the last two with a bright square."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (14, 14, 14, 3)).astype(np.uint8)
    images = coarse.repeat(16, 1).repeat(16, 2)
    images[12:, 100:140, 60:90] = 255
    return images


def features(backbone: Backbone, images: np.ndarray, dtype: type = np.float32) -> Features:
    maps = [m.astype(dtype) for m in backbone(images)]
    layers = [{"name": n, "shape": list(m.shape[1:])} for n, m in zip(backbone.names, maps, strict=True)]
    spec = {"backbone": SETTINGS.backbone, "size": 224, "layers": layers}
    return Features.of([f"test/good/{i}" for i in range(len(images))], dict(enumerate(maps, 1)), spec)


@pytest.fixture(scope="module")
def fitted(backbone: Backbone, images: np.ndarray) -> Padim:
    model = Padim(FIT)
    model.fit(features(backbone, images[:10]), np.random.default_rng(1))
    return model


def anomalib_model(backbone: Backbone, images: np.ndarray, channels: np.ndarray) -> object:
    """anomalib's PadimModel on its own extractor with our weights, fitted on the images themselves."""
    import torch
    from anomalib.models.image.padim.torch_model import PadimModel

    model = PadimModel(SETTINGS.backbone, list(backbone.names), pre_trained=False, n_features=100)
    # Ours is cut behind the deepest layer kept: theirs has blocks that nothing here sees.
    outcome = model.feature_extractor.feature_extractor.load_state_dict(backbone.network.state_dict(), strict=False)
    assert not outcome.unexpected_keys
    assert not [key for key in outcome.missing_keys if not key.startswith(("blocks.5.", "blocks.6."))]
    model.idx = torch.from_numpy(channels)
    model.to(memory_format=torch.channels_last).train()
    model.feature_extractor.eval()
    model(tensor(images))
    model.fit()
    return model.eval()


def tensor(images: np.ndarray) -> object:
    import torch

    mean, std = (np.array(values, np.float32) for values in (SETTINGS.mean, SETTINGS.std))
    return torch.from_numpy(((images / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)).contiguous(
        memory_format=torch.channels_last
    )


def test_scores_and_maps_are_anomalibs(backbone: Backbone, images: np.ndarray, fitted: Padim) -> None:
    theirs = anomalib_model(backbone, images[:10], fitted.channels)(tensor(images[10:]))
    ours = fitted.predict(features(backbone, images[10:]), HOW)
    np.testing.assert_allclose(ours.scores, theirs.pred_score.numpy().ravel(), rtol=1e-4)
    np.testing.assert_allclose(ours.full_maps(), theirs.anomaly_map.numpy()[:, 0], rtol=1e-4)


def test_half_precision_features_change_scores_little(backbone: Backbone, images: np.ndarray, fitted: Padim) -> None:
    """What the default `features.dtype: float16` costs, beside the exact path above."""
    half = Padim(FIT)
    half.fit(features(backbone, images[:10], np.float16), np.random.default_rng(1))
    ours = half.predict(features(backbone, images[10:], np.float16), HOW).scores
    np.testing.assert_allclose(ours, fitted.predict(features(backbone, images[10:]), HOW).scores, rtol=2e-3)


def test_a_saved_model_predicts_the_same(tmp_path: Path, backbone: Backbone, images: np.ndarray, fitted: Padim) -> None:
    fitted.save(tmp_path / "model")
    test = features(backbone, images[10:])
    np.testing.assert_allclose(
        Padim.load(tmp_path / "model").predict(test, HOW).scores, fitted.predict(test, HOW).scores, rtol=1e-5
    )


def test_more_channels_than_there_are(backbone: Backbone, images: np.ndarray) -> None:
    model = Padim(Fit(layers=(1,), n_features=100))
    with pytest.raises(AdshiftError, match="n_features: 100 of 24"):
        model.fit(features(backbone, images[:2]), np.random.default_rng(1))


def test_one_training_image(backbone: Backbone, images: np.ndarray) -> None:
    with pytest.raises(AdshiftError, match="at least 2"):
        Padim(Fit(layers=(1,), n_features=4)).fit(features(backbone, images[:1]), np.random.default_rng(1))


def test_features_of_a_network_that_timm_does_not_have() -> None:
    generator = np.random.default_rng(0)
    arrays = {level: generator.normal(size=(6, side, side, 8)) for level, side in ((1, 8), (2, 4), (3, 2))}
    layers = [{"name": f"blocks.{3 * level}", "shape": list(maps.shape[1:])} for level, maps in arrays.items()]
    spec = {"backbone": "mcunet-in3", "size": 64, "layers": layers}
    model = Padim(Fit(layers=(1, 2, 3), n_features=10))
    model.fit(Features.of([f"{i}" for i in range(6)], arrays, spec), np.random.default_rng(1))
    assert model.mean.shape == (64, 10)


@pytest.mark.parametrize("dimensions", [1, 2, 17])
def test_half_of_a_symmetric_matrix_says_all_of_it(dimensions: int) -> None:
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((5, 3, dimensions)).astype(np.float32)
    matrices = generator.standard_normal((5, dimensions, dimensions)).astype(np.float32)
    matrices += matrices.transpose(0, 2, 1)
    found = np.empty((5, 3), np.float32)
    quadratic_forms(vectors, upper_triangles(matrices), found)
    wide = vectors.astype(float)
    np.testing.assert_allclose(found, np.einsum("pni,pij,pnj->pn", wide, matrices, wide), rtol=1e-4, atol=1e-4)
