"""How blind is a model? Defects pasted onto normal images (`adshift.data.pasting`), by their size and contrast.

Whoever has no defective image learns which share of such defects the model detects at its threshold, and an estimate
of AUROC. docs/blindness.md says how far the estimate can be trusted.

Notation: N normal images, P pasted ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adshift.data.pasting import CELLS, Pasted, paste
from adshift.errors import AdshiftError
from adshift.evaluation.conformal import Rate, clopper_pearson
from adshift.evaluation.metrics.counts import decide
from adshift.evaluation.metrics.ranking import auroc
from adshift.runtime import seeding
from adshift.runtime.extras import needs
from adshift.runtime.files import output, write_json

if TYPE_CHECKING:
    from adshift.deploy.inference import Input, Model

DRAWS = 1000  # of the bootstrap
RECORD = "pasted.json"


def inputs(pasted: Pasted, model: "Model", images: Sequence[Path]) -> list["Input"]:
    """The pasted images as inputs of the network; P of them.

    Raises:
        AdshiftError: an image cannot be read.
    """
    from adshift.data import images as files

    made, latest, pixels = [], -1, np.empty(0)
    for patch, owner in zip(pasted.patches, pasted.owners, strict=True):
        if owner != latest:
            latest, pixels = owner, files.read(images[owner]).pixels(model.bits)
        made.append(model.read(paste(pixels, patch)[0], f"{images[owner]}, pasted"))
    return made


@dataclass(frozen=True)
class Cell:
    """Defects of one size and contrast.

    Attributes:
        area: share of the image's area.
        contrast: of the patch.
        patches: number of pasted images.
        detected: share of them at or above the threshold, with its 95 % interval.
    """

    area: float
    contrast: float
    patches: int
    detected: Rate


@dataclass(frozen=True)
class Blindness:
    """What a model sees of pasted defects.

    Attributes:
        images: N.
        false_alarms: share of the N images at or above the threshold, with its 95 % interval.
        auroc: of pasted against normal images: an estimate of AUROC on real defects, with its 95 % interval.
        cells: by size and contrast.
    """

    images: int
    threshold: float
    false_alarms: Rate
    auroc: Rate
    cells: tuple[Cell, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        cells = [{**vars(cell), "detected": cell.detected.model_dump()} for cell in self.cells]
        return {**vars(self), "cells": cells, "auroc": self.auroc.model_dump(),
                "false_alarms": self.false_alarms.model_dump()}  # fmt: skip

    def lines(self) -> list[str]:
        """For the command line."""
        contrasts = sorted({cell.contrast for cell in self.cells})
        lines = [
            "detected at the threshold, in percent, by the share of the image's area and by contrast",
            f"{'area':>8}" + "".join(f"{contrast:>18g}" for contrast in contrasts),
        ]
        for area in sorted({cell.area for cell in self.cells}):
            row = [cell for cell in self.cells if cell.area == area]
            lines.append(f"{100 * area:>6g} %" + "".join(f"{_percent(cell.detected):>18}" for cell in row))
        return [
            *lines,
            f"estimate of AUROC: {self.auroc.value:.3f} (95 % interval {self.auroc.low:.3f} to {self.auroc.high:.3f})",
            f"false alarms on {self.images} normal images: {_percent(self.false_alarms)} percent",
        ]


def blindness(
    folder: Path, normal: Sequence[str], *, threshold: str | float | None = None, seed: int = 0, out: Path | None = None
) -> Blindness:
    """What the model in `folder` sees of defects pasted onto normal images.

    Args:
        folder: model directory or exported file.
        normal: files, folders or patterns of normal images that the model was not fitted on.
        threshold: as for `adshift.load`.
        seed: of the patches.
        out: new folder for the pasted images as PNG files, and `pasted.json` with their patches.

    Raises:
        AdshiftError: no model, an image that cannot be read, or `out` exists.
    """
    from adshift.data.image_files import images
    from adshift.deploy import loading

    if out is not None and out.exists():
        raise AdshiftError(f"{out} is there already, and nothing is overwritten", "give another --out")
    needs("skimage", "scipy", extra="drift", what="adshift blindness pastes textures")
    loading.check(folder)
    paths = images(normal)
    model = loading.load(folder, threshold=threshold)
    pasted = Pasted.of([path.name for path in paths], seed)
    if out is not None:
        _write(out, paths, pasted, model.bits)
    scores, _ = model.score(paths)
    pasted_scores, _ = model.score(inputs(pasted, model, paths))
    return measured(scores, pasted_scores, pasted, model.threshold, seed)


def measured(
    scores: np.ndarray, pasted_scores: np.ndarray, pasted: Pasted, threshold: float, seed: int = 0
) -> Blindness:
    """The result from raw scores (N,) of normal and (P,) of pasted images."""
    alarms, hits = decide(scores, threshold), decide(pasted_scores, threshold)
    cells = []
    for area, contrast in CELLS:
        inside = [(one.area, one.contrast) == (area, contrast) for one in pasted.patches]
        if count := sum(inside):
            cells.append(Cell(area, contrast, count, clopper_pearson(int(hits[inside].sum()), count)))
    return Blindness(
        len(scores), threshold, clopper_pearson(int(alarms.sum()), len(scores)),
        estimated_auroc(scores, pasted_scores, pasted.owners, seed), tuple(cells),
    )  # fmt: skip


def estimated_auroc(scores: np.ndarray, pasted_scores: np.ndarray, owners: np.ndarray, seed: int = 0) -> Rate:
    """AUROC of pasted against normal images; its interval by bootstrap of the normal images with what is theirs."""
    value = auroc_of(scores, pasted_scores)
    generator = seeding.generator(seed, "blindness")
    values = []
    for _ in range(DRAWS):
        drawn = generator.integers(0, len(scores), len(scores))
        theirs = np.repeat(np.arange(len(owners)), np.bincount(drawn, minlength=len(scores))[owners])
        values.append(auroc_of(scores[drawn], pasted_scores[theirs]))
    low, high = np.quantile(values, [0.025, 0.975])
    return Rate(value=value, low=min(low, value), high=max(high, value))


def auroc_of(normal: np.ndarray, anomalous: np.ndarray) -> float:
    """AUROC of two sets of raw scores."""
    labels = np.arange(len(normal) + len(anomalous)) >= len(normal)
    value = auroc(np.concatenate([normal, anomalous]), labels)
    assert value is not None  # both kinds are there
    return float(value)


def _percent(rate: Rate) -> str:
    return f"{100 * rate.value:.0f} ({100 * rate.low:.0f} to {100 * rate.high:.0f})"


def _write(out: Path, paths: Sequence[Path], pasted: Pasted, bits: int) -> None:
    from PIL import Image

    from adshift.data import images as files

    with output(out) as folder:
        folder.mkdir(parents=True)
        records = []
        for number, (patch, owner) in enumerate(zip(pasted.patches, pasted.owners, strict=True)):
            image, mask = paste(files.read(paths[owner]).pixels(bits), patch)
            name = f"{number:04}.png"
            Image.fromarray(image).save(folder / name)
            Image.fromarray(mask * np.uint8(255)).save(folder / f"{number:04}_mask.png")
            records.append({"file": name, "image": str(paths[owner]), "patch": patch.model_dump(mode="json")})
        write_json(folder / RECORD, records)
