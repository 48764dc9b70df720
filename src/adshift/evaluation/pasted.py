"""Scores of normal validation images with pasted defects, which set thresholds under `calibrate.rule: pasted`.

The patches (`adshift.data.pasting`) have the sizes and contrasts of `adshift blindness`. Every model scores them as it
scores the validation images of its scenario. No test image and no defective image has a say.

Notation: P images with a pasted defect.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from adshift.data import manifest, split_file
from adshift.data.images import load_image
from adshift.data.manifest import Item
from adshift.data.normalising import of_spec
from adshift.data.pasting import Pasted, paste
from adshift.detectors import registry
from adshift.errors import AdshiftError
from adshift.evaluation.scenarios import UNIFIED, Scenario
from adshift.evaluation.stored_predictions import pasted_file
from adshift.features import extract
from adshift.features.alignment import FILE, Alignment
from adshift.features.backbones import Backbone
from adshift.features.settings import Stored
from adshift.features.store import Features
from adshift.project.paths import lever_path, model_path, settings_path, split_path
from adshift.runtime.files import write_json

COPY = "+pasted"  # ends the name of a pasted copy, before its number
RECORD = "patches.json"


@dataclass(frozen=True)
class Copies:
    """Pasted copies of the normal validation images of a class.

    Attributes:
        dataset, name: of the pipeline; `name` is the class.
        seed: of the patches.
        folder: for feature maps.
    """

    dataset: str
    name: str
    seed: int
    folder: Path

    @cached_property
    def settings(self) -> Stored:
        """Of the feature maps."""
        return Stored.read(settings_path("features"))

    @cached_property
    def backbone(self) -> Backbone:
        """The network."""
        return Backbone(self.settings)

    def of(self, domain: str) -> tuple[list[Item], Pasted]:
        """The normal validation images of a domain, once for each of their patches, and the patches."""
        used = set(split_file.images_of(split_file.read(split_path(self.dataset, self.name), domain), "val"))
        items = manifest.read(manifest.path_of(self.dataset, self.name, domain))
        normal = [item for item in items if item.name in used and item.defect == manifest.GOOD]
        if not normal:
            message = f"{self.name}, {domain}: no normal validation image to paste a defect onto"
            raise AdshiftError(message, "lower split.train_fraction, or set calibrate.rule: auto in params.yaml")
        pasted = Pasted.of([item.name for item in normal], self.seed)
        names = [f"{normal[owner].name}{COPY}{number}" for number, owner in enumerate(pasted.owners)]
        return [
            replace(normal[owner], name=name, mask="") for name, owner in zip(names, pasted.owners, strict=True)
        ], pasted

    def features(self, domain: str, normalised: bool = False) -> Features:
        """Feature maps of the copies of a domain, their intensities brought to the training images' if `normalised`."""
        folder = self.folder / f"{domain}-{normalised}"
        if not folder.exists():
            items, pasted = self.of(domain)
            patches = {item.name: patch for item, patch in zip(items, pasted.patches, strict=True)}
            reference = None
            if normalised:
                spec = Features.open(lever_path("normalise", self.dataset, self.name) / "clean").spec
                reference = of_spec(spec["preprocessing"])
            extract.embed(
                items, self.backbone, folder, what=f"embedding pasted copies of {self.name}, {domain}",
                load=lambda item: paste(load_image(item), patches[item.name])[0],
                normalise=reference, levels=self.settings.levels,
            )  # fmt: skip
        return Features.open(folder)

    def records(self, domain: str) -> list[dict[str, Any]]:
        """Image and patch of every copy, in the order of the scores."""
        items, pasted = self.of(domain)
        return [
            {"image": item.name.rpartition(COPY)[0], "patch": patch.model_dump(mode="json")}
            for item, patch in zip(items, pasted.patches, strict=True)
        ]


def write(folder: Path, copies: Copies, methods: Sequence[str], scenarios: Sequence[Scenario]) -> None:
    """Write the scores that scenarios need of the pasted copies of a class, and the patches.

    Args:
        folder: of the class.
        copies: of its validation images.
        methods: whose models score them.
        scenarios: whose thresholds are set; those set by normal images alone need nothing.
    """
    wanted = [scenario for scenario in scenarios if not scenario.by_rate]
    for method in methods:
        kind, scoring = registry.detector_class(method), registry.settings(method, "score")
        for file, scenario in {pasted_file(method, one, copies.name): one for one in wanted}.items():
            source = model_path(copies.dataset, method, UNIFIED if scenario.unified else copies.name, scenario.variant)
            images = copies.features(scenario.val, normalised=scenario.lever == "normalise")
            if scenario.lever == "align":
                images = Alignment.load(source / FILE)(images)
            scores = kind.load(source).predict(images, scoring).scores
            write_json(folder / file, {"scores": scores.tolist()}, checksum=True)
    for domain in sorted({scenario.val for scenario in wanted}):
        write_json(folder / domain / RECORD, {"copies": copies.records(domain)}, checksum=True)
