"""Export a fitted detector as one ONNX file, from an image of any size to its verdict, which runs without Python.

The graph holds resizing, normalization, backbone, search and map; the file's metadata hold all else that a model
directory has (`adshift.deploy.graph_file`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from adshift.data.shapes import Size, sides
from adshift.deploy import graph_file
from adshift.deploy.export.metadata import describe, fitted_on
from adshift.detectors import registry
from adshift.errors import AdshiftError
from adshift.features.alignment import FILE as ALIGNMENT
from adshift.runtime.checksums import MODEL_REMEDY
from adshift.runtime.files import output, read_json

__all__ = ["DTYPES", "OPSETS", "export", "fitted_on", "method_of", "scoring"]

Dtype = Literal["float32", "float16", "int8"]
DTYPES: tuple[str, ...] = get_args(Dtype)
OPSETS = range(18, 24)
INPUTS = ("uint8", "float32")
LAYOUTS = ("NHWC", "NCHW")
FREE = {"NHWC": (0, 1, 2), "NCHW": (0, 2, 3)}  # axes of the input that have any length
OUTPUTS = ("score", "map", "features", "anomalous")
# Of the traced example. The exporter takes 1 for a constant, and sizes that follow from each other for one size.
BATCH, HIGHER, WIDER = 2, 3, 5


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
    """Write a model directory as one ONNX file.

    Its input is `image`, N images of one size, H and W of any length. Its outputs are `score` (N,), `map` (N, S, S) and
    `features` (N, D), the maps of all layers averaged over positions, all float32; and `anomalous` (N,), bool, if the
    model has a threshold.

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
    metadata = {**describe(folder, method, detector, settings), "dtype": dtype, "input": f"{pixels} {layout} RGB"}
    normal = None
    if calibrate:
        from adshift.deploy.export import int8

        normal = int8.images(calibrate, detector.spec)
    from adshift.deploy.export import files

    network = _network(detector, HEADS[method](detector, settings), metadata, weights)
    outputs = OUTPUTS if "threshold" in metadata else OUTPUTS[:-1]
    model = files.traced(network, _example(detector.spec["size"], pixels, layout), opset, FREE[layout], outputs)
    if normal is not None:
        model, metadata["calibration_images"] = int8.quantized(model, normal, pixels, layout), str(len(normal))
    if dtype == "float16":
        files.halve(model)
    files.describe(model, metadata)
    with output(to) as temporary:
        temporary.write_bytes(graph_file.sealed(model.SerializeToString()))
    return metadata


def _network(detector: Any, head: Any, metadata: Mapping[str, str], weights: Path | None) -> Any:
    """The graph as a torch module; errors as for `export`."""
    from adshift.features.backbones import from_spec

    backbone = from_spec(detector.spec, weights)  # it checks the values that follow
    from adshift.deploy.export import graph

    threshold = float(metadata["threshold"]) if "threshold" in metadata else None
    pixels, layout, _ = metadata["input"].split()
    return graph.Graph(backbone, head, detector.spec, pixels, layout, threshold).eval()


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

    height, width = sides(size)
    shape = (BATCH, height + HIGHER, width + WIDER, 3)
    image = torch.zeros(shape, dtype=getattr(torch, pixels))
    return image if layout == "NHWC" else image.permute(0, 3, 1, 2).contiguous()
