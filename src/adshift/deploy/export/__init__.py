"""Export a fitted detector as one ONNX graph, from image to score and anomaly map, which runs without Python.

The graph holds normalization, backbone, search and map. Resizing and cropping come before it: Pillow's bilinear filter
rounds to bytes between its two passes, which no operator of ONNX does, so an image resized in the graph would differ
from the images that the model was fitted on. The file's metadata describe the steps before the graph.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from adshift import __version__
from adshift.data.shapes import Size, sides
from adshift.detectors import registry
from adshift.errors import AdshiftError
from adshift.evaluation import threshold_file
from adshift.features.alignment import FILE as ALIGNMENT
from adshift.runtime.checksums import MODEL_REMEDY
from adshift.runtime.files import output, read_json

Dtype = Literal["float32", "float16", "int8"]
DTYPES: tuple[str, ...] = get_args(Dtype)
OPSETS = range(18, 24)
INPUTS = ("uint8", "float32")
LAYOUTS = ("NHWC", "NCHW")
BATCH = 2  # of the traced example; the exporter takes 1 for a constant


def _patchcore(detector: Any, scoring: Any) -> Any:
    from adshift.deploy.export import banks

    return banks.patchcore(detector, scoring)


def _patchcore_pq(detector: Any, scoring: Any) -> Any:
    from adshift.deploy.export import banks

    return banks.patchcore_pq(detector, scoring)


def _full(detector: Any, scoring: Any) -> Any:
    from adshift.deploy.export import gaussians

    return gaussians.FullHead(detector, scoring)


def _diagonal(detector: Any, scoring: Any) -> Any:
    from adshift.deploy.export import gaussians

    return gaussians.DiagonalHead(detector, scoring)


# {method: function from a fitted detector and its settings of scoring to its head, a torch module}.
HEADS: dict[str, Callable[[Any, Any], Any]] = {
    "patchcore": _patchcore,
    "patchcore_pq": _patchcore_pq,
    "padim": _full,
    "padim_streaming": _full,
    "padim_diagonal": _diagonal,
}


def export(
    folder: Path,
    settings: Any,
    to: Path,
    *,
    opset: int = 18,
    dtype: Dtype = "float32",
    pixels: Literal["uint8", "float32"] = "uint8",
    layout: Literal["NHWC", "NCHW"] = "NHWC",
    calibrate: Path | None = None,
    weights: Path | None = None,
) -> dict[str, str]:
    """Write a model directory as one ONNX file: `image` to `score` (N,) and `map` (N, S, S), float32, any batch N.

    Args:
        folder: the model directory.
        settings: of scoring, the method's `Score`.
        to: the file.
        opset: of ONNX's operators, one of OPSETS.
        dtype: float32; float16: large constants are stored in 16 bits, computation is in float32; int8: half of the
            backbone's layers are in 8 bits, the search is in float32.
        pixels: of the input, 0 to 255 or 0 to 1.
        layout: of the input.
        calibrate: for int8, a folder of normal images that set the ranges of activations.
        weights: the file of the backbone's weights, if they came from one.

    Returns:
        The metadata written into the file.

    Raises:
        AdshiftError: a damaged model, a method without a graph, other weights than recorded, no image to calibrate
            with, or a missing package.
    """
    _check(opset, dtype, pixels, layout, calibrate)
    method = method_of(folder)
    detector = _detector(folder, method)
    normal = None
    if calibrate:
        from adshift.deploy.export import int8

        int8.check_installed()
        normal = int8.images(calibrate, detector.spec)
    from adshift.features.backbones import from_spec

    backbone = from_spec(detector.spec, weights)  # it checks the values that follow
    metadata = {**_metadata(folder, detector, settings), "dtype": dtype, "input": f"{pixels} {layout} RGB"}
    from adshift.deploy.export import files, graph

    head = HEADS[method](detector, settings)
    network = graph.Graph(backbone, head, detector.spec, pixels, layout, adjusted=dtype == "int8").eval()
    model = files.traced(network, _example(detector.spec["size"], pixels, layout), opset)
    if normal is not None:
        model, metadata["calibration_images"] = int8.quantized(model, normal, pixels, layout), str(len(normal))
    if dtype == "float16":
        files.halve(model)
    files.describe(model, metadata)
    with output(to) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return metadata


def _detector(folder: Path, method: str) -> Any:
    """The fitted detector.

    Raises:
        AdshiftError: it is damaged, or a graph cannot compute its features.
    """
    detector = registry.detector_class(method).load(folder)
    if detector.spec.get("precision", "float32") != "float32":
        raise AdshiftError(
            f"{folder}: its features were computed in {detector.spec['precision']}, a graph computes in float32",
            "fit the model with features.precision: float32",
        )
    if detector.spec["preprocessing"].get("fit") == "pad":
        raise AdshiftError(
            f"{folder}: a model of padded images: a graph sees the pixels alone, not which of them are padding",
            "fit the model with features.fit: squeeze or tile",
        )
    if (folder / ALIGNMENT).is_file():
        raise AdshiftError(
            f"{folder}: a model of aligned features: a graph does not align them",
            "export the model of the clean domain, or the one of the lever normalise",
        )
    return detector


def method_of(folder: Path) -> str:
    """The method of the model in a directory.

    Raises:
        AdshiftError: there is no model, or its method has no graph.
    """
    if not (folder / "model.json").is_file():
        raise AdshiftError(f"{folder}: no model directory, model.json is not there", "name one, or `dvc pull` it")
    record = read_json(folder / "model.json")
    method = record.get("method") if isinstance(record, dict) else None
    if not isinstance(method, str) or method not in HEADS:
        raise AdshiftError(
            f"{folder}: a model of {method or 'no known method'}, which has no graph",
            f"these can be exported: {', '.join(HEADS)}",
        )
    return method


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


def scoring(method: str, folder: Path, params: Path) -> Any:
    """The method's settings of scoring: from the model directory, or from params.yaml for a model that `fit` wrote.

    Raises:
        AdshiftError: the file is missing, or has no such section or a mistake in it.
    """
    if (folder / "score.json").is_file():
        return registry.settings(method, "score", folder / "score.json", MODEL_REMEDY)
    from adshift.project.params import load

    section = getattr(load(method, path=params), method)
    return registry.schemas(method)["score"].within(dict(section))


def _check(opset: int, dtype: str, pixels: str, layout: str, calibrate: Path | None) -> None:
    for name, value, known in (("dtype", dtype, DTYPES), ("input", pixels, INPUTS), ("layout", layout, LAYOUTS)):
        if value not in known:
            raise AdshiftError(f"export: {name} {value} is unknown", f"choose from {', '.join(known)}")
    if opset not in OPSETS:
        raise AdshiftError(f"export: opset {opset} is not supported", f"choose {OPSETS[0]} to {OPSETS[-1]}")
    if (dtype == "int8") != (calibrate is not None):
        raise AdshiftError(
            "export: int8 needs normal images to calibrate with, and nothing else does", "--dtype int8 --calibrate DIR"
        )


def _example(size: Size, pixels: str, layout: str) -> Any:
    import torch

    shape = (BATCH, *sides(size), 3) if layout == "NHWC" else (BATCH, 3, *sides(size))
    return torch.zeros(shape, dtype=getattr(torch, pixels))


def _metadata(folder: Path, detector: Any, settings: Any) -> dict[str, str]:
    """Metadata: how to use the graph, and its origin. Values are text; structured ones are JSON."""
    spec = detector.spec
    crop = spec["preprocessing"]["crop"]
    bits = spec.get("bits", 16)
    before = f"scale gray values of {bits} bits to 0 to 255, then " if bits > 8 and "bits" in spec else ""
    before += f"resize to {_shown(spec['preprocessing']['resize'])} pixels (Pillow, bilinear, antialiased)"
    normalized = ""
    if reference := spec["preprocessing"].get("normalise"):
        normalized = f", then bring each channel's {reference['kind']} to those in preprocessing.normalise"
    metadata = {
        "adshift_version": __version__,
        "method": method_of(folder),
        **fitted_on(folder),
        "size": " ".join(str(side) for side in dict.fromkeys(sides(spec["size"]))),
        "before": before + (f", then cut the centre of {_shown(crop)} pixels out" if crop else "") + normalized,
        "preprocessing": _json(spec["preprocessing"]),
        "settings": _json(dict(detector.settings)),
        "scoring": _json(dict(settings)),
        "backbone": spec["backbone"],
        "weights_sha256": spec["weights"]["sha256"],
        "model_sha256": hashlib.sha256((folder / "model.json").read_bytes()).hexdigest(),
    }
    return metadata | dict(_threshold(folder / "threshold.json"))


def _shown(size: Size) -> str:
    height, width = sides(size)
    return f"{width} x {height}" if height == width else f"{width} x {height} (width x height)"


def _threshold(path: Path) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        return
    record = threshold_file.read(path)
    yield "threshold", repr(record.threshold)
    yield "threshold_rule", record.rule or ""


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
