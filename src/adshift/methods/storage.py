"""A model directory: `model.json` says what it is, `model.safetensors` holds its arrays. Equal models, equal bytes.

The JSON holds the settings, how the features were made (backbone, weights' hash, preprocessing, layers), the versions
that made it, and each array's shape and type, so that a damaged or foreign file is refused before it is used.
"""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from adshift import methods
from adshift.errors import AdshiftError
from adshift.stage import read_json, write_json

FORMAT = 1
PACKAGES = ("adshift", "numpy")
REMEDY = "remove it (`adshift repair`), then fit it again with `dvc repro`, or fetch it with `dvc pull`"


def save(
    folder: Path, kind: str, settings: Mapping[str, Any], spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write a model of method `kind`.

    Args:
        folder: made if missing.
        kind: name of the method.
        settings: of its fit.
        spec: of the features that it was fitted on, with which it alone can score.
        arrays: all finite.

    Raises:
        ValueError: an array holds NaN or infinity.
    """
    from safetensors.numpy import save as to_bytes

    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{kind}: {name} is not finite")
    content = to_bytes({name: np.asarray(array, order="C") for name, array in arrays.items()})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(content)
    write_json(folder / "model.json", {
        "format": FORMAT,
        "method": kind,
        "settings": dict(settings),
        "features": dict(spec),
        "versions": {package: version(package) for package in PACKAGES},
        "arrays": {name: {"shape": array.shape, "dtype": str(array.dtype)} for name, array in arrays.items()},
        "sha256": hashlib.sha256(content).hexdigest(),
    }, checksum=True)  # fmt: skip


def load(folder: Path, kind: str) -> tuple[Any, dict[str, Any], dict[str, np.ndarray]]:
    """The `Fit` settings, features' spec and arrays of a model that `save` wrote.

    Raises:
        AdshiftError: a file is missing or damaged, or is another method's model.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    model, file = read_json(folder / "model.json", REMEDY), folder / "model.safetensors"
    try:
        if (model["format"], model["method"]) != (FORMAT, kind):
            raise ValueError(f"{model['method']} of format {model['format']}, not {FORMAT}")
        spec, sha256 = dict(model["features"]), model["sha256"]
        settings = methods.schemas(kind)["fit"].of(model["settings"])
        expected = {name: (tuple(entry["shape"]), entry["dtype"]) for name, entry in model["arrays"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AdshiftError(f"{folder / 'model.json'}: no {kind} model of adshift ({error!r})", REMEDY) from None
    try:
        content = file.read_bytes()
        arrays = from_bytes(content)
    except (OSError, SafetensorError) as error:
        raise AdshiftError(f"{file}: not readable ({error})", REMEDY) from None
    if {name: (array.shape, str(array.dtype)) for name, array in arrays.items()} != expected:
        raise AdshiftError(f"{file}: other arrays than model.json says", REMEDY)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise AdshiftError(f"{file}: damaged, its content is not what model.json says", REMEDY)
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise AdshiftError(f"{file}: holds NaN or infinity", REMEDY)
    return settings, spec, arrays
