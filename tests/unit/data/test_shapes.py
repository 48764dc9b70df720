"""Shapes of inputs: what of a padded one shows the image, and which shape suits a set of images."""

import numpy as np
import pytest

from adshift.data.geometry import fit, network_input
from adshift.data.shapes import Proposal, compact, content, positions, propose, sides
from adshift.errors import AdshiftError


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_square_is_recorded_as_its_side() -> None:
    assert (compact(224), compact((224, 224)), compact([64, 32])) == (224, 224, (64, 32))
    assert (sides(7), sides([3, 5])) == ((7, 7), (3, 5))


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((512, 1408), 224, (81, 224)),
        ((1408, 512), 224, (224, 81)),
        ((100, 100), (64, 128), (64, 64)),
        ((50, 100), (64, 128), (64, 128)),
        ((1, 5000), 32, (1, 32)),
        ((20, 10), (64, 64), (64, 32)),  # smaller than the input: enlarged
    ],
)
def test_content_keeps_the_aspect(shape: tuple[int, int], size: int, expected: tuple[int, int]) -> None:
    assert content(*shape, size) == expected


def test_positions_count_those_whose_centre_is_inside() -> None:
    assert positions((224, 224), 224, (28, 28)) == (28, 28)
    assert positions((81, 224), 224, (28, 28)) == (10, 28)  # 10 * 8 + 4 = 84 lies outside
    assert positions((85, 224), 224, (28, 28)) == (11, 28)
    assert positions((1, 224), 224, (28, 14)) == (1, 14)


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (5, 8), (64, 64), (1, 300)])
def test_padding_repeats_the_border_of_the_image(shape: tuple[int, int]) -> None:
    found = network_input(image(*shape), (64, 96), None, "pad")
    height, width = content(*shape, (64, 96))
    assert found.shape == (64, 96, 3)
    np.testing.assert_array_equal(found[:height, :width], fit(image(*shape), (height, width)))
    assert (found[height:] == found[height - 1]).all()
    assert (found[:, width:] == found[:, width - 1 : width]).all()


@pytest.mark.parametrize("how", ["squeeze", "tile"])
def test_others_fill_the_input(how: str) -> None:
    np.testing.assert_array_equal(network_input(image(40, 90), (64, 96), None, how), fit(image(40, 90), (64, 96)))


def test_a_rectangle_is_cropped_at_its_centre() -> None:
    whole = fit(image(50, 70), (40, 60))
    np.testing.assert_array_equal(fit(image(50, 70), (40, 60), (32, 40)), whole[4:36, 10:50])
    with pytest.raises(AdshiftError, match="cannot be cut"):
        fit(image(50, 70), (40, 60), 48)


def test_the_median_aspect_decides_the_shape() -> None:
    wide = propose([(512, 1408)] * 3 + [(100, 100)])
    assert (wide.resize, wide.cost) == ((224, 608), 608 / 224)
    assert "[224, 608]" in str(wide)
    assert "2.7 times" in str(wide)
    assert propose([(1408, 512)], side=256).resize == (704, 256)
    assert propose([(100, 115), (100, 115)]) == Proposal(224, 1.15, 1.0)
    assert propose([(10, 10_000)]).resize == (224, 2048)
