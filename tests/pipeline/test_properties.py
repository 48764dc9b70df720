"""What holds for whatever comes (hypothesis): params, splits, the shift's geometry, coreset, pixel metrics.

Of image-level metrics and of calibration, such tests stand with the others: tests/unit/evaluation/test_metrics_ranking.py,
tests/unit/evaluation/test_metrics_image.py, tests/unit/evaluation/test_calibration.py.
"""

# ruff: noqa: E501  (tables and strategies)

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from scipy.ndimage import binary_dilation, binary_erosion
from sklearn.metrics import average_precision_score, roc_auc_score

from adshift.data import split_file, splits
from adshift.data.shift import synthetic
from adshift.data.shift.synthetic import Affine, Crop, Draw
from adshift.errors import AdshiftError
from adshift.evaluation.metrics.pixel import pixel_metrics
from adshift.project import params
from adshift.search.coreset import greedy, greedy_in_chunks
from banks import plain
from items import images as images_of
from items import settings as split_settings

SHIPPED = YAML(typ="safe").load((Path(__file__).parents[2] / "params.yaml").read_text())
FILE = Path("params.yaml")


def few(examples: int) -> Any:
    """Without a deadline: the machine may be busy."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# ------------------------------------------------------------------------------------------------------------- params

LEAVES = [
    (section, *rest)
    for section, value in SHIPPED.items()
    for rest in ([()] if not isinstance(value, dict) else [(key,) for key in value])
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4),
    max_leaves=6,
)


def with_leaf(leaf: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed = {key: dict(part) if isinstance(part, dict) else part for key, part in SHIPPED.items()}
    if len(leaf) == 1:
        changed[leaf[0]] = value
    else:
        changed[leaf[0]][leaf[1]] = value
    return changed


@few(100)
@given(st.sampled_from(LEAVES), ANYTHING)
def test_any_value_of_any_parameter_is_taken_as_it_is_or_refused_by_name(leaf: tuple[str, ...], value: Any) -> None:
    values = with_leaf(leaf, value)
    try:
        params._check_plain(values, FILE)
        found = params.validate(values, FILE)
    except AdshiftError as error:
        assert f"params.yaml: {'.'.join(leaf)}" in error.what and error.remedy
        return
    for name in leaf:
        found = getattr(found, name)
    wanted = tuple(value) if isinstance(value, list) else value
    assert (type(found) is type(wanted) or (type(found), type(wanted)) == (float, int)) or hasattr(
        found, "model_fields"
    )
    assert found == wanted or hasattr(found, "model_fields")


@few(40)
@given(st.tuples(st.floats(-180, 180), st.floats(-180, 180)))
def test_ranges_are_kept_in_order_or_refused(pair: tuple[float, float]) -> None:
    values = with_leaf(("shift", "geometry"), {**SHIPPED["shift"]["geometry"], "rotation": list(pair)})
    if pair[0] > pair[1]:
        with pytest.raises(AdshiftError, match=r"shift\.geometry\.rotation: .*lies above"):
            params.validate(values, FILE)
    else:
        assert params.validate(values, FILE).shift.geometry.rotation == pair


# ------------------------------------------------------------------------------------------------------------- splits

COUNTS = st.tuples(st.integers(3, 40), st.integers(1, 10), st.dictionaries(
    st.sampled_from(["cut", "hole", "spot"]), st.integers(1, 12), min_size=1))  # fmt: skip
FRACTIONS = st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95))


@few(150)
@given(COUNTS, FRACTIONS, st.sampled_from(["study", "official"]), st.integers(1, 50) | st.none(), st.floats(0, 0.4),
       st.integers(0, 2**32 - 1), st.randoms())  # fmt: skip
def test_splits(
    counts: Any, fractions: Any, protocol: str, most: int | None, bad: float, seed: int, order: Any
) -> None:
    """No image has two roles or none, none of test trains or validates but what is asked for, order does not matter."""
    items = images_of(*counts)
    how = split_settings(*fractions, most, protocol, bad)
    try:
        roles = splits.split(items, how, seed, "class")
    except AdshiftError as error:
        assert error.what.startswith("class class") and error.remedy
        return
    assert set(roles) == {item.name for item in items} and set(roles.values()) <= set(split_file.ROLES)
    parts = {part: set(split_file.names_of(roles, part)) for part in split_file.ROLES}
    assert sum(map(len, parts.values())) == len(items)

    trained, normal_test, defects = counts
    kind = Counter((role, name.split("/")[0], "/good/" in name) for name, role in roles.items())
    assert kind["test", "train", True] == 0  # the official training images never test
    assert kind["train", "test", True] == kind["val", "test", True] == 0  # nor the other way round
    assert kind["test", "test", True] == normal_test
    normal = kind["train", "train", True]
    moved = kind["train", "test", False]
    assert moved <= bad * (normal + moved) + 1e-9  # contamination does not exceed its share
    assert normal <= (most or trained)
    assert splits.training_count(how, {"train": trained, "test": normal_test}) == normal + moved
    if protocol == "official":
        assert not parts["val"] and normal == min(trained, most or trained)
    else:
        assert kind["val", "test", False] == splits._floor(fractions[1], sum(defects.values()))
        training = min(max(splits._floor(fractions[0], trained), 1), trained - 1)  # no side is left without an image
        assert kind["val", "train", True] == trained - training

    order.shuffle(items)
    assert splits.split(items, how, seed, "class") == roles


# -------------------------------------------------------------------------------------------------- the shift's geometry

SHARE = st.floats(0, 1)
AFFINE = st.builds(
    lambda rotation, scale, x, y: Affine(rotation=rotation, scale=scale, shift_x=x, shift_y=y),
    st.floats(-45, 45), st.floats(0.7, 1.3), st.floats(-0.3, 0.3), st.floats(-0.3, 0.3),
)  # fmt: skip
CROP = st.builds(
    lambda width, height, x, y: Crop(width=width, height=height, left=x * (1 - width), top=y * (1 - height)),
    st.floats(0.4, 1), st.floats(0.4, 1), SHARE, SHARE,
)  # fmt: skip


INSIDE = st.floats(0.35, 0.65)


@few(50)
@given(AFFINE | CROP, st.sampled_from(["reflect", "edge", "wrap", "constant"]), st.integers(24, 70), st.integers(24, 70),
       st.tuples(INSIDE, INSIDE, st.floats(0.15, 0.3)))  # fmt: skip
def test_image_and_mask_agree_to_a_pixel(geometry: Any, border: Any, height: int, width: int, disc: Any) -> None:
    """A white disc on black, and the disc as a mask, moved alike: what is marked is white, but for the disc's edge.

    The picture's outermost pixels are left out: of a disc that the picture cuts there, one sees a sliver.
    """
    row, column = np.mgrid[:height, :width]
    mask = np.hypot(row - disc[0] * height, column - disc[1] * width) < disc[2] * min(height, width)
    image = np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    drawn = Draw(geometry=geometry, border=border)
    seen, marked = synthetic.apply(image, drawn)[..., 0] > 127, synthetic.apply_mask(mask, drawn)
    assert marked.dtype == bool and marked.shape == mask.shape == seen.shape
    around = np.ones((3, 3), bool)
    assert not (marked & ~binary_dilation(seen, around))[1:-1, 1:-1].any()
    assert not (binary_erosion(seen, around, border_value=1) & ~marked)[1:-1, 1:-1].any()


# ------------------------------------------------------------------------------------------------------------ coreset

POINTS = st.tuples(
    st.integers(1, 80), st.integers(1, 6), st.integers(0, 2**16), st.sampled_from(["float", "grid", "same"])
)


@few(60)
@given(POINTS, SHARE, SHARE)
def test_coresets_are_those_of_the_plain_algorithm(points: Any, share: float, first: float) -> None:
    total, dimensions, seed, kind = points
    generator = np.random.default_rng(seed)
    rows = {
        "float": generator.normal(size=(total, dimensions)) * 10,
        "grid": generator.integers(0, 3, (total, dimensions)),
        "same": np.ones((total, dimensions)),
    }[kind].astype(np.float32)
    count, start = max(1, round(share * total)), min(int(first * total), total - 1)
    selected = greedy(rows.copy(), count, start)
    picks, squared = plain(rows, count, start)
    np.testing.assert_array_equal(selected.indices, picks)
    np.testing.assert_array_equal(selected.radii, np.sqrt(squared))
    assert len(set(selected.indices.tolist())) == count
    chunked = greedy_in_chunks(iter([rows.copy()]), total, count, start)
    np.testing.assert_array_equal(chunked.indices, picks)


# ------------------------------------------------------------------------------------------------------ pixel metrics


@few(80)
@given(
    st.integers(0, 2**16), st.integers(1, 4), st.integers(1, 12), st.sampled_from(["random", "ties", "constant"]), SHARE
)
def test_pixel_metrics_are_scikit_learns(seed: int, count: int, side: int, kind: str, share: float) -> None:
    generator = np.random.default_rng(seed)
    maps = generator.normal(size=(count, side, side)).astype(np.float32)
    maps = {"random": maps, "ties": maps.round(), "constant": np.zeros_like(maps)}[kind]
    masks = generator.random(maps.shape) < share
    found = pixel_metrics(maps, masks, 0.3)
    if masks.all() or not masks.any():
        assert found.auroc is None
        return
    assert found.auroc == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-9)
    assert found.auprc == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()), abs=1e-9)
    again = pixel_metrics(3 * maps - 5, masks, 0.3)  # order alone counts
    assert (again.auroc, again.pro) == (pytest.approx(found.auroc, abs=1e-6), pytest.approx(found.pro, abs=1e-6))
    if kind == "constant":
        assert found.auroc == 0.5
