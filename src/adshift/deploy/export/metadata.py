"""The metadata of an exported file: `adshift.deploy.graph_file` lists them."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adshift import __version__
from adshift.data.shapes import Size, sides
from adshift.detectors.records import Reference
from adshift.errors import AdshiftError
from adshift.evaluation import threshold_file
from adshift.runtime.checksums import MODEL_REMEDY
from adshift.runtime.files import read_json

FEATURES = ("size", "preprocessing", "bits")  # of a detector's spec: what an image goes through, and how deep it is


def describe(folder: Path, method: str, detector: Any, settings: Any) -> dict[str, str]:
    """Metadata of a model directory: how to use the graph, and its origin. Values are text; structured ones are JSON.

    Raises:
        AdshiftError: a part of the directory is damaged.
    """
    spec = detector.spec
    bits = spec.get("bits", 16)
    channels = sum(layer["shape"][-1] for layer in spec["layers"])
    features = {key: spec[key] for key in FEATURES if key in spec} | {"bits": bits, "channels": channels}
    return {
        "adshift_version": __version__,
        "method": method,
        **fitted_on(folder),
        "size": " ".join(str(side) for side in dict.fromkeys(sides(spec["size"]))),
        "before": before(spec),
        "preprocessing": _json(spec["preprocessing"]),
        "features": _json(features),
        "settings": _json(dict(detector.settings)),
        "scoring": _json(dict(settings)),
        "backbone": spec["backbone"],
        "weights_sha256": spec["weights"]["sha256"],
        "model_sha256": hashlib.sha256((folder / "model.json").read_bytes()).hexdigest(),
        **dict(_threshold(folder / "threshold.json")),
        **dict(_origin(folder)),
    }


def before(spec: Mapping[str, Any]) -> str:
    """What an image needs before the graph."""
    bits, crop = spec.get("bits", 16), spec["preprocessing"]["crop"]
    scaled = f"scale gray values of {bits} bits to 0 to 255; " if bits > 8 and "bits" in spec else ""
    inside = (
        f"the graph resizes to {_shown(spec['preprocessing']['resize'])} pixels as Pillow does (bilinear, antialiased)"
    )
    inside += f" and cuts the centre of {_shown(crop)} pixels out" if crop else ""
    reference = spec["preprocessing"].get("normalise")
    return scaled + inside + (f", then brings each channel's {reference['kind']} to the model's" if reference else "")


def fitted_on(folder: Path) -> dict[str, str]:
    """`class` and `domain` that a model was fitted on, from its card.

    A model that `fit` wrote has no card; its folder is CLASS/DOMAIN.

    Raises:
        AdshiftError: the card is damaged.
    """
    card = folder / "card.json"
    if not card.is_file():
        return {"class": folder.resolve().parent.name, "domain": folder.resolve().name}
    try:
        about = read_json(card, MODEL_REMEDY)["model"]
        return {key: str(about[key]) for key in ("class", "domain")}
    except (KeyError, TypeError) as error:
        raise AdshiftError(f"{card}: does not say what the model was fitted on ({error})", MODEL_REMEDY) from None


def _threshold(path: Path) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        return
    record = threshold_file.read(path)
    yield "threshold", repr(record.threshold)
    yield "threshold_rule", record.rule or ""
    yield "threshold_record", _json(record.to_dict())


def _origin(folder: Path) -> Iterator[tuple[str, str]]:
    if (folder / "card.json").is_file():
        yield "card", _json(read_json(folder / "card.json", MODEL_REMEDY))
    reference = folder / "reference.npz"
    if reference.is_file():
        Reference.load(reference)  # it raises if it is damaged
        yield "reference", base64.b64encode(reference.read_bytes()).decode()


def _shown(size: Size) -> str:
    height, width = sides(size)
    return f"{width} x {height}" if height == width else f"{width} x {height} (width x height)"


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
