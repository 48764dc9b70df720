"""The shift against a second implementation: what is drawn, pixel by pixel what it does, and what is written.

The oracle below is loops over pixels in float64, from the module's text and the definitions that it names; it shares no
code with the product and uses no image library.
"""

import hashlib
import json
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adshift.data import images, manifest
from adshift.data.manifest import Item
from adshift.data.settings import Shift
from adshift.data.shift import synthetic
from adshift.data.shift.synthetic import Affine, Blur, Color, Crop, Draw, Linear, Noise, Radial
from adshift.errors import AdshiftError
from adshift.project import params
from adshift.project.params import validate

ROOT = Path(__file__).parents[3]
BORDERS = ("reflect", "edge", "wrap", "constant")
TURNED = Affine(rotation=23.0, scale=0.83, shift_x=0.11, shift_y=-0.07)
LARGER = Affine(rotation=-8.0, scale=1.4, shift_x=-0.05, shift_y=0.13)
CUT = Crop(left=0.13, top=0.31, width=0.71, height=0.55)
TINT = Color(brightness=1.21, contrast=0.83, saturation=1.27)
SIDE_LIGHT = Linear(strength=0.45, edge="left", smoothing=1.7)
SPOT = Radial(strength=0.55, x=0.3, y=0.8, smoothing=2.3)


def settings(**changes: Any) -> Shift:
    """Ranges that all differ, some leaves changed: `blur_probability=1`."""
    values = params.read(ROOT / "params.yaml")
    chosen = values["shift"]
    chosen["geometry"] |= {"rotation": [-25.0, 35.0], "scale": [0.81, 1.13], "translation": 0.17,
                           "crop_area": [0.41, 0.77], "crop_aspect": [0.52, 1.31]}  # fmt: skip
    chosen["color"] |= {"brightness": [0.61, 1.41], "contrast": [0.72, 1.52], "saturation": [0.83, 1.63]}
    chosen["blur"] |= {"probability": 0.43, "kernels": [3, 7, 5], "sigma": [0.15, 2.15]}
    chosen["noise"] |= {"probability": 0.57, "sigma": [0.012, 0.067]}
    chosen["illumination"] |= {"probability": 0.71, "kinds": ["radial", "linear"], "strength": [0.37, 0.73]}
    for key, value in changes.items():
        family, _, leaf = key.partition("_")
        assert leaf in chosen[family] if leaf else family in chosen
        (chosen[family] if leaf else chosen)[leaf or family] = value
    return validate(values, ROOT / "params.yaml").shift


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# The oracle


def source(geometry: Affine | Crop, height: int, width: int, x: float, y: float) -> tuple[float, float]:
    """Where the pixel (x, y) of the result comes from."""
    if isinstance(geometry, Crop):
        # Edges of pixels: the box's share of the image's width, from its left edge.
        return (
            (geometry.left + geometry.width * (x + 0.5) / width) * width - 0.5,
            (geometry.top + geometry.height * (y + 0.5) / height) * height - 0.5,
        )
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    right, down = x - middle_x - geometry.shift_x * width, y - middle_y - geometry.shift_y * height
    angle = math.radians(geometry.rotation)
    # Back by a clockwise turn, as seen: y points down.
    back_right = (right * math.cos(angle) - down * math.sin(angle)) / geometry.scale
    back_down = (right * math.sin(angle) + down * math.cos(angle)) / geometry.scale
    return middle_x + back_right, middle_y + back_down


def target(geometry: Affine | Crop, height: int, width: int, x: float, y: float) -> tuple[float, float]:
    """Where the pixel (x, y) goes."""
    if isinstance(geometry, Crop):
        return (
            ((x + 0.5) / width - geometry.left) / geometry.width * width - 0.5,
            ((y + 0.5) / height - geometry.top) / geometry.height * height - 0.5,
        )
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    angle = math.radians(geometry.rotation)
    right, down = x - middle_x, y - middle_y
    return (
        middle_x + geometry.scale * (right * math.cos(angle) + down * math.sin(angle)) + geometry.shift_x * width,
        middle_y + geometry.scale * (down * math.cos(angle) - right * math.sin(angle)) + geometry.shift_y * height,
    )


def inside(place: int, size: int, border: str) -> int | None:
    """The pixel of a row of `size` that stands at a place outside of it; None for black."""
    if border == "constant":
        return place if 0 <= place < size else None
    if border == "edge":
        return min(max(place, 0), size - 1)
    if border == "wrap":
        return place % size
    while not 0 <= place < size:  # mirrored at the outer pixels' centres, which do not repeat
        place = -place if place < 0 else 2 * (size - 1) - place
    return place


def pixel(array: np.ndarray, row: int, column: int, border: str) -> Any:
    there = inside(row, array.shape[0], border), inside(column, array.shape[1], border)
    return array[there] if None not in there else 0.0 * array[0, 0]


def warped(array: np.ndarray, geometry: Affine | Crop, border: str, nearest: bool = False) -> np.ndarray:
    height, width = array.shape[:2]
    result = np.zeros_like(array)
    for y, x in product(range(height), range(width)):
        from_x, from_y = source(geometry, height, width, x, y)
        if nearest:
            result[y, x] = pixel(array, math.floor(from_y + 0.5), math.floor(from_x + 0.5), border)
            continue
        left, top = math.floor(from_x), math.floor(from_y)
        right, below = from_x - left, from_y - top
        result[y, x] = (
            (1 - right) * (1 - below) * pixel(array, top, left, border)
            + right * (1 - below) * pixel(array, top, left + 1, border)
            + (1 - right) * below * pixel(array, top + 1, left, border)
            + right * below * pixel(array, top + 1, left + 1, border)
        )
    return result


def grey(rgb: Any) -> float:
    return 0.2989 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def cut(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def coloured(array: np.ndarray, color: Color) -> np.ndarray:
    result = array.copy()
    places = list(product(range(array.shape[0]), range(array.shape[1])))
    for place in places:
        result[place] = [cut(value * color.brightness) for value in result[place]]
    mean = sum(grey(result[place]) for place in places) / len(places)
    for place in places:
        result[place] = [cut(mean + color.contrast * (value - mean)) for value in result[place]]
    for place in places:
        own = grey(result[place])
        result[place] = [cut(own + color.saturation * (value - own)) for value in result[place]]
    return result


def smoothed(row: list[float], sigma: float) -> list[float]:
    """Gaussian of four standard deviations, edges mirrored with the outer value repeated."""
    radius = int(4 * sigma + 0.5)
    weights = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(-radius, radius + 1)] if sigma else [1.0]
    found = []
    for place in range(len(row)):
        total = 0.0
        for step, weight in zip(range(-radius, radius + 1), weights, strict=True):
            there = (place + step) % (2 * len(row))
            total += weight * row[there if there < len(row) else 2 * len(row) - 1 - there]
        found.append(total / sum(weights))
    return found


def lighted(light: Linear | Radial, height: int, width: int) -> np.ndarray:
    """On a grid of at most 64 points a side, enlarged linearly between the centres of its cells."""
    rows, columns = min(64, height), min(64, width)

    def dark(x: float, y: float) -> float:
        if isinstance(light, Radial):
            return math.sqrt((x - light.x) ** 2 + (y - light.y) ** 2)
        return {"left": 1 - x, "right": x, "top": 1 - y, "bottom": y}[light.edge]

    field = [[dark((c + 0.5) / columns, (r + 0.5) / rows) for c in range(columns)] for r in range(rows)]
    sigma = min(light.smoothing, height, width)
    field = [smoothed(row, sigma * columns / width) for row in field]
    field = [list(row) for row in zip(*(smoothed(list(c), sigma * rows / height) for c in zip(*field, strict=True)),
                                      strict=True)]  # fmt: skip
    low, high = min(map(min, field)), max(map(max, field))
    bright = np.array([[1 - (1 - light.strength) * (value - low) / (high - low) for value in row] for row in field])

    def enlarged(values: np.ndarray, size: int) -> np.ndarray:
        centres = (np.arange(len(values)) + 0.5) / len(values)
        return np.interp((np.arange(size) + 0.5) / size, centres, values)

    tall = np.stack([enlarged(column, height) for column in bright.T], axis=1)
    return np.stack([enlarged(row, width) for row in tall])


def blurred(array: np.ndarray, blur: Blur) -> np.ndarray:
    reach = range(-(blur.kernel // 2), blur.kernel // 2 + 1)
    weights = {step: math.exp(-0.5 * (step / blur.sigma) ** 2) for step in reach}
    result = np.zeros_like(array)
    for y, x in product(range(array.shape[0]), range(array.shape[1])):
        for down, right in product(reach, reach):
            result[y, x] += weights[down] * weights[right] * pixel(array, y + down, x + right, "reflect")
    return result / sum(weights.values()) ** 2


def shifted(image: np.ndarray, drawn: Draw) -> np.ndarray:
    """The image in grey levels before it is rounded."""
    array = image.astype(np.float64) / 255
    if drawn.geometry:
        array = warped(array, drawn.geometry, drawn.border)
    if drawn.color:
        array = coloured(array, drawn.color)
    if drawn.illumination:
        array = array * lighted(drawn.illumination, *array.shape[:2])[..., None]
    if drawn.blur:
        array = blurred(array, drawn.blur)
    if drawn.noise:
        generator = np.random.default_rng(drawn.noise.seed)
        array = array + drawn.noise.sigma * generator.standard_normal(array.shape, dtype=np.float32)
    return 255 * np.clip(array, 0, 1)


def shares(seed: int, name: str, image: str, family: str) -> np.random.Generator:
    digest = hashlib.sha256("\0".join(["shift", name, image, family]).encode()).digest()
    words = [int.from_bytes(digest[start : start + 4], "little") for start in range(0, 16, 4)]
    return np.random.default_rng([seed, *words])


def kept(mask: np.ndarray, geometry: Affine | Crop | None) -> float:
    """Share of the mask's pixels that land on the picture."""
    stay, total = 0, 0
    for y, x in np.argwhere(mask).tolist():
        new_x, new_y = target(geometry, *mask.shape, x, y) if geometry else (x, y)
        stay += -0.5 <= new_x < mask.shape[1] - 0.5 and -0.5 <= new_y < mask.shape[0] - 0.5
        total += 1
    return stay / total


def drawn(chosen: Shift, seed: int, name: str, image: str, mask: np.ndarray | None = None) -> dict[str, Any]:
    """What is drawn, as a record holds it."""
    how = chosen.geometry

    def between(limits: tuple[float, float], share: float) -> float:
        return limits[0] + (limits[1] - limits[0]) * share

    def geometry(a: float, b: float, c: float, d: float) -> Affine | Crop:
        if how.kind == "affine":
            ends = (-how.translation, how.translation)
            return Affine(rotation=between(how.rotation, a), scale=between(how.scale, b),
                          shift_x=between(ends, c), shift_y=between(ends, d))  # fmt: skip
        area, aspect = between(how.crop_area, a), between(how.crop_aspect, b)
        width, height = min(1, math.sqrt(area * aspect)), min(1, math.sqrt(area / aspect))
        return Crop(left=(1 - width) * c, top=(1 - height) * d, width=width, height=height)

    result: dict[str, Any] = {"border": chosen.border, "tries": 1}
    if how.kind == "none":
        result["geometry"] = None
    else:
        candidates = [geometry(*row) for row in shares(seed, name, image, "geometry").random((20, 4)).tolist()]
        place = 0
        if mask is not None and mask.any():
            stay = [kept(mask, one) for one in candidates]
            enough = [number for number, share in enumerate(stay) if share >= 0.5]
            place = enough[0] if enough else stay.index(max(stay))
            result["tries"] = place + 1 if enough else 20
        result["geometry"] = candidates[place]
    a, b, c, *_ = shares(seed, name, image, "color").random(6).tolist()
    result["color"] = chosen.color.enabled and Color(
        brightness=between(chosen.color.brightness, a), contrast=between(chosen.color.contrast, b),
        saturation=between(chosen.color.saturation, c))  # fmt: skip
    happens, kind, strength, edge, x, y = shares(seed, name, image, "illumination").random(6).tolist()
    light = chosen.illumination
    result["illumination"] = None
    if light.enabled and happens < light.probability:
        common = {"strength": between(light.strength, strength), "smoothing": light.smoothing}
        if light.kinds[math.floor(kind * len(light.kinds))] == "radial":
            result["illumination"] = Radial(x=x, y=y, **common)
        else:
            edge = ["left", "right", "top", "bottom"][math.floor(4 * edge)]
            result["illumination"] = Linear(edge=edge, **common)
    happens, kernel, sigma = shares(seed, name, image, "blur").random(3).tolist()
    result["blur"] = None
    if chosen.blur.enabled and happens < chosen.blur.probability:
        kernel = chosen.blur.kernels[math.floor(kernel * len(chosen.blur.kernels))]
        result["blur"] = Blur(kernel=kernel, sigma=between(chosen.blur.sigma, sigma))
    generator = shares(seed, name, image, "noise")
    happens, sigma = generator.random(2).tolist()
    result["noise"] = None
    if chosen.noise.enabled and happens < chosen.noise.probability:
        result["noise"] = Noise(sigma=between(chosen.noise.sigma, sigma), seed=int(generator.integers(2**32)))
    return result


# What is drawn


def agree(found: Draw, expected: dict[str, Any]) -> None:
    def plain(value: Any) -> Any:
        return value.model_dump() if hasattr(value, "model_dump") else value or None

    ours = found.to_dict()
    assert set(ours) == set(expected)
    for key, value in expected.items():
        theirs = plain(value)
        if isinstance(theirs, dict):
            assert set(theirs) == set(ours[key])
            for leaf, number in theirs.items():
                near = pytest.approx(number, rel=1e-12, abs=1e-12) if isinstance(number, float) else number
                assert ours[key][leaf] == near, (key, leaf)
        else:
            assert ours[key] == theirs, key


@pytest.mark.parametrize("kind", ["affine", "resized_crop", "none"])
def test_every_number_that_is_drawn(kind: str) -> None:
    chosen = settings(geometry_kind=kind, border="wrap")
    for seed, name, place in product((0, 42), ("nut", "screw"), range(20)):
        image = f"test/good/{place}"
        agree(synthetic.draw(chosen, seed, name, image), drawn(chosen, seed, name, image))
    assert settings(border="edge") != chosen


@pytest.mark.parametrize("family", ["color", "illumination", "blur", "noise"])
def test_what_is_off_is_not_drawn(family: str) -> None:
    chosen = settings(**{f"{family}_enabled": False})
    for place in range(20):
        agree(synthetic.draw(chosen, 7, "nut", str(place)), drawn(chosen, 7, "nut", str(place)))


def test_a_probability_of_one_is_always_and_of_nought_never() -> None:
    families = ("illumination", "blur", "noise")
    always = settings(**{f"{family}_probability": 1.0 for family in families})
    never = settings(**{f"{family}_probability": 0.0 for family in families})
    for place in range(50):
        found = synthetic.draw(always, 7, "nut", str(place)), synthetic.draw(never, 7, "nut", str(place))
        assert all(getattr(found[0], family) and not getattr(found[1], family) for family in families)


def test_the_geometry_that_a_defect_asks_for() -> None:
    """The first that keeps half of it, else the one that keeps the most."""
    masks = {key: np.zeros((12, 16), bool) for key in ("corners", "corner", "edge", "empty", "pair", "frame")}
    masks["corners"][[0, 0, -1, -1], [0, -1, 0, -1]] = True
    masks["corner"][0, 0] = True
    masks["edge"][:, -2:] = True
    masks["pair"][[0, -1], [0, -1]] = True
    masks["frame"][[0, -1]] = True
    masks["frame"][:, [0, -1]] = True
    tries = set()
    for kind, (key, mask), place in product(("affine", "resized_crop"), masks.items(), range(12)):
        changes = {"geometry_kind": kind, "geometry_scale": [0.9, 1.5], "geometry_translation": 0.3}
        chosen = settings(**changes, geometry_crop_area=[0.1, 0.5])
        image = f"test/{key}/{place}"
        found = synthetic.draw(chosen, 3, "nut", image, mask=mask)
        agree(found, drawn(chosen, 3, "nut", image, mask))
        tries.add(found.tries)
        if key == "empty":
            assert found == synthetic.draw(chosen, 3, "nut", image)
    assert tries > {1, 2, 20}


def test_what_stays_in_the_picture() -> None:
    for seed, geometry in enumerate([TURNED, LARGER, CUT, None]):
        mask = picture(11, 17, seed)[..., 0] > 150
        assert synthetic.kept_share(mask, geometry) == pytest.approx(kept(mask, geometry))
    # Half a pixel outside of the outer centres is the picture's edge: on its left and upper side still inside.
    for mask, x, y, share in [
        (np.eye(10, dtype=bool), -0.05, 0.0, 1.0), (np.eye(10, dtype=bool), 0.05, 0.0, 0.9),
        (np.eye(10, dtype=bool), 0.0, -0.05, 1.0), (np.eye(10, dtype=bool), 0.0, 0.05, 0.9),
        (np.eye(10, dtype=bool), -0.1, 0.1, 0.8),
    ]:  # fmt: skip
        geometry = Affine(rotation=0.0, scale=1.0, shift_x=x, shift_y=y)
        assert synthetic.kept_share(mask, geometry) == share, (x, y)


# What it does


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("geometry", [TURNED, LARGER, CUT, Affine(rotation=100.0, scale=0.4, shift_x=0.6, shift_y=0.2)])
@pytest.mark.parametrize("shape", [(7, 11), (12, 5)])
def test_every_pixel_of_a_warped_image_and_mask(shape: tuple[int, int], geometry: Affine | Crop, border: str) -> None:
    image, move = picture(*shape) // 2 + 100, Draw(border=border, geometry=geometry)  # a constant border is darker
    found = synthetic.apply(image, move)
    assert found.dtype == np.uint8 and found.shape == image.shape
    assert np.abs(found - shifted(image, move)).max() < 0.51
    mask = image[..., 1] > 170
    moved = synthetic.apply_mask(mask, move)
    assert moved.dtype == bool
    assert np.array_equal(moved, warped(mask.astype(np.uint8), geometry, border, nearest=True) > 0)
    full = synthetic.apply_mask(np.ones(shape, bool), move)
    assert full.all() or border == "constant"


@pytest.mark.parametrize(
    "drawn_by_hand",
    [
        {"color": TINT},
        {"color": Color(brightness=0.6, contrast=1.5, saturation=0.4)},
        {"blur": Blur(kernel=3, sigma=0.6)},
        {"blur": Blur(kernel=7, sigma=1.9)},
        {"noise": Noise(sigma=0.21, seed=77)},
        {"illumination": SIDE_LIGHT},
        {"illumination": SPOT},
        {"geometry": TURNED, "color": TINT, "illumination": SPOT, "blur": Blur(kernel=5, sigma=1.3),
         "noise": Noise(sigma=0.05, seed=5)},
        {"geometry": CUT, "border": "constant", "illumination": SIDE_LIGHT, "noise": Noise(sigma=0.3, seed=1)},
    ],
)  # fmt: skip
def test_every_pixel_of_a_shifted_image(drawn_by_hand: dict[str, Any]) -> None:
    image = picture(9, 13, 4)
    found = synthetic.apply(image, Draw(**drawn_by_hand))
    assert np.abs(found - shifted(image, Draw(**drawn_by_hand))).max() < 0.51


@pytest.mark.parametrize("edge", ["left", "right", "top", "bottom"])
def test_a_light_without_smoothing_falls_evenly(edge: str) -> None:
    field = synthetic.light(Linear(strength=0.25, edge=edge, smoothing=0.0), 6, 11)
    along = np.linspace(0.25, 1, 11) if edge in ("left", "right") else np.linspace(0.25, 1, 6)
    along = along if edge in ("left", "top") else along[::-1]
    even = np.broadcast_to(along[None] if edge in ("left", "right") else along[:, None], (6, 11))
    np.testing.assert_allclose(field, even, atol=1e-6)


@pytest.mark.parametrize("shape", [(10, 14), (64, 65), (150, 40), (1, 9), (2, 1)])
@pytest.mark.parametrize(
    "light",
    [
        SPOT,
        Radial(strength=0.4, x=1.0, y=0.0, smoothing=0.0),
        Linear(strength=0.6, edge="right", smoothing=7.5),
        Linear(strength=0.6, edge="bottom", smoothing=300.0),
    ],
)
def test_every_place_of_a_light(light: Linear | Radial, shape: tuple[int, int]) -> None:
    found = synthetic.light(light, *shape)
    assert found.dtype == np.float32 and found.shape == shape
    across = shape[1] if getattr(light, "edge", "") == "right" else shape[0]
    if across == 1 and isinstance(light, Linear):  # one pixel across has nothing to fall from
        assert (found == 1).all()
        return
    np.testing.assert_allclose(found, lighted(light, *shape), atol=2e-6)


def test_one_pixel_keeps_its_light() -> None:
    assert synthetic.light(SPOT, 1, 1).tolist() == [[1.0]]


def test_rounding_is_to_the_nearest_grey_level_and_clipped() -> None:
    image = np.array([[[10, 100, 200]]], np.uint8)
    brighter = Color(brightness=1.26, contrast=1.0, saturation=1.0)
    assert synthetic.apply(image, Draw(color=brighter)).tolist() == [[[13, 126, 252]]]  # of 12.6, 126.0, 252.0
    assert synthetic.apply(image, Draw(color=brighter.model_copy(update={"brightness": 2.0}))).tolist() == [
        [[20, 200, 255]]
    ]


def test_an_image_is_worked_on_in_single_precision() -> None:
    """In double precision, some of so many pixels round to the other grey level."""
    image = picture(300, 300)
    one, most, strength = np.float32(255), np.float32(1), np.float32(0.05)
    noise = np.random.default_rng(9).standard_normal(image.shape, dtype=np.float32)
    values = np.minimum(np.maximum(image.astype(np.float32) / one + strength * noise, 0 * most), most) * one
    assert np.array_equal(
        synthetic.apply(image, Draw(noise=Noise(sigma=0.05, seed=9))), values.round().astype(np.uint8)
    )
    double = np.clip(image / 255 + 0.05 * noise.astype(np.float64), 0, 1) * 255
    assert not np.array_equal(double.round().astype(np.uint8), values.round().astype(np.uint8))


# What is written


@pytest.fixture
def clean(tmp_path: Path) -> list[Item]:
    """A normal image, defects of which one is at the edge, and one whose mask is black."""
    items = []
    for place, (part, defect) in enumerate([("train", "good"), ("test", "cut"), ("test", "edge"), ("test", "black")]):
        name, size = f"{part}/{defect}/{place}", (12, 16)
        path = tmp_path / "raw" / f"{place}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(*size, place)).save(path)
        mask = np.zeros(size, np.uint8)
        mask[{"cut": np.s_[4:7, 3:9], "edge": np.s_[:, -1:]}.get(defect, np.s_[:0])] = 255
        files = [path, path.with_name(f"{place}-mask.png")]
        Image.fromarray(mask).save(files[1])
        hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        hidden = (str(files[1]), hashes[1]) if defect != "good" else ("", "")
        items.append(Item(name, part, defect, str(path), hidden[0], hashes[0], hidden[1], size[1], size[0]))
    return items


@pytest.mark.parametrize("border", BORDERS)
def test_every_byte_of_a_shifted_class(clean: list[Item], tmp_path: Path, border: str) -> None:
    chosen, out, final = settings(border=border), tmp_path / "new" / "out", Path("data/shift/x/nut")
    listed = synthetic.shift_class(clean, chosen, 15, "nut", out, final)
    assert manifest.read(out / "manifest.csv") == listed
    records = [json.loads(line) for line in (out / "draws.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["name"] for record in records] == sorted(item.name for item in clean)
    assert [item.name for item in listed] == sorted(item.name for item in clean)
    before = {item.name: item for item in clean}
    for item, record in zip(listed, records, strict=True):
        old = before[item.name]
        image = np.asarray(Image.open(old.image))
        mask = np.asarray(Image.open(old.mask)) > 0 if old.mask else None
        theirs = drawn(chosen, 15, "nut", item.name, mask)
        assert set(record) == {"name", "kept", "draw"}
        made = Draw.from_dict(record["draw"])
        agree(made, theirs)
        assert record["kept"] == (kept(mask, made.geometry) if mask is not None and mask.any() else None)
        assert (item.part, item.defect, item.width, item.height) == (old.part, old.defect, old.width, old.height)
        assert item.image == f"data/shift/x/nut/images/{item.name}.png"
        assert item.mask == (f"data/shift/x/nut/masks/{item.name}.png" if old.mask else "")
        with Image.open(out / "images" / f"{item.name}.png") as file:
            assert (file.format, file.mode, file.size) == ("PNG", "RGB", (16, 12))
            assert np.abs(np.asarray(file) - shifted(image, made)).max() < 0.51
        assert item.sha256 == images.sha256(out / "images" / f"{item.name}.png")
        if mask is not None:
            with Image.open(out / "masks" / f"{item.name}.png") as file:
                assert (file.format, file.mode, file.size) == ("PNG", "L", (16, 12))
                moved = warped(mask.astype(np.uint8), made.geometry, border, nearest=True)
                assert np.array_equal(np.asarray(file), 255 * moved)
            assert item.mask_sha256 == images.sha256(out / "masks" / f"{item.name}.png")
        else:
            assert item.mask_sha256 == ""
    assert {record["draw"]["border"] for record in records} == {border}
    assert max(record["draw"]["tries"] for record in records) > 1  # a defect at the edge: the mask has a say
    lines = [json.dumps(record, sort_keys=True) + "\n" for record in records]
    assert (out / "draws.jsonl").read_bytes() == "".join(lines).encode()
    # PNG data of zlib's fastest level: the bytes are the same everywhere, and soon written.
    assert all(b"IDAT\x78\x01" in path.read_bytes() for path in out.rglob("*.png"))


def test_a_class_is_shifted_into_a_folder_that_is_there(clean: list[Item], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    first, again = (
        synthetic.shift_class(clean, settings(), 5, "nut", tmp_path / "out", Path("there")) for _ in range(2)
    )
    assert first == again
    other = synthetic.shift_class(clean, settings(), 5, "screw", tmp_path / "other", Path("there"))
    assert not {item.sha256 for item in first} & {item.sha256 for item in other}


def test_a_class_without_images_has_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, seen, spread = tmp_path / "a" / "b", [], synthetic.map_ordered

    def watched(work: Any, items: Any, **how: Any) -> Any:
        seen.append(how)
        return spread(work, items, **how)

    monkeypatch.setattr(synthetic, "map_ordered", watched)
    assert synthetic.shift_class([], settings(), 5, "nut", out, Path("there")) == []
    assert (out / "draws.jsonl").read_bytes() == b""
    assert manifest.read(out / "manifest.csv") == []
    assert seen == [{"what": "shift nut"}]  # what a progress bar says


# Records


def test_a_record_has_every_number(tmp_path: Path) -> None:
    made = Draw(border="edge", tries=3, geometry=CUT, illumination=SIDE_LIGHT)
    assert made.to_dict() == {
        "border": "edge", "tries": 3, "color": None, "blur": None, "noise": None,
        "geometry": {"kind": "resized_crop", "left": 0.13, "top": 0.31, "width": 0.71, "height": 0.55},
        "illumination": {"kind": "linear", "strength": 0.45, "edge": "left", "smoothing": 1.7},
    }  # fmt: skip
    path = tmp_path / "draws.jsonl"
    path.write_text("".join(json.dumps({"name": name, "draw": made.to_dict()}) + "\n" for name in ("b", "a")))
    assert synthetic.read_draws(path) == {"b": made, "a": made}


BREAKS: list[tuple[str, dict[str, Any], Callable[[], dict[str, Any]]]] = [
    ("geometry", {"left": -0.1}, CUT.model_dump),
    ("geometry", {"top": 1.1}, CUT.model_dump),
    ("geometry", {"width": 0.0}, CUT.model_dump),
    ("geometry", {"height": 1.1}, CUT.model_dump),
    ("geometry", {"scale": 0.0}, TURNED.model_dump),
    ("geometry", {"kind": "shear"}, TURNED.model_dump),
    ("illumination", {"strength": 1.1}, SPOT.model_dump),
    ("illumination", {"x": -0.1}, SPOT.model_dump),
    ("illumination", {"y": 2.0}, SPOT.model_dump),
    ("illumination", {"edge": "middle"}, SIDE_LIGHT.model_dump),
    ("illumination", {"strength": math.inf}, SIDE_LIGHT.model_dump),
    ("noise", {"seed": -1}, Noise(sigma=0.1, seed=1).model_dump),
    ("blur", {"sigma": -1.0}, Blur(kernel=3, sigma=1.0).model_dump),
]


@pytest.mark.parametrize(("family", "change", "whole"), BREAKS)
def test_a_number_that_nothing_draws_is_refused(
    tmp_path: Path, family: str, change: dict[str, Any], whole: Callable[[], dict[str, Any]]
) -> None:
    assert Draw.from_dict({**Draw().to_dict(), family: whole()})
    broken = {**Draw().to_dict(), family: {**whole(), **change}}
    with pytest.raises(AdshiftError, match=r"^a recorded draw is damaged: ") as error:
        Draw.from_dict(broken)
    assert error.value.remedy == "run `dvc repro`"
    path = tmp_path / "draws.jsonl"
    path.write_text(json.dumps({"name": "a", "draw": broken}) + "\n")
    with pytest.raises(AdshiftError, match="damaged"):
        synthetic.read_draws(path)


@pytest.mark.parametrize("content", [None, b"{", b'{"draw": {}}\n', b"[]\n", b'{"name": "a"}\n', b'"\xff"\n'])
def test_draws_that_cannot_be_read_name_their_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "draws.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AdshiftError) as error:
        synthetic.read_draws(path)
    assert error.value.what.startswith(f"{path}: not readable draws (") and error.value.what.endswith(")")
    assert error.value.remedy == "run `dvc repro`"


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((2, 3, 4), np.uint8)])
def test_an_array_of_another_kind_is_named(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"^image \(.*\) (uint8|float64): expected \(H, W, 3\) uint8$"):
        synthetic.apply(image, Draw())


def test_the_arrays_that_are_given_stay_as_they_are() -> None:
    image, mask = picture(8, 8), picture(8, 8)[..., 0] > 99
    kept_image, kept_mask = image.copy(), mask.copy()
    synthetic.apply(image, Draw(geometry=CUT, color=TINT, illumination=SPOT, noise=Noise(sigma=0.1, seed=1)))
    for move in (Draw(), Draw(geometry=CUT)):
        synthetic.apply_mask(mask, move)[:] = False
    assert np.array_equal(image, kept_image) and np.array_equal(mask, kept_mask)
