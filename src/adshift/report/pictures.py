"""Pictures of test images, their defects and their anomaly maps. Pillow and NumPy only.

Notation: S side of the network's input in pixels, or its height and width.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from adshift.data.geometry import fit
from adshift.data.images import load_image, load_mask
from adshift.data.manifest import GOOD, UNLABELLED, Item, anomalous, path_of, read
from adshift.data.shapes import Size, sides
from adshift.data.split_file import names_of
from adshift.data.split_file import read as read_split
from adshift.detectors.records import Predictions
from adshift.detectors.resample import enlargement
from adshift.evaluation.pairs import pair
from adshift.evaluation.scenarios import SCENARIOS, Scenario
from adshift.project.paths import DOMAINS, scores_path, split_path
from adshift.report.labels import label

Shown = dict[tuple[str, str], list[str]]  # {(class, domain): names of test images}
TILE, GAP, MARGIN = 144, 6, 118  # pixels, of the composed pictures
COMPRESSION = 2  # level of PNG: files are 10 % larger than at the default 6, written in a third of the time
SAMPLED = 64  # largest number of images that set a colour scale
STEP = 4  # the median of normal maps comes from every STEP-th row and column: smoothed maps hold no finer detail


TRUTH, FOUND = (0, 255, 128), (255, 255, 255)  # outlines of the defect and of what lies above the threshold
ALPHA = 0.45  # opacity of jet's colours over the image, as in the XAI study


@cache
def colours(palette: str) -> np.ndarray:
    """(256, 3) uint8, from normal to anomalous.

    cubehelix: dark blue over red to pale yellow, brightness rising evenly (Green 2011), so that no level stands out.
    jet: blue over green to red, as in the XAI study and most papers; its bright middle draws the eye without a reason.
    """
    level = np.linspace(0, 1, 256)
    if palette == "jet":
        return np.rint(255 * np.clip(1.5 - np.abs(4 * level[:, None] - [3, 2, 1]), 0, 1)).astype(np.uint8)
    angle = 2 * np.pi * (-0.5 / 3 + 0.75 * level)
    swing = 1.5 * level * (1 - level) / 2
    turn = np.array([[-0.14861, 1.78277], [-0.29227, -0.90649], [1.97294, 0.0]])
    mix = level + swing * (turn @ np.stack([np.cos(angle), np.sin(angle)]))
    return np.rint(255 * np.clip(mix.T, 0, 1)).astype(np.uint8)


@dataclass(frozen=True)
class Scale:
    """The colour scale of anomaly maps, one for all images of a class, method and scenario.

    The threshold lies in the middle: darker pixels are below it, so a normal image stays dark.

    Attributes:
        low: map value that is black, the median on normal images.
        threshold: the calibrated threshold, in units of the map.
        high: map value that is brightest.
    """

    low: float
    threshold: float
    high: float

    def positions(self, maps: np.ndarray) -> np.ndarray:
        """Map values to [0, 1], the threshold to 0.5."""
        return np.interp(maps, [self.low, self.threshold, self.high], [0.0, 0.5, 1.0])


def scale_of(normal: np.ndarray, defective: np.ndarray, ratio: float, threshold: float) -> Scale:
    """Scale from (N, S, S) maps of normal and of defective images; either may be empty.

    Args:
        normal, defective: smoothed maps; for the defective images, their peaks are enough.
        ratio: peak of a map divided by its image score; smoothing lowers the peak, reweighting lowers the score.
        threshold: of image scores.
    """
    middle = threshold * ratio
    spread = max(abs(middle), 1e-6)
    low = float(np.median(normal)) if normal.size else middle - spread / 2
    high = float(defective.max()) if defective.size else middle + spread / 2
    low = min(low, middle - 1e-3 * spread)
    return Scale(low, middle, max(high, 2 * middle - low))


@dataclass
class Album:
    """Test images, masks and anomaly maps of a run in the geometry of the network's input, each read once.

    Threads may share an album: at worst two of them read the same image.
    """

    dataset: str
    resize: Size
    crop: Size | None
    thresholds: dict[tuple[str, str, str], float]  # (method, class, scenario)
    palette: str = "cubehelix"
    scaled: str = "class"  # `class`: one colour scale per class, method and scenario; `image`: one per map
    _kept: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def _once(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def item(self, name: str, domain: str, image: str) -> Item:
        return self._items(name, domain)[image]

    def _items(self, name: str, domain: str) -> dict[str, Item]:
        path = path_of(self.dataset, name, domain)
        return self._once(("items", name, domain), lambda: {item.name: item for item in read(path)})

    def image(self, name: str, domain: str, image: str) -> np.ndarray:
        """(S, S, 3) uint8."""
        item = self.item(name, domain, image)
        return self._once(("image", name, domain, image), lambda: self.fitted(load_image(item)))

    def mask(self, name: str, domain: str, image: str) -> np.ndarray:
        """(S, S) bool."""
        item = self.item(name, domain, image)
        return self._once(("mask", name, domain, image), lambda: self.fitted(load_mask(item)))

    def fitted(self, array: np.ndarray) -> np.ndarray:
        """An image or mask in the geometry of the network's input."""
        return fit(array, self.resize, self.crop)

    def aspect(self, name: str, domain: str, image: str) -> float:
        """Width to height of what `fitted` shows, as in the image's file; for a synthetic shift, in the original."""
        item = self._items(name, "clean").get(image) or self.item(name, domain, image)
        (height, width), (high, wide) = sides(self.resize), sides(self.resize if self.crop is None else self.crop)
        return round(item.width / width * wide / (item.height / height * high), 4)

    def predictions(self, method: str, name: str, scenario: Scenario, domain: str) -> Predictions:
        """Test scores of the scenario's model on the images of a domain."""
        path = scores_path("test", self.dataset, method, scenario.model_of(name), pair(scenario.model, domain), name)
        return self._once(("scores", str(path)), lambda: Predictions.load(path))

    def scale(self, method: str, name: str, scenario: Scenario) -> Scale:
        """The colour scale, from the images of the domain that the scenario's threshold was calibrated on."""
        return self._once(("scale", method, name, scenario.name), lambda: self._scale(method, name, scenario))

    def _scale(self, method: str, name: str, scenario: Scenario) -> Scale:
        predictions = self.predictions(method, name, scenario, scenario.val)
        every = slice(None, None, max(1, -(-len(predictions.names) // SAMPLED)))
        rows, columns = enlargements(predictions)
        maps = [rows @ one.astype(np.float32) @ columns.T for one in predictions.maps[every]]
        peaks, labels = np.array([one.max() for one in maps]), anomalous(predictions.names[every])
        normal = np.array([one[::STEP, ::STEP] for one, defective in zip(maps, labels, strict=True) if not defective])
        scores = np.where(np.abs(predictions.scores[every]) > 1e-9, predictions.scores[every], 1.0)
        ratio = float(np.median(peaks / scores)) if len(scores) else 1.0
        return scale_of(normal, peaks[labels], ratio, self.thresholds[method, name, scenario.name])

    def overlay(self, method: str, name: str, scenario: Scenario, image: str) -> np.ndarray:
        """(S, S, 3) uint8: the anomaly map over its image, the defect and what lies above the threshold outlined."""
        predictions = self.predictions(method, name, scenario, scenario.test)
        row = predictions.names.index(image)
        one = Predictions(
            (image,), predictions.scores[[row]], predictions.maps[[row]], predictions.size, predictions.smoothing
        )
        values, scale = one.full_maps()[0], self.scale(method, name, scenario)
        positions = scale.positions(values) if self.scaled == "class" else stretched(values)
        mixed = blend(self.image(name, scenario.test, image), positions, self.palette)
        mixed[outline(self.mask(name, scenario.test, image))] = TRUTH
        mixed[outline(values > scale.threshold)] = FOUND
        return mixed


def enlargements(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Matrices that enlarge and smooth the rows and columns of maps: (height, h) and (width, w) float32."""
    both = zip(predictions.maps.shape[1:], sides(predictions.size), strict=True)
    rows, columns = (enlargement(positions, side, predictions.smoothing) for positions, side in both)
    return rows, columns


def stretched(values: np.ndarray) -> np.ndarray:
    """A map scaled to its own range, lowest value 0, highest 1; so the map of a normal image has bright pixels too."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / ((high - low) or 1.0)


def blend(image: np.ndarray, positions: np.ndarray, palette: str) -> np.ndarray:
    """A map over its image: jet at `ALPHA` over the colours; cubehelix over the grey image, high values more opaque.

    Args:
        image: (S, S, 3) uint8.
        positions: (S, S) in [0, 1].
        palette: of `colours`.

    Returns:
        (S, S, 3) uint8.
    """
    heat = colours(palette)[np.rint(255 * positions).astype(int)]
    if palette == "jet":
        return np.rint((1 - ALPHA) * image + ALPHA * heat).astype(np.uint8)
    weight = 0.4 + 0.4 * positions[..., None]  # at low values the image stays recognizable
    return np.rint((1 - weight) * image.mean(axis=2, keepdims=True) + weight * heat).astype(np.uint8)


def outline(region: np.ndarray) -> np.ndarray:
    """Pixels of a (H, W) bool region that touch its outside or the border."""
    padded = np.pad(region, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return region & ~inner


def choose(dataset: str, classes: Sequence[str], count: int, domains: Sequence[str] = DOMAINS) -> Shown:
    """The test images to show."""
    return {
        (name, domain): spread(names_of(read_split(split_path(dataset, name), domain), "test"), count)
        for name in classes
        for domain in domains
    }


def spread(names: Sequence[str], count: int) -> list[str]:
    """`count` test images to show: defective ones, the defect types in turn, then one normal image.

    If there are fewer defective ones, further normal images follow, and images without a label last.
    """
    by_defect: dict[str, list[str]] = {}
    for name in sorted(names):
        by_defect.setdefault(name.split("/")[1], []).append(name)
    unknown, good = by_defect.pop(UNLABELLED, []), by_defect.pop(GOOD, [])
    defective = sum(map(len, by_defect.values()))
    normal = good[: max(1 if count > 1 else 0, count - defective)]
    queues = [list(queue) for queue in by_defect.values()]
    chosen: list[str] = []
    while any(queues) and len(chosen) < count - len(normal):
        for queue in queues:
            if queue and len(chosen) < count - len(normal):
                chosen.append(queue.pop(0))
    return chosen + normal + unknown[: count - len(chosen) - len(normal)]


def contact_sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]], header: Sequence[str] = ()) -> Image.Image:
    """Rows of pictures with a label before each row and above each column.

    Args:
        rows: (label, pictures), each (H, W, 3) uint8 or (H, W) bool.
        header: a label per column, or none.
    """
    columns, top = max(len(pictures) for _, pictures in rows), 34 if header else GAP
    sheet = Image.new("RGB", (MARGIN + columns * (TILE + GAP), top + len(rows) * (TILE + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, text in enumerate(header):
        draw.text((MARGIN + column * (TILE + GAP), 4), _wrapped(text, 20), "black", font, spacing=1)
    for row, (text, pictures) in enumerate(rows):
        y = top + row * (TILE + GAP)
        draw.text((6, y + TILE // 2 - 14), _wrapped(text, 15), "black", font)
        for column, picture in enumerate(pictures):
            tile = to_image(picture).convert("RGB").resize(_within(picture, TILE), Image.Resampling.BILINEAR)
            sheet.paste(tile, (MARGIN + column * (TILE + GAP), y))
    return sheet


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width)[:3])


def to_image(picture: np.ndarray) -> Image.Image:
    """(H, W, 3) uint8 or (H, W) bool as a Pillow image."""
    return Image.fromarray(picture if picture.dtype != bool else picture.astype(np.uint8) * 255)


def thumbnail(picture: np.ndarray, side: int) -> str:
    """A picture as a data URI, its longer side of `side` pixels: JPEG, or PNG of one bit for a mask."""
    data = io.BytesIO()
    shape = _within(picture, side)
    if picture.dtype == bool:
        kind = "png"
        to_image(picture).resize(shape, Image.Resampling.NEAREST).convert("1").save(data, kind, optimize=True)
    else:
        kind = "jpeg"
        to_image(picture).resize(shape, Image.Resampling.LANCZOS).save(data, kind, quality=82)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"


def _within(picture: np.ndarray, side: int) -> tuple[int, int]:
    """Width and height in pixels of a picture whose longer side is brought to `side`."""
    height, width = picture.shape[:2]
    longer = max(height, width)
    return max(1, round(width * side / longer)), max(1, round(height * side / longer))


def samples(album: Album, shown: Shown) -> Image.Image:
    """Two rows per class: clean images above shifted ones, the same images if drift is synthetic."""
    return contact_sheet([
        (f"{name}, {'clean' if domain == 'clean' else 'shifted'}",
         [album.image(name, domain, image) for image in images])
        for (name, domain), images in shown.items()
    ])  # fmt: skip


def columns_of(domain: str, methods: Sequence[str], scenarios: Sequence[Scenario]) -> list[tuple[str, str, Scenario]]:
    """Map columns (label, method, scenario) of the qualitative rows: clean, or under drift before and after a refit."""
    return [
        (", ".join(filter(None, (label(method), scenario.caption))), method, scenario)
        for method in methods
        for scenario in pictured(domain, scenarios)
    ]


def pictured(domain: str, scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Those of the scenarios whose anomaly maps of this domain are shown as examples."""
    return [scenario for scenario in scenarios if scenario.test == domain and scenario.caption is not None]


def qualitative(
    album: Album,
    name: str,
    domain: str,
    images: Sequence[str],
    methods: Sequence[str],
    scenarios: Sequence[Scenario] = SCENARIOS,
) -> Image.Image:
    """One row per image: the image, its ground truth, one anomaly map per method (under drift also per adaptation)."""
    columns = columns_of(domain, methods, scenarios)
    rows = [
        (image.split("/")[1].replace("_", " ") or "unlabelled",
         [album.image(name, domain, image), album.mask(name, domain, image),
          *(album.overlay(method, name, scenario, image) for _, method, scenario in columns)])
        for image in images
    ]  # fmt: skip
    return contact_sheet(rows, ["image", "ground truth", *(text for text, _, _ in columns)])


def write(
    folder: Path, album: Album, shown: Shown, methods: Sequence[str], scenarios: Sequence[Scenario] = SCENARIOS
) -> None:
    """Write samples.png and, per class, qualitative_CLASS.png and qualitative_CLASS-shift.png."""
    folder.mkdir(parents=True, exist_ok=True)
    samples(album, shown).save(folder / "samples.png", compress_level=COMPRESSION)
    for (name, domain), images in shown.items():
        ending = "" if domain == "clean" else f"-{domain}"  # class names hold no `-`
        sheet = qualitative(album, name, domain, images, methods, scenarios)
        sheet.save(folder / f"qualitative_{name}{ending}.png", compress_level=COMPRESSION)
