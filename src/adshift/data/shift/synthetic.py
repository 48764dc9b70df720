"""MVTec-Shift (the study, 3.2; its proposal, phase 2): each image under another pose, light and sensor.

Families, applied in this order: geometry (image and mask alike), colour (brightness, contrast, saturation),
illumination, blur, noise. An image is worked on as float32 on [0, 1] and rounded to uint8 once, at the end.

`draw` decides, `apply` and `apply_mask` obey: a recorded draw holds all that they need, the noise's seed included, and
reproduces the image byte for byte. Every family draws from a generator of its own, and always the same number of
values, so that neither switching one off nor changing its ranges or probability changes what another one draws.

An image is shifted at the size that the network sees, if `shift.resolution` is `input`: it is shrunk first, its aspect
kept, so that geometry means the same at any size. Blur, noise and the light's smoothing are in pixels of the image that
is shifted; the study shifts at the camera's resolution and shrinks afterwards, which averages noise and blur away.

Notation: H x W pixels; coordinates are (x, y) of pixel centres, the first pixel at (0, 0).
"""

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from adshift.data import manifest
from adshift.data import settings as sections
from adshift.data.manifest import Item
from adshift.data.shift.draws import Affine, Blur, Color, Crop, Draw, Linear, Noise, Radial
from adshift.data.shift.shrink import shrunk
from adshift.errors import AdshiftError
from adshift.runtime import seeding
from adshift.runtime.parallel import map_ordered

TRIES = 20  # geometries drawn at most for one image
KEPT = 0.5  # share of the defect's pixels that is to stay in the picture
GRID = 64  # the illumination is made on a grid of at most so many points a side; it is smooth
LUMA = (0.2989, 0.587, 0.114)  # of R, G, B, as torchvision has it


def draw(settings: sections.Families, seed: int, *names: str, mask: np.ndarray | None = None) -> Draw:
    """Draw the shift of the image that is called `names` (class, image).

    A geometry that leaves less than half of the defect's pixels in the picture is drawn again, at most `TRIES` times;
    if none keeps that much, the one that keeps the most is taken.

    Args:
        settings: ranges, probabilities and switches.
        seed: of everything random.
        names: what the draw depends on beside the seed.
        mask: (H, W) bool, the defect; None for a normal image.
    """

    def family(name: str) -> np.random.Generator:
        return seeding.generator(seed, "shift", *names, name)

    geometry, tries = _draw_geometry(settings.geometry, family("geometry"), mask)
    return Draw(border=settings.border, tries=tries, geometry=geometry,
                color=_draw_color(settings.color, family("color")),
                illumination=_draw_illumination(settings.illumination, family("illumination")),
                blur=_draw_blur(settings.blur, family("blur")),
                noise=_draw_noise(settings.noise, family("noise")))  # fmt: skip


def _within(limits: tuple[float, float], share: float) -> float:
    """The point of a range at a share in [0, 1) of its length."""
    return limits[0] + (limits[1] - limits[0]) * share


def _choice(values: tuple[Any, ...], share: float) -> Any:
    return values[int(share * len(values))]


def _draw_geometry(
    settings: sections.Geometry, generator: np.random.Generator, mask: np.ndarray | None
) -> tuple[Affine | Crop | None, int]:
    if settings.kind == "none":
        return None, 1
    shares = generator.random((TRIES, 4)).tolist()
    drawn = [_affine(settings, *row) if settings.kind == "affine" else _crop(settings, *row) for row in shares]
    if mask is None or not mask.any():
        return drawn[0], 1
    best = 0.0
    chosen = drawn[0]
    for tries, geometry in enumerate(drawn, start=1):
        kept = kept_share(mask, geometry)
        if kept > best:
            best, chosen = kept, geometry
        if kept >= KEPT:
            return geometry, tries
    return chosen, TRIES


def _affine(settings: sections.Geometry, *shares: float) -> Affine:
    reach = (-settings.translation, settings.translation)
    return Affine(rotation=_within(settings.rotation, shares[0]), scale=_within(settings.scale, shares[1]),
                  shift_x=_within(reach, shares[2]), shift_y=_within(reach, shares[3]))  # fmt: skip


def _crop(settings: sections.Geometry, *shares: float) -> Crop:
    """Area and aspect are the box's over the image's own, so that an oblong image is not squeezed to a square."""
    area, aspect = _within(settings.crop_area, shares[0]), _within(settings.crop_aspect, shares[1])
    width, height = min(1.0, (area * aspect) ** 0.5), min(1.0, (area / aspect) ** 0.5)
    return Crop(left=(1 - width) * shares[2], top=(1 - height) * shares[3], width=width, height=height)


def _draw_color(settings: sections.Color, generator: np.random.Generator) -> Color | None:
    shares = generator.random(3).tolist()
    if not settings.enabled:
        return None
    ranges = {"brightness": settings.brightness, "contrast": settings.contrast, "saturation": settings.saturation}
    return Color(**{key: _within(limits, share) for (key, limits), share in zip(ranges.items(), shares, strict=True)})


def _draw_illumination(settings: sections.Illumination, generator: np.random.Generator) -> Linear | Radial | None:
    happens, kind, strength, edge, x, y = generator.random(6).tolist()
    if not settings.enabled or happens >= settings.probability:
        return None
    strength = _within(settings.strength, strength)
    if _choice(settings.kinds, kind) == "linear":
        edge = _choice(("left", "right", "top", "bottom"), edge)
        return Linear(strength=strength, edge=edge, smoothing=settings.smoothing)
    return Radial(strength=strength, x=x, y=y, smoothing=settings.smoothing)


def _draw_blur(settings: sections.Blur, generator: np.random.Generator) -> Blur | None:
    happens, kernel, sigma = generator.random(3).tolist()
    if not settings.enabled or happens >= settings.probability:
        return None
    return Blur(kernel=_choice(settings.kernels, kernel), sigma=_within(settings.sigma, sigma))


def _draw_noise(settings: sections.Noise, generator: np.random.Generator) -> Noise | None:
    happens, sigma = generator.random(2).tolist()
    if not settings.enabled or happens >= settings.probability:
        return None
    return Noise(sigma=_within(settings.sigma, sigma), seed=int(generator.integers(2**32)))


def kept_share(mask: np.ndarray, geometry: Affine | Crop | None) -> float:
    """Share of the defect's pixels, (H, W) bool with at least one, that a geometry leaves in the picture."""
    if geometry is None:
        return 1.0
    height, width = mask.shape
    y, x = np.nonzero(mask)
    forward = np.linalg.inv(geometry.matrix(height, width))
    new_x, new_y = forward[:2, :2] @ np.stack([x, y]) + forward[:2, 2:]
    inside = (new_x >= -0.5) & (new_x < width - 0.5) & (new_y >= -0.5) & (new_y < height - 0.5)
    return float(inside.mean())


def apply(image: np.ndarray, drawn: Draw) -> np.ndarray:
    """The shifted image, of the same size.

    Args:
        image: (H, W, 3) uint8.
        drawn: what `draw` gave, or read from a record.

    Returns:
        (H, W, 3) uint8; the very bytes of `image` where nothing was drawn.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image {image.shape} {image.dtype}: expected (H, W, 3) uint8")
    pixels = image.astype(np.float32) / np.float32(255)
    if drawn.geometry:
        pixels = _warp(pixels, drawn, order=1)
    if drawn.color:
        pixels = adjust_color(pixels, drawn.color)
    if drawn.illumination:
        pixels *= light(drawn.illumination, *pixels.shape[:2])[..., None]
    if drawn.blur:
        pixels = blur(pixels, drawn.blur)
    if drawn.noise:
        noise = np.random.default_rng(drawn.noise.seed).standard_normal(pixels.shape, dtype=np.float32)
        pixels += np.float32(drawn.noise.sigma) * noise
    return np.rint(np.clip(pixels, 0, 1) * np.float32(255)).astype(np.uint8)


def apply_mask(mask: np.ndarray, drawn: Draw) -> np.ndarray:
    """The mask under the same geometry, nearest neighbour: (H, W) bool.

    The border is filled as the image's is: a defect that is mirrored into it is seen there, and so it is marked there.
    """
    return _warp(mask.astype(np.float32), drawn, order=0) > 0.5 if drawn.geometry else mask.copy()


def _warp(pixels: np.ndarray, drawn: Draw, order: int) -> np.ndarray:
    from skimage.transform import warp

    assert drawn.geometry is not None
    matrix = drawn.geometry.matrix(*pixels.shape[:2])
    return warp(pixels, matrix, order=order, mode=drawn.border, clip=False)


def adjust_color(pixels: np.ndarray, color: Color) -> np.ndarray:
    """Brightness, then contrast, then saturation, each clipped to [0, 1]: (H, W, 3) float32.

    As torchvision's adjust_brightness (towards black), adjust_contrast (towards the image's mean grey) and
    adjust_saturation (towards each pixel's grey).
    """
    pixels = np.minimum(pixels * np.float32(color.brightness), 1)
    mean = np.float32(_grey(pixels).mean(dtype=np.float64))
    pixels = np.clip(mean + np.float32(color.contrast) * (pixels - mean), 0, 1)
    grey = _grey(pixels)[..., None]
    return np.clip(grey + np.float32(color.saturation) * (pixels - grey), 0, 1)


def _grey(pixels: np.ndarray) -> np.ndarray:
    red, green, blue = (np.float32(weight) for weight in LUMA)
    return red * pixels[..., 0] + green * pixels[..., 1] + blue * pixels[..., 2]


def light(illumination: Linear | Radial, height: int, width: int) -> np.ndarray:
    """Brightness left at each pixel, from `strength` to 1: (H, W) float32.

    The ramp is smoothed (edges mirrored) and then stretched, so that the darkest place keeps its drawn strength
    whatever the image's size; smoothing alone would halve the contrast of a 256-pixel ramp. It is made on a coarse grid
    and enlarged bilinearly. A smoothing wider than the image's shorter side is cut to that: it would leave no ramp.
    """
    from scipy.ndimage import gaussian_filter

    rows, columns = min(GRID, height), min(GRID, width)
    y, x = (np.arange(rows)[:, None] + 0.5) / rows, (np.arange(columns)[None] + 0.5) / columns
    sigma = min(illumination.smoothing, height, width)
    dark = gaussian_filter(illumination.ramp(x, y), (sigma * rows / height, sigma * columns / width), mode="reflect")
    dark = (dark - dark.min()) / (np.ptp(dark) or 1)
    field = (1 - (1 - illumination.strength) * dark).astype(np.float32)
    return _enlarge(_enlarge(field, height).T, width).T


def _enlarge(field: np.ndarray, size: int) -> np.ndarray:
    """(n, m) -> (size, m), linear between pixel centres. No matrix product: its rounding depends on the threads."""
    count = len(field)
    centre = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
    low = np.minimum(centre.astype(int), max(count - 2, 0))
    weight = (centre - low).astype(np.float32)[:, None]
    return field[low] * (1 - weight) + field[np.minimum(low + 1, count - 1)] * weight


def blur(pixels: np.ndarray, drawn: Blur) -> np.ndarray:
    """Gaussian blur cut to an odd kernel, edges mirrored, as torchvision's gaussian_blur: (H, W, 3) float32."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(pixels, drawn.sigma, radius=drawn.kernel // 2, mode="mirror", axes=(0, 1))


def shift_class(
    items: list[Item],
    settings: sections.Families,
    seed: int,
    name: str,
    out_dir: Path,
    final_dir: Path,
    size: tuple[int, int] | None = None,
) -> list[Item]:
    """Render the shifted domain of the class `name`: images/, masks/, draws.jsonl and manifest.csv.

    draws.jsonl has a line an image: its name, its draw, and the share of the defect's pixels that stayed in the picture
    (null for a normal image). A defect that no geometry keeps leaves an empty mask; its image stays anomalous.

    Args:
        items: the clean manifest.
        settings: what to draw.
        seed: of everything random.
        name: the class.
        out_dir: where to write.
        final_dir: where `out_dir` will lie in the end, which is what the manifest says.
        size: height and width that images are shrunk to first (`shrunk`); None for none.

    Returns:
        The shifted manifest, sorted by name.
    """
    from adshift.data.images import load_image, load_mask

    def save(pixels: np.ndarray, folder: str, image: str) -> tuple[str, str]:
        path = Path(folder) / f"{image}.png"
        return (final_dir / path).as_posix(), _saved(pixels, out_dir / path)

    def shift_one(item: Item) -> tuple[Item, dict[str, Any]]:
        mask = shrunk(load_mask(item), size) if item.mask else None
        drawn = draw(settings, seed, name, item.name, mask=mask)
        pixels = apply(shrunk(load_image(item), size), drawn)
        image, sha256 = save(pixels, "images", item.name)
        mask_path, mask_sha256, kept = "", "", None
        if mask is not None:
            mask_path, mask_sha256 = save(np.uint8(255) * apply_mask(mask, drawn), "masks", item.name)
            kept = kept_share(mask, drawn.geometry) if mask.any() else None
        height, width = pixels.shape[:2]
        shifted = replace(item, image=image, mask=mask_path, sha256=sha256, mask_sha256=mask_sha256,
                          width=width, height=height)  # fmt: skip
        return shifted, {"name": item.name, "kept": kept, "draw": drawn.to_dict()}

    items = sorted(items, key=lambda item: item.name)
    results = map_ordered(shift_one, items, what=f"shift {name}")
    lines = [json.dumps(record, sort_keys=True, allow_nan=False) + "\n" for _, record in results]
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "draws.jsonl").write_text("".join(lines), encoding="utf-8")
    shifted = [item for item, _ in results]
    manifest.write(out_dir / "manifest.csv", shifted)
    return shifted


def _saved(pixels: np.ndarray, path: Path) -> str:
    """Write a PNG; its hash."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def read_draws(path: Path) -> dict[str, Draw]:
    """What was drawn for each image, by name.

    Raises:
        AdshiftError: the file is missing or damaged.
    """
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {record["name"]: Draw.from_dict(record["draw"]) for record in records}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdshiftError(f"{path}: not readable draws ({error})", "run `dvc repro`") from None
