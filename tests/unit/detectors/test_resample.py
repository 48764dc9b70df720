"""The small matrices against torch and anomalib, on the sizes and the edges where they could differ."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from anomalib.models.components import GaussianBlur2d

from adshift.detectors.resample import average_pool, bilinear, enlarge, gaussian

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def maps(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("size_in", "size_out"), [(14, 28), (28, 224), (7, 7), (13, 29), (1, 5), (9, 4), (5, 1)])
def test_bilinear_is_torchs(size_in: int, size_out: int) -> None:
    x, matrix = maps(2, size_in, size_in), bilinear(size_in, size_out)
    expected = F.interpolate(torch.from_numpy(x)[:, None], (size_out, size_out), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(matrix @ x @ matrix.T, expected[:, 0].numpy(), **CLOSE)


def test_bilinear_to_the_same_size_changes_nothing() -> None:
    for size in (1, 7, 28, 49):
        assert (bilinear(size, size) == np.eye(size)).all()


@pytest.mark.parametrize("size", [1, 2, 7, 28])
@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_average_pool_is_torchs(size: int, window: int, stride: int) -> None:
    x, matrix = maps(2, size, size), average_pool(size, window, stride)
    expected = F.avg_pool2d(torch.from_numpy(x)[:, None], window, stride, window // 2)
    np.testing.assert_allclose(matrix @ x @ matrix.T, expected[:, 0].numpy(), **CLOSE)


@pytest.mark.parametrize(("size", "sigma"), [(224, 4.0), (40, 2.0), (64, 0.7), (33, 3.3)])
def test_gaussian_is_anomalibs(size: int, sigma: float) -> None:
    x, matrix = maps(2, size, size), gaussian(size, sigma)
    kernel = 2 * int(4 * sigma + 0.5) + 1
    expected = GaussianBlur2d(kernel_size=(kernel, kernel), sigma=(sigma, sigma), channels=1)(
        torch.from_numpy(x)[:, None]
    )
    np.testing.assert_allclose(matrix @ x @ matrix.T, expected[:, 0].numpy(), **CLOSE)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 200])
def test_a_gaussian_keeps_a_constant_even_where_it_is_wider_than_the_map(size: int) -> None:
    np.testing.assert_allclose(gaussian(size, 4.0).sum(axis=1), 1, rtol=1e-6)


def test_no_smoothing_is_the_identity() -> None:
    assert (gaussian(9, 0.0) == np.eye(9)).all()


def test_enlarge_is_interpolation_then_blur() -> None:
    x = maps(3, 28, 20)
    large = F.interpolate(torch.from_numpy(x)[:, None], (64, 64), mode="bilinear", align_corners=False)
    expected = GaussianBlur2d(kernel_size=(33, 33), sigma=(4.0, 4.0), channels=1)(large)[:, 0].numpy()
    actual = enlarge(x, 64, 4.0)
    assert actual.shape == (3, 64, 64)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, **CLOSE)
