"""Checks of parameters, data and weights before any work starts."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, prod
from pathlib import Path
from typing import Any

from adshift.data import split_file, splits
from adshift.data.images import sha256
from adshift.data.shapes import sides
from adshift.detectors import registry
from adshift.errors import AdshiftError
from adshift.features.backbones import PACKAGED, STRIDES_4_8_16, Backbone, families, find_weights, layers
from adshift.features.backbones.channels import CHANNELS
from adshift.features.backbones.tiling import Tiling
from adshift.features.settings import Features
from adshift.project import graph_lists, params
from adshift.project.data_check import Checked, look
from adshift.project.own_images import check_root
from adshift.project.paths import NETWORK, SOURCES
from adshift.runtime.files import read_json

LARGE = 20e9  # bytes of feature maps from which on `features.store: needed` is advised


def check() -> Checked:
    """Check all of params.yaml, the data set's layout, and that the weights are available.

    Returns:
        all parameters, the counts of the data set, and warnings.

    Raises:
        AdshiftError: naming what is wrong and the remedy.
    """
    settings = params.load_all()
    _check_graph()
    check_root(settings.dataset.root)
    checked = look(settings)
    kept = len(layers(settings.features))
    for method in dict.fromkeys([*settings.methods, "patchcore"]):  # the ablation always uses PatchCore
        asked = max(getattr(settings, method).layers)
        if asked > kept:
            raise AdshiftError(
                f"params.yaml: {method}.layers: level {asked}, but features.layers names {kept}", f"at most {kept}"
            )
    if "stfpm" in settings.methods and not settings.features.images:
        raise AdshiftError("params.yaml: stfpm trains on images, which features.images does not keep", "set it to true")
    _check_shape(settings.features)
    if split_file.calibrated_on(settings.split.protocol) == "test" and settings.calibrate.rule == "target_fpr":
        raise AdshiftError(
            "params.yaml: calibrate.rule: target_fpr looks at validation images, split.protocol: official has none",
            "f1_exact or f1_grid give the upper bound that the protocol is about; or set split.protocol: study",
        )
    _check_counts(settings, checked.normal)
    _check_coreset(settings, checked.normal)
    find_weights(settings.features)
    check_weights(settings.features)
    if line := _large(settings, checked):
        return replace(checked, warnings=(*checked.warnings, line))
    return checked


def _large(settings: Any, checked: Checked) -> str:
    """Advice for a set whose feature maps take much room; empty for others, and where the shapes are not known."""
    features = settings.features
    if features.store != "all" or features.layers or features.backbone not in STRIDES_4_8_16.keys() & CHANNELS.keys():
        return ""
    used = {level for method in settings.methods for level in registry.levels(dict(getattr(settings, method)))}
    height, width = sides(features.crop or features.resize)
    value = 2 if features.dtype == "float16" else 4
    each = [
        value * channels * ceil(height / stride) * ceil(width / stride)
        for channels, stride in zip(CHANNELS[features.backbone], (4, 8, 16), strict=True)
    ]
    counts = checked.survey.counts
    images = sum(counts[kind] for kind in ("train", "val", "good", "defective", "unlabelled"))
    images *= len(settings.graph.domains)
    whole, needed = (images * size for size in (sum(each), sum(each[level - 1] for level in used)))
    if whole < LARGE or needed == whole:
        return ""
    return f"feature maps will take {whole / 1e9:.0f} GB, {needed / 1e9:.0f} GB with features.store: needed"


def _check_shape(features: Features) -> None:
    """Refuse shapes of the network's input that contradict one another."""
    if features.fit != "squeeze" and features.crop:
        remedy = "empty features.crop, or set features.fit: squeeze"
        raise AdshiftError(f"params.yaml: features.crop would cut off a part that fit: {features.fit} keeps", remedy)
    if any(cut > side for cut, side in zip(sides(features.crop or 1), sides(features.resize), strict=True)):
        raise AdshiftError("params.yaml: features.crop is larger than features.resize", "crop at most what was resized")
    if features.fit == "tile":
        height, width = sides(features.resize)
        if height == width:
            message = f"params.yaml: features.fit: tile, but features.resize {height} is a square, and so a single tile"
            raise AdshiftError(
                message, "set features.resize: [HEIGHT, WIDTH], as `adshift preset` proposes, or fit: squeeze"
            )
        Tiling.of(features.resize)


def network_record(settings: Features) -> dict[str, Any]:
    """The record that the stage check_network writes, so that another network makes features stale.

    It has the hash of a file of weights. For a network that timm does not have, it has the layers and the hash of the
    family's code: `embed` imports the family by name, so its other dependencies include none.
    """
    record: dict[str, Any] = {"ok": True}
    if family := families.of(settings.backbone):
        root = f"backbones/{family.name}"
        record |= {"layers": list(layers(settings)), "code": {root: sha256(SOURCES / f"{root}.json")}}
    if settings.weights:
        record |= _weights_record(settings.weights)
    return record


def _weights_record(weights: str) -> dict[str, str]:
    with Path(weights).open("rb") as file:
        return {"weights": weights, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def check_weights(settings: Features) -> None:
    """Check that the file `features.weights`, which DVC does not track, is the one that was used.

    Raises:
        AdshiftError: its content has changed.
    """
    if not settings.weights or not NETWORK.is_file():
        return
    used = read_json(NETWORK)
    if used.get("weights") == settings.weights and not used.items() >= _weights_record(settings.weights).items():
        raise AdshiftError(
            f"features.weights: {settings.weights} changed since features were made with it",
            "`dvc repro --force --single-item check_network` takes the new one, then `dvc repro`; or restore the file",
        )


def check_network(settings: Features) -> None:
    """Build the network once, and fetch its weights, unless it is the default of a package.

    Raises:
        AdshiftError: a missing backbone or layer, or weights that are not available or do not fit.
    """
    if settings.backbone not in PACKAGED or settings.weights or settings.layers:
        Backbone(settings)


def _check_graph() -> None:
    """Refuse lists in `graph` that are out of date: DVC has filled its matrices from them before this check."""
    values = params.read()
    for key, wanted in graph_lists.lists(values).items():
        if values["graph"][key] != wanted:
            listed = f"graph.{key}=[{','.join(wanted)}]"
            raise AdshiftError(
                f"params.yaml: graph.{key} is {values['graph'][key]}, but the other keys make it {wanted}",
                f"`adshift check` writes it, and so does `adshift repro`; with -S add -S '{listed}'",
            )


def _check_counts(settings: Any, normal: Mapping[str, Mapping[str, int]]) -> None:
    """Refuse a method with fewer training images than it needs, or fewer channels than it draws."""
    for method in settings.methods:
        least = registry.detector_class(method).least_images
        for name, counts in normal.items():
            if 0 < (images := splits.training_count(settings.split, counts)) < least:
                raise AdshiftError(
                    f"class {name}: {images} training image{'s' * (images > 1)}, but {method} needs {least}",
                    "add normal images, or raise split.train_fraction or split.max_train",
                )
        own, features = getattr(settings, method), settings.features
        channels = None if features.layers else CHANNELS.get(features.backbone)
        if channels and hasattr(own, "n_features") and own.n_features > (there := _channels(channels, own.layers)):
            raise AdshiftError(
                f"params.yaml: {method}.n_features: {own.n_features}, but {method}.layers of {features.backbone} have "
                f"{there} channels",
                f"at most {there}",
            )


def _channels(channels: tuple[int, ...], levels: Sequence[int]) -> int:
    return sum(channels[level - 1] for level in levels)


def _check_coreset(settings: Any, normal: Mapping[str, Mapping[str, int]]) -> None:
    """Refuse a coreset ratio that selects no patch of a class; an unknown layer has at most one patch per pixel."""
    features = settings.features
    known = not features.layers and features.backbone in STRIDES_4_8_16
    name = min(normal, key=lambda one: normal[one]["train"])
    images = splits.training_count(settings.split, normal[name])
    ratios = [("ablation.ratios", settings.patchcore, ratio) for ratio in settings.ablation.ratios]
    banks = [("patchcore", settings.patchcore)]
    if "patchcore_pq" in settings.methods:
        banks.append(("patchcore_pq", settings.patchcore_pq))
    for key, bank, ratio in [*((f"{method}.coreset", bank, bank.coreset) for method, bank in banks), *ratios]:
        stride = 2 ** (bank.layers[0] + 1) if known else 1
        each = prod(ceil(ceil(side / stride) / bank.stride) for side in sides(features.crop or features.resize))
        if (
            images and ratio * images * each + 1e-9 < 1
        ):  # rounded as in `coreset.size_of`; without images, `split` raises
            raise AdshiftError(
                f"params.yaml: {key}: {ratio} selects none of the {images * each} patches of {name}'s {images} "
                "training images",
                f"raise {key}",
            )
