"""Model directories: `model.json` describes a model, `model.safetensors` holds its arrays. Equal models, equal bytes.

The JSON holds the settings, the spec of the features (backbone, weights' hash, preprocessing, layers), the versions
that made it, and each array's shape and type, so that a damaged or foreign file is refused before it is used. It holds
no path, and nothing of it is executed. Each detector checks its own arrays with `demand`.
"""

import hashlib
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from adshift.detectors import registry
from adshift.errors import AdshiftError
from adshift.features.store import check_spec
from adshift.runtime.files import read_json, write_json

FORMAT = 1
PACKAGES = ("adshift", "numpy")
REMEDY = "remove it (`adshift repair`), then fit it again with `dvc repro`, or fetch it with `dvc pull`"
MOST_JSON = 10 * 2**20  # bytes of a model.json
MOST_BYTES = 16 * 2**30  # of all arrays; a bank of the whole MVTec AD has 1 GiB
DTYPES = ("uint8", "int32", "uint32", "int64", "uint64", "float32", "float64")  # of detectors' arrays

Shape = tuple[int | None, ...]  # None: any length, but not 0


def save(
    folder: Path, kind: str, settings: Mapping[str, Any], spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write a model of method `kind`.

    Args:
        folder: made if missing.
        kind: name of the method.
        settings: of its fit.
        spec: of the features that it was fitted on; it can score no others.
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
        AdshiftError: a file is missing, damaged or absurdly large, or is another method's model.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    file = folder / "model.safetensors"
    if _size(folder / "model.json") > MOST_JSON:
        raise AdshiftError(f"{folder / 'model.json'}: larger than {MOST_JSON} bytes", REMEDY)
    model = read_json(folder / "model.json", REMEDY)
    try:
        if type(model["format"]) is not int or (model["format"], model["method"]) != (FORMAT, kind):
            raise ValueError(f"{model['method']} of format {model['format']}, not {FORMAT}")
        spec, sha256 = dict(model["features"]), model["sha256"]
        check_spec(spec)
        settings = registry.schemas(kind)["fit"].of(model["settings"])
        levels = registry.detector_class(kind).levels(settings)
        if max(levels, default=0) > len(spec["layers"]):
            raise ValueError(f"a level beyond the {len(spec['layers'])} layers of the features")
        expected = {name: (tuple(entry["shape"]), entry["dtype"]) for name, entry in model["arrays"].items()}
        claimed = sum(_bytes(*entry) for entry in expected.values())
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise AdshiftError(f"{folder / 'model.json'}: no {kind} model of adshift ({error!r})", REMEDY) from None
    if not claimed <= _size(file) <= min(claimed + MOST_JSON, MOST_BYTES):
        message = f"{file}: {_size(file)} bytes, but model.json speaks of arrays of {claimed} (at most {MOST_BYTES})"
        raise AdshiftError(message, REMEDY)
    try:
        content = file.read_bytes()
        arrays = from_bytes(content)
    except (
        OSError,
        SafetensorError,
        KeyError,
        TypeError,
        ValueError,
    ) as error:  # ValueError: types that NumPy does not have
        raise AdshiftError(f"{file}: not readable ({error})", REMEDY) from None
    if {name: (array.shape, str(array.dtype)) for name, array in arrays.items()} != expected:
        raise AdshiftError(f"{file}: other arrays than model.json says", REMEDY)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise AdshiftError(f"{file}: damaged, its content is not what model.json says", REMEDY)
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise AdshiftError(f"{file}: holds NaN or infinity", REMEDY)
    return settings, spec, arrays


def demand(folder: Path, arrays: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[str, Shape]]) -> None:
    """Refuse arrays that differ from `wanted`, {name: (dtype's name or kind, shape)}, also further ones.

    Raises:
        AdshiftError: naming one that is missing, unknown, or of another type or shape.
    """
    if set(arrays) != set(wanted):
        odd = ", ".join(sorted(set(arrays) ^ set(wanted))[:5])
        raise AdshiftError(f"{folder}: its arrays are not those of its settings: {odd}", REMEDY)
    for name, (dtype, shape) in wanted.items():
        array = arrays[name]
        fits = array.ndim == len(shape) and all(
            length >= 1 if side is None else length == side for length, side in zip(array.shape, shape, strict=True)
        )
        if not fits or dtype not in (array.dtype.name, array.dtype.kind):
            expected = ", ".join("any" if side is None else str(side) for side in shape)
            raise AdshiftError(
                f"{folder}: {name} is {array.dtype} {array.shape}, expected {dtype} ({expected})", REMEDY
            )


def demand_that(sound: Any, folder: Path, what: str) -> None:
    """Refuse a model whose arrays have wrong values.

    Raises:
        AdshiftError: `what`, if it is not `sound`.
    """
    if not sound:
        raise AdshiftError(f"{folder}: {what}", REMEDY)


def distinct(numbers: np.ndarray, below: int) -> bool:
    """Whether these are distinct indices of an array with `below` entries."""
    return bool(numbers.min() >= 0 and numbers.max() < below and len(np.unique(numbers)) == len(numbers))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise AdshiftError(f"{path}: not readable ({error.strerror})", REMEDY) from None


def _bytes(shape: tuple[Any, ...], dtype: Any) -> int:
    """Bytes of an array; ValueError for shapes and types that no detector has."""
    if dtype not in DTYPES or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"an array of type {dtype} and shape {shape}")
    return math.prod(shape) * np.dtype(dtype).itemsize
