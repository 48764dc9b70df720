"""What is drawn, what it does to an image and its mask, and that a record brings it back."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from adshift.data import images, manifest
from adshift.data.manifest import Item
from adshift.data.settings import Shift
from adshift.data.shift import synthetic
from adshift.data.shift.synthetic import Affine, Blur, Color, Crop, Draw, Linear, Noise, Radial
from adshift.errors import AdshiftError
from adshift.project.params import _validate

SIDE = 96
FAMILIES = ("geometry", "color", "illumination", "blur", "noise")
BASE = {
    "kind": "synthetic",
    "recorded": {"column": None, "pattern": "exp(.)", "shifted": ["4"]},
    "resolution": "image",
    "border": "reflect",
    "geometry": {"kind": "affine", "rotation": [-10, 10], "scale": [0.9, 1.0], "translation": 0.1,
                 "crop_area": [0.8, 1.0], "crop_aspect": [0.9, 1.1]},
    "color": {"enabled": True, "brightness": [0.7, 1.3], "contrast": [0.7, 1.3], "saturation": [0.7, 1.3]},
    "blur": {"enabled": True, "probability": 0.5, "kernels": [3, 5], "sigma": [0.1, 2.0]},
    "noise": {"enabled": True, "probability": 0.5, "sigma": [0.01, 0.05]},
    "illumination": {"enabled": True, "probability": 0.5, "kinds": ["linear", "radial"], "strength": [0.4, 0.7],
                     "smoothing": 80.0},
}  # fmt: skip
EVERYTHING = Draw(
    geometry=Affine(rotation=7.0, scale=0.93, shift_x=0.04, shift_y=-0.07),
    color=Color(brightness=1.2, contrast=0.8, saturation=1.25),
    illumination=Radial(strength=0.5, x=0.3, y=0.8, smoothing=80.0),
    blur=Blur(kernel=5, sigma=1.1),
    noise=Noise(sigma=0.03, seed=12345),
)


def settings(**changes: object) -> Shift:
    """The study's ranges, some leaves changed: `blur_probability=1`."""
    values = json.loads(json.dumps(BASE))
    for key, value in changes.items():
        family, _, leaf = key.partition("_")
        if leaf:
            assert leaf in values[family]
            values[family][leaf] = value
        else:
            values[key] = value
    return _validate("shift", values, Path("test"))


def picture(seed: int = 0, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def many(count: int = 400, **changes: object) -> list[Draw]:
    return [synthetic.draw(settings(**changes), 42, "nut", f"test/good/{place}") for place in range(count)]


# What is drawn


def test_draws_keep_to_their_ranges_and_fill_them() -> None:
    draws = many()
    affine = [drawn.geometry for drawn in draws]
    color = [drawn.color for drawn in draws]
    light = [drawn.illumination for drawn in draws if drawn.illumination]
    values = {
        (-10, 10): [g.rotation for g in affine],
        (0.9, 1.0): [g.scale for g in affine],
        (-0.1, 0.1): [g.shift_x for g in affine] + [g.shift_y for g in affine],
        (0.7, 1.3): [f for c in color for f in (c.brightness, c.contrast, c.saturation)],
        (0.4, 0.7): [entry.strength for entry in light],
        (0.1, 2.0): [drawn.blur.sigma for drawn in draws if drawn.blur],
        (0.01, 0.05): [drawn.noise.sigma for drawn in draws if drawn.noise],
    }
    for (low, high), drawn in values.items():
        assert low <= min(drawn) and max(drawn) <= high
        # Uniform: within five standard errors of the mean, and both ends reached.
        width = high - low
        assert abs(np.mean(drawn) - (low + high) / 2) < 5 * width / np.sqrt(12 * len(drawn))
        assert min(drawn) < low + 0.05 * width and max(drawn) > high - 0.05 * width
    for family in ("illumination", "blur", "noise"):
        assert abs(np.mean([getattr(drawn, family) is not None for drawn in draws]) - 0.5) < 5 * 0.5 / 20
    assert {drawn.blur.kernel for drawn in draws if drawn.blur} == {3, 5}
    assert {entry.kind for entry in light} == {"linear", "radial"}
    assert {entry.edge for entry in light if entry.kind == "linear"} == {"left", "right", "top", "bottom"}
    assert len({drawn.noise.seed for drawn in draws if drawn.noise}) > 150


def test_families_are_drawn_independently_of_each_other() -> None:
    draws = many()
    happens = np.array([[drawn.illumination is None, drawn.blur is None, drawn.noise is None] for drawn in draws])
    factors = np.array([[d.geometry.rotation, d.geometry.scale, d.color.brightness, d.color.contrast] for d in draws])
    correlation = np.corrcoef(np.hstack([happens, factors]).T) - np.eye(7)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(draws))


def test_crops_keep_to_their_ranges() -> None:
    crops = [drawn.geometry for drawn in many(geometry_kind="resized_crop")]
    area = np.array([crop.width * crop.height for crop in crops])
    aspect = np.array([crop.width / crop.height for crop in crops])
    assert area.min() >= 0.8 - 1e-9 and area.max() <= 1
    assert aspect.min() >= 0.9 - 1e-9 and aspect.max() <= 1.1 + 1e-9
    assert all(crop.left + crop.width <= 1 + 1e-12 and crop.top + crop.height <= 1 + 1e-12 for crop in crops)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_switched_off_alone(family: str) -> None:
    off = {"geometry_kind": "none"} if family == "geometry" else {f"{family}_enabled": False}
    before, after = many(60), many(60, **off)
    assert any(getattr(drawn, family) for drawn in before)
    assert not any(getattr(drawn, family) for drawn in after)
    for other in set(FAMILIES) - {family}:
        assert [getattr(drawn, other) for drawn in before] == [getattr(drawn, other) for drawn in after]


def test_a_probability_changes_who_is_drawn_but_not_what() -> None:
    half, always, never = many(60), many(60, blur_probability=1), many(60, blur_probability=0)
    assert all(drawn.blur for drawn in always)
    assert not any(drawn.blur for drawn in never)
    assert all(a.blur in (None, b.blur) for a, b in zip(half, always, strict=True))


def test_the_draw_depends_on_seed_and_names() -> None:
    draw = partial(synthetic.draw, settings())
    assert draw(42, "nut", "a") == draw(42, "nut", "a")
    assert (
        len({draw(*names).geometry for names in [(42, "nut", "a"), (43, "nut", "a"), (42, "nut", "b"), (42, "x", "a")]})
        == 4
    )


def test_a_geometry_that_loses_the_defect_is_drawn_again() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:6, :6] = True
    tries, lost = [], 0
    for place in range(100):
        drawn = synthetic.draw(settings(geometry_translation=0.3), 42, "nut", str(place), mask=mask)
        free = synthetic.draw(settings(geometry_translation=0.3), 42, "nut", str(place))
        assert synthetic.kept_share(mask, drawn.geometry) >= 0.5
        assert (drawn.geometry == free.geometry) == (drawn.tries == 1)
        lost += synthetic.kept_share(mask, free.geometry) < 0.5
        tries.append(drawn.tries)
    assert lost == sum(count > 1 for count in tries) > 20


def test_a_defect_that_no_geometry_keeps_is_kept_as_well_as_can_be() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[0, 0] = mask[0, -1] = mask[-1, 0] = mask[-1, -1] = True
    # Twice the size: no corner stays.
    drawn = synthetic.draw(settings(geometry_scale=[2, 2]), 42, "nut", "a", mask=mask)
    assert drawn.tries == synthetic.TRIES
    assert synthetic.kept_share(mask, drawn.geometry) == 0
    assert synthetic.apply(picture(), drawn).shape == (SIDE, SIDE, 3)
    # Two to four times the size: a quarter to a sixteenth of the whole stays, and the most is taken.
    everywhere = np.ones((SIDE, SIDE), bool)
    drawn = synthetic.draw(settings(geometry_scale=[2, 4]), 42, "nut", "a", mask=everywhere)
    assert drawn.tries == synthetic.TRIES
    assert synthetic.kept_share(everywhere, drawn.geometry) > 0.2


def test_kept_share_counts_the_pixels_that_stay() -> None:
    mask = np.zeros((10, 20), bool)
    mask[:, :4] = True
    half = Affine(rotation=0.0, scale=1.0, shift_x=-0.1, shift_y=0.0)  # two columns to the left
    assert synthetic.kept_share(mask, half) == 0.5
    assert synthetic.kept_share(mask, None) == 1


# Records


def test_a_record_brings_the_image_back_byte_for_byte() -> None:
    image = picture()
    for drawn in [*many(12), *many(12, geometry_kind="resized_crop", border="wrap"), EVERYTHING]:
        again = Draw.from_dict(json.loads(json.dumps(drawn.to_dict())))
        assert again == drawn
        assert np.array_equal(synthetic.apply(image, again), synthetic.apply(image, drawn))


@pytest.mark.parametrize(
    "damage",
    [{"more": 1}, {"border": "black"}, {"geometry": {"kind": "affine"}}, {"noise": {"sigma": "0.1", "seed": 1}},
     {"noise": {"sigma": float("nan"), "seed": 1}}, {"blur": {"kernel": 3, "sigma": 0.0}}],
)  # fmt: skip
def test_a_damaged_record_is_refused(damage: dict) -> None:
    with pytest.raises(AdshiftError, match="damaged"):
        Draw.from_dict({**EVERYTHING.to_dict(), **damage})


# Geometry


@pytest.mark.parametrize(
    "drawn",
    [
        Draw(),
        Draw(geometry=Affine(rotation=0.0, scale=1.0, shift_x=0.0, shift_y=0.0)),
        Draw(geometry=Crop(left=0.0, top=0.0, width=1.0, height=1.0)),
        Draw(color=Color(brightness=1.0, contrast=1.0, saturation=1.0)),
        Draw(illumination=Linear(strength=1.0, edge="top", smoothing=80.0)),
        Draw(noise=Noise(sigma=0.0, seed=1)),
    ],
)
def test_an_identity_leaves_every_byte(drawn: Draw) -> None:
    every = np.arange(256, dtype=np.uint8)
    image = np.stack([np.tile(every, (64, 1)), picture(0, 64, 256)[..., 0], np.tile(every[::-1], (64, 1))], axis=-1)
    before = image.copy()
    assert np.array_equal(synthetic.apply(image, drawn), image)
    assert np.array_equal(image, before)
    mask = image[..., 1] > 99
    assert np.array_equal(synthetic.apply_mask(mask, drawn), mask)


def test_the_geometry_moves_as_it_says() -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[20, 40] = 255
    move = Draw(geometry=Affine(rotation=0.0, scale=1.0, shift_x=0.125, shift_y=-0.25))
    assert np.argwhere(synthetic.apply(image, move)[..., 0] == 255).tolist() == [[10, 50]]  # right, and up

    image = np.zeros((41, 41, 3), np.uint8)
    image[20, 30] = 255  # to the right of the centre
    turn = Draw(geometry=Affine(rotation=90.0, scale=1.0, shift_x=0.0, shift_y=0.0))
    assert np.argwhere(synthetic.apply(image, turn)[..., 0] > 250).tolist() == [[10, 20]]  # counter-clockwise: above it
    shrink = Draw(geometry=Affine(rotation=0.0, scale=0.5, shift_x=0.0, shift_y=0.0), border="constant")
    assert np.argwhere(synthetic.apply(image, shrink)[..., 0] > 250).tolist() == [[20, 25]]


def test_a_crop_enlarges_its_box_to_the_image() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4, 4:] = 255  # the upper right quarter
    drawn = Draw(geometry=Crop(left=0.5, top=0.0, width=0.5, height=0.5), border="edge")
    shifted = synthetic.apply(image, drawn)
    assert (shifted[:7, 1:] == 255).all()
    mask = synthetic.apply_mask(image[..., 0] > 0, drawn)
    assert mask.all()

    ramp = np.arange(0, 256, 32, dtype=np.uint8)[None, :, None] * np.ones((8, 1, 3), np.uint8)
    # The box's left edge is at 3.5 in pixel centres; the result's first pixel lies half of its own width further.
    assert synthetic.apply(ramp, drawn)[4, :, 0].tolist()[:6] == [120, 136, 152, 168, 184, 200]


@pytest.mark.parametrize("border", ["reflect", "edge", "wrap", "constant"])
@pytest.mark.parametrize("kind", ["affine", "resized_crop"])
def test_the_mask_goes_where_the_image_goes(kind: str, border: str) -> None:
    row, column = np.mgrid[:120, :160]
    mask = (np.hypot(row - 40, column - 60) < 22) | ((row > 90) & (column > 120))  # a disc, and a corner
    image = np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    for drawn in many(25, geometry_kind=kind, border=border):
        geometry = Draw(border=drawn.border, geometry=drawn.geometry)
        seen, marked = synthetic.apply(image, geometry)[..., 0] > 127, synthetic.apply_mask(mask, geometry)
        assert marked.dtype == bool and marked.shape == mask.shape
        assert marked.any()
        assert not (marked & ~binary_dilation(seen, iterations=1)).any()
        assert not (binary_erosion(seen, iterations=1, border_value=1) & ~marked).any()


def test_borders() -> None:
    image = np.full((50, 50, 3), 200, np.uint8)
    image[:, :5] = 100
    geometry = Affine(rotation=0.0, scale=1.0, shift_x=0.2, shift_y=0.0)  # uncovers ten columns at the left
    left = {border: synthetic.apply(image, Draw(geometry=geometry, border=border))[25, :10, 0].tolist()
            for border in ("reflect", "edge", "wrap", "constant")}  # fmt: skip
    assert left == {"reflect": [200] * 6 + [100] * 4, "edge": [100] * 10, "wrap": [200] * 10, "constant": [0] * 10}


def test_masks_meet_geometry_alone() -> None:
    mask = picture()[..., 0] > 200
    only = EVERYTHING.model_copy(update={"color": None, "illumination": None, "blur": None, "noise": None})
    assert np.array_equal(synthetic.apply_mask(mask, EVERYTHING), synthetic.apply_mask(mask, only))
    rest = EVERYTHING.model_copy(update={"geometry": None})
    assert np.array_equal(synthetic.apply_mask(mask, rest), mask)


# Light and sensor


def test_color_and_blur_are_torchvisions() -> None:
    import torch
    from torchvision.transforms import functional

    pixels = picture(3, 40, 50).astype(np.float32) / 255
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1))
    for factors in [(0.7, 1.3, 0.8), (1.3, 0.7, 1.3), (1.0, 1.0, 1.2)]:
        ours = synthetic.adjust_color(pixels, Color(brightness=factors[0], contrast=factors[1], saturation=factors[2]))
        theirs = functional.adjust_brightness(tensor, factors[0])
        theirs = functional.adjust_saturation(functional.adjust_contrast(theirs, factors[1]), factors[2])
        np.testing.assert_allclose(ours, theirs.numpy().transpose(1, 2, 0), atol=1e-6)
    for kernel, sigma in [(3, 0.1), (3, 2.0), (5, 0.7), (5, 2.0)]:
        ours = synthetic.blur(pixels, Blur(kernel=kernel, sigma=sigma))
        theirs = functional.gaussian_blur(tensor, [kernel, kernel], [sigma, sigma])
        np.testing.assert_allclose(ours, theirs.numpy().transpose(1, 2, 0), atol=1e-6)


@pytest.mark.parametrize("shape", [(256, 256), (64, 200), (700, 500), (7, 9)])
@pytest.mark.parametrize("smoothing", [0.0, 80.0, 5000.0])
def test_a_linear_light_darkens_its_edge(shape: tuple[int, int], smoothing: float) -> None:
    darkest = {"left": np.s_[:, :1], "right": np.s_[:, -1:], "top": np.s_[:1], "bottom": np.s_[-1:]}
    for edge, place in darkest.items():
        field = synthetic.light(Linear(strength=0.4, edge=edge, smoothing=smoothing), *shape)
        assert field.shape == shape and field.dtype == np.float32
        assert (field.min(), field.max()) == pytest.approx((0.4, 1.0), abs=1e-6)
        np.testing.assert_allclose(field[place], 0.4, atol=1e-5)
        along = field if edge in ("top", "bottom") else field.T
        steps = np.diff(along[:, 0])
        assert (np.sign(steps[np.abs(steps) > 1e-6]) == (1 if edge in ("left", "top") else -1)).all()
        assert np.abs(along - along[:, :1]).max() < 1e-5  # the same all along the edge


def test_a_radial_light_is_brightest_at_its_centre() -> None:
    field = synthetic.light(Radial(strength=0.4, x=0.25, y=0.5, smoothing=0.0), 100, 200)
    assert np.hypot(*np.subtract(np.unravel_index(field.argmax(), field.shape), (49.5, 49.5))) < 3
    assert field[0, -1] == field.min() == pytest.approx(0.4)
    assert field.max() == pytest.approx(1, abs=1e-6)


def test_the_coarse_light_is_the_full_one() -> None:
    from scipy.ndimage import gaussian_filter

    row, column = (np.mgrid[:300, :400] + 0.5) / np.array([300, 400])[:, None, None]
    for drawn, ramp in [
        (Radial(strength=0.4, x=0.3, y=0.6, smoothing=80.0), np.hypot(column - 0.3, row - 0.6)),
        (Linear(strength=0.4, edge="right", smoothing=80.0), column),
    ]:
        smooth = gaussian_filter(ramp, 80, mode="reflect")
        full = 1 - 0.6 * (smooth - smooth.min()) / np.ptp(smooth)
        assert np.abs(synthetic.light(drawn, 300, 400) - full).max() < 1 / 255


def test_smoothing_makes_the_light_smoother() -> None:
    def curvature(smoothing: float) -> float:
        return float(
            np.abs(np.diff(synthetic.light(Radial(strength=0.4, x=0.5, y=0.5, smoothing=smoothing), 256, 256), 2)).max()
        )

    assert curvature(80.0) < curvature(20.0) < curvature(0.0)


def test_noise_has_its_strength_and_its_seed() -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    noisy = synthetic.apply(grey, Draw(noise=Noise(sigma=0.05, seed=1)))
    assert (noisy.astype(float) - 128).std() / 255 == pytest.approx(0.05, rel=0.02)
    assert abs(noisy.astype(float).mean() - 128) < 0.3
    assert not np.array_equal(noisy, synthetic.apply(grey, Draw(noise=Noise(sigma=0.05, seed=2))))
    white = synthetic.apply(np.full((32, 32, 3), 255, np.uint8), Draw(noise=Noise(sigma=0.05, seed=1)))
    assert white.max() == 255 and 200 < white.min() < 250  # clipped, not wrapped around


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_acts_alone(family: str) -> None:
    image = picture()
    alone = synthetic.apply(image, Draw(**{family: getattr(EVERYTHING, family)}))
    assert np.mean(alone != image) > 0.5
    without = synthetic.apply(image, EVERYTHING.model_copy(update={family: None}))
    assert np.mean(without != synthetic.apply(image, EVERYTHING)) > 0.5


def test_families_follow_their_order() -> None:
    image = picture()
    by_hand = image
    for family in FAMILIES:
        by_hand = synthetic.apply(by_hand, Draw(**{family: getattr(EVERYTHING, family)}))
    # Rounding between the steps costs some grey levels; another order costs far more.
    off = np.abs(synthetic.apply(image, EVERYTHING).astype(int) - by_hand)
    assert off.max() <= 4
    noise_first = image
    for family in FAMILIES[::-1]:
        noise_first = synthetic.apply(noise_first, Draw(**{family: getattr(EVERYTHING, family)}))
    assert np.abs(synthetic.apply(image, EVERYTHING).astype(int) - noise_first).max() > 20


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 3), (33, 77)])
def test_small_and_oblong_images(shape: tuple[int, int]) -> None:
    shifted = synthetic.apply(picture(0, *shape), EVERYTHING)
    assert shifted.shape == (*shape, 3) and shifted.dtype == np.uint8
    assert synthetic.apply_mask(np.ones(shape, bool), EVERYTHING).all()


def test_other_arrays_are_refused() -> None:
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(ValueError, match="expected"):
            synthetic.apply(image, Draw())


@pytest.mark.parametrize(
    "change", [{"blur_kernels": [4]}, {"blur_sigma": [2.0, 0.1]}, {"illumination_strength": [0.4, 1.7]}]
)
def test_values_out_of_range_are_refused(change: dict) -> None:
    with pytest.raises(AdshiftError, match=r"shift\."):
        settings(**change)


# A whole class


@pytest.fixture
def clean(tmp_path: Path) -> list[Item]:
    """Six images of two sizes, two of them defective."""
    items = []
    for place, (part, defect) in enumerate(
        [("train", "good")] * 3 + [("test", "good"), ("test", "cut"), ("test", "hole")]
    ):
        name = f"{part}/{defect}/{place:03d}"
        path = tmp_path / "raw" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        width = 64 if place % 2 else 48
        Image.fromarray(picture(place, 48, width)).save(path)
        mask, mask_hash = "", ""
        if defect != "good":
            mask = str(path.with_name(f"{place:03d}_mask.png"))
            array = np.zeros((48, width), np.uint8)
            array[10:20, 12:30] = 255
            Image.fromarray(array).save(mask)
            mask_hash = images.sha256(mask)
        items.append(Item(name, part, defect, str(path), mask, images.sha256(path), mask_hash, width, 48))
    return items


def test_a_class_is_rendered_recorded_and_listed(clean: list[Item], tmp_path: Path) -> None:
    build, final = tmp_path / "build", tmp_path / "final"
    shifted = synthetic.shift_class(clean, settings(), 42, "nut", build, final)
    build.rename(final)

    assert manifest.read(final / "manifest.csv") == shifted
    assert [item.name for item in shifted] == sorted(item.name for item in clean)
    files = {path.relative_to(final).as_posix() for path in final.rglob("*") if path.is_file()}
    expected = {f"images/{item.name}.png" for item in clean} | {f"masks/{item.name}.png" for item in clean if item.mask}
    assert files == expected | {"draws.jsonl", "manifest.csv"}

    draws = synthetic.read_draws(final / "draws.jsonl")
    before = {item.name: item for item in clean}
    assert list(draws) == sorted(before)
    for item in shifted:
        old = before[item.name]
        assert (item.part, item.defect, item.width, item.height) == (old.part, old.defect, old.width, old.height)
        # load_* check the hashes and the place; the recorded draw makes the very image.
        assert np.array_equal(images.load_image(item), synthetic.apply(images.load_image(old), draws[item.name]))
        assert bool(item.mask) == bool(old.mask)
        if item.mask:
            assert set(np.unique(Image.open(item.mask))) == {0, 255}
            assert np.array_equal(images.load_mask(item), synthetic.apply_mask(images.load_mask(old), draws[item.name]))
    kept = {record["name"]: record["kept"] for record in map(json.loads, (final / "draws.jsonl").open())}
    assert all((kept[name] is None) == (not before[name].mask) for name in before)
    assert all(0.5 <= share <= 1 for share in kept.values() if share is not None)


def test_threads_order_and_company_change_no_byte(
    clean: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def render(items: list[Item], threads: int) -> dict[str, bytes]:
        monkeypatch.setenv("ADSHIFT_THREADS", str(threads))
        out = tmp_path / f"{threads}-{len(items)}"
        synthetic.shift_class(items, settings(), 42, "nut", out, Path("data/shift/x/nut"))
        return {
            path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
        }

    one = render(clean, 1)
    assert one == render(clean[::-1], 2)
    fewer = render(clean[1:], 2)
    assert all(one[path] == data for path, data in fewer.items() if path.endswith(".png"))
    assert len(fewer) == len(one) - 1


@pytest.mark.parametrize("content", ["", "{", '{"name": "a"}', '{"name": "a", "draw": {"more": 1}}', "[]"])
def test_damaged_draws_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "draws.jsonl"
    if content:
        path.write_text(content)
    with pytest.raises(AdshiftError):
        synthetic.read_draws(path)
