"""The backbone's convolutions in 8 bits: static quantization by onnxruntime, calibrated with normal images.

Distances to a bank, or in standard deviations, react to small changes of the features. So the search stays in float32,
and so does the first half of the convolutions: they hold few of the weights, and every later layer inherits their
rounding. docs/export.md says what else was measured.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from adshift.data import image_files
from adshift.data.geometry import fit
from adshift.data.images import read_image
from adshift.errors import AdshiftError

SCOPES = "pkg.torch.onnx.name_scopes"  # in which torch's exporter records the module of a node
MOST = 64  # images for calibration; ranges hardly change after some dozens
EXACT = 0.46  # share of the convolutions, from the first, that stay in float32: in EfficientNet-Lite0 up to layer 2


def images(folder: Path, spec: Mapping[str, Any]) -> np.ndarray:
    """At most MOST images of a folder, evenly spread over their names, resized as in `spec`; the graph crops.

    Returns:
        (N, h, w, 3) uint8.

    Raises:
        AdshiftError: there is none, or one cannot be read.
    """
    if not folder.is_dir():
        raise AdshiftError(f"{folder}: no image to calibrate with", "name a folder of normal images")
    files = image_files.images([str(folder)])
    chosen = [files[index] for index in np.unique(np.linspace(0, len(files) - 1, MOST).astype(int))]
    resize, bits = spec["preprocessing"]["resize"], spec.get("bits", 16)
    return np.stack([fit(read_image(file, bits), resize) for file in chosen])


def quantized(model: onnx.ModelProto, normal: np.ndarray, pixels: str, layout: str) -> onnx.ModelProto:
    """The model with its backbone's later nodes quantized: 8-bit activations, 7-bit weights by output channel.

    x86 processors without VNNI add products of bytes in pairs, in 16 bits that saturate: 2 * 255 * 64 fits, hence 7
    bits (`reduce_range`).

    Args:
        model: traced, with the exporter's metadata.
        normal: images (N, h, w, 3) uint8.
        pixels, layout: of the model's input.
    """
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = _batches(normal, pixels, layout)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, result = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, plain)
        quantization.quantize_static(
            plain, result, Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            nodes_to_quantize=_later_nodes(model), activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8, reduce_range=True,
        )  # fmt: skip
        return onnx.load(result)


def _later_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the backbone's nodes after the first convolutions, the share EXACT of all."""
    nodes = [
        node
        for node in model.graph.node
        if any(prop.key == SCOPES and "'network'" in prop.value for prop in node.metadata_props)
    ]
    last = EXACT * sum(node.op_type == "Conv" for node in nodes)
    seen, later = 0, []
    for node in nodes:
        seen += node.op_type == "Conv"
        if seen > last:
            later.append(node.name)
    return later


def _batches(normal: np.ndarray, pixels: str, layout: str) -> Iterator[dict[str, np.ndarray]]:
    for image in normal:
        batch = image[None] if layout == "NHWC" else np.ascontiguousarray(image[None].transpose(0, 3, 1, 2))
        yield {"image": batch if pixels == "uint8" else (batch / np.float32(255))}


@contextmanager
def _quiet() -> Iterator[None]:
    """Within: onnxruntime does not log its advice to fold batch normalization, which is folded already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
