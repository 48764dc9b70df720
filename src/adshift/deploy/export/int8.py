"""The backbone's convolutions in 8 bits: static quantization by onnxruntime, calibrated with normal images.

Distances to a bank, or in standard deviations, react to small changes of the features. So the search stays in float32,
and so does the first half of the convolutions: they hold few of the weights, and every later layer inherits their
rounding. Three steps reduce the error of the other convolutions. Pointwise convolutions, which hold nearly all weights,
are rounded with regard to their inputs. Features are read before the rounding for the next convolution. A linear map of
each layer's channels brings the quantized features of the calibration images as near to the exact ones as possible.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from adshift.errors import AdshiftError

SCOPES = "pkg.torch.onnx.name_scopes"  # in which torch's exporter records the module of a node
MOST = 64  # images for calibration; ranges hardly change after some dozens
EXACT = 0.46  # share of the convolutions, from the first, that stay in float32: in EfficientNet-Lite0 up to layer 2
# Weights are whole numbers up to +-STEPS. x86 processors without VNNI add products of bytes in pairs, in 16 bits that
# saturate: 2 * 255 * 64 fits, 2 * 255 * 127 does not. Unsigned weights do not saturate either, but take ONNX Runtime
# twice the time of float32 on these processors.
STEPS = 64
DAMPING = 0.01  # share of the inputs' mean square that is added to each channel's: limits corrections by other channels
RIDGE = 1e-3  # share of each channel's variance that is added: keeps the linear map near the identity


def check_installed() -> None:
    """Check that onnxruntime is there, which quantizes.

    Raises:
        AdshiftError: it is not installed.
    """
    try:
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError:
        raise AdshiftError(
            "export: int8 needs onnxruntime, which is not installed", "pip install onnxruntime"
        ) from None


def images(folder: Path, spec: Mapping[str, Any]) -> np.ndarray:
    """At most MOST images of a folder, evenly spread over their names, resized and cropped as in `spec`.

    Returns:
        (N, S, S, 3) uint8.

    Raises:
        AdshiftError: there is none, or one cannot be read.
    """
    from adshift.data import image_files
    from adshift.data.geometry import network_input
    from adshift.data.images import read_image
    from adshift.data.normalising import of_spec

    if not folder.is_dir():
        raise AdshiftError(f"{folder}: no image to calibrate with", "name a folder of normal images")
    files = image_files.images([str(folder)])
    chosen = [files[index] for index in np.unique(np.linspace(0, len(files) - 1, MOST).astype(int))]
    preprocessing, bits = spec["preprocessing"], spec.get("bits", 16)
    reference = of_spec(preprocessing)
    inputs = [network_input(read_image(file, bits), preprocessing["resize"], preprocessing["crop"]) for file in chosen]
    return np.stack([reference(image) if reference else image for image in inputs])


def quantized(model: onnx.ModelProto, normal: np.ndarray, pixels: str, layout: str) -> onnx.ModelProto:
    """The model with its backbone's nodes quantized: 8-bit activations, 7-bit weights (`STEPS`) by output channel.

    Args:
        model: traced with `Graph(..., adjusted=True)`.
        normal: images (N, S, S, 3) uint8.
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
        network = onnx.load(result)
    _round(network, model, _batches(normal, pixels, layout))
    _read_exactly(network)
    _adjust(network, model, _batches(normal, pixels, layout))
    return network


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


def _round(model: onnx.ModelProto, exact: onnx.ModelProto, batches: Iterator[dict[str, np.ndarray]]) -> None:
    """Set the 8-bit weights of the pointwise convolutions, of one group, by their inputs' second moments."""
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = {tensor.name: tensor for tensor in exact.graph.initializer}
    inputs, moments = {}, {}
    for node in exact.graph.node:
        if node.op_type == "Conv" and f"{node.input[1]}_quantized" in arrays:
            channels, *kernel = weights[node.input[1]].dims[1:]
            if kernel == [1, 1] and all(entry.i == 1 for entry in node.attribute if entry.name == "group"):
                inputs[node.input[1]], moments[node.input[1]] = node.input[0], np.zeros((channels, channels))
    if not inputs:
        return
    inputs_of = _features(exact, list(inputs.values()))
    for batch in batches:
        for name, maps in zip(inputs, inputs_of(batch), strict=True):
            rows = np.moveaxis(maps, 1, -1).reshape(-1, maps.shape[1]).astype(np.float64)
            moments[name] += rows.T @ rows
    for name, square in moments.items():
        weight = numpy_helper.to_array(weights[name])
        scale = numpy_helper.to_array(arrays[f"{name}_scale"])
        steps = _rounded(weight[:, :, 0, 0] / scale[:, None], square).reshape(weight.shape)
        arrays[f"{name}_quantized"].CopyFrom(numpy_helper.from_array(steps, f"{name}_quantized"))


def _rounded(weight: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Weights (O, I), in steps, as int8: GPTQ (Frantar et al., ICLR 2023, algorithm 1, without its blocks).

    Input channels are rounded one after another; those that follow are changed to compensate for the error.

    Args:
        weight: (O, I) float, in steps of the output channel's scale.
        square: (I, I), the inputs' second moments.
    """
    damped = square + (DAMPING * np.trace(square) / len(square) + 1e-12) * np.eye(len(square))
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    left, steps = weight.astype(np.float64), np.zeros(weight.shape, np.int8)
    for channel in range(len(square)):
        steps[:, channel] = np.clip(np.round(left[:, channel]), -STEPS, STEPS)
        error = (left[:, channel] - steps[:, channel]) / factor[channel, channel]
        left[:, channel:] -= np.outer(error, factor[channel, channel:])
    return steps


def _read_exactly(model: onnx.ModelProto) -> None:
    """Let the linear maps read the features before they are rounded for the next convolution."""
    made = {name: node for node in model.graph.node for name in node.output}
    for node in _linear_maps(model).values():
        rounded = made[node.input[0]]
        if rounded.op_type == "DequantizeLinear":
            node.input[0] = made[rounded.input[0]].input[0]


def _adjust(model: onnx.ModelProto, exact: onnx.ModelProto, batches: Iterator[dict[str, np.ndarray]]) -> None:
    """Set the weights of the linear maps by least squares over all positions of all calibration images."""
    maps, theirs = _linear_maps(model), _linear_maps(exact)
    quantized_features = _features(model, [node.input[0] for node in maps.values()])
    exact_features = _features(exact, [theirs[name].input[0] for name in maps])
    moments: dict[str, Any] = dict.fromkeys(maps, 0)
    for batch in batches:
        for name, ours, goal in zip(maps, quantized_features(batch), exact_features(batch), strict=True):
            both = np.moveaxis(np.concatenate([ours, goal], axis=1), 1, -1).reshape(-1, 2 * ours.shape[1])
            rows = np.append(both.astype(np.float64), np.ones((len(both), 1)), axis=1)
            moments[name] = moments[name] + rows.T @ rows
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, node in maps.items():
        weight, bias = _least_squares(moments[name])
        arrays[name].CopyFrom(numpy_helper.from_array(weight[:, :, None, None].astype(np.float32), name))
        model.graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), f"{name}.bias"))
        node.input.append(f"{name}.bias")


def _least_squares(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight (C, C) and bias (C,) of goal = weight @ ours + bias, from the sums of products of (ours, goal, 1)."""
    channels = len(moments) // 2
    ours, goal = slice(0, channels), slice(channels, 2 * channels)
    mean = moments[-1] / moments[-1, -1]
    centred = moments - np.outer(mean, mean) * moments[-1, -1]
    square = centred[ours, ours]
    ridge = np.diag(RIDGE * np.diag(square) + 1e-9 * np.trace(square) / channels + 1e-12)
    # Fit the difference to the identity: without data the map is the identity.
    weight = np.eye(channels) + np.linalg.solve(square + ridge, centred[ours, goal] - square).T
    return weight, mean[goal] - weight @ mean[ours]


def _linear_maps(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {
        node.input[1]: node
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1].startswith("adjust.")
    }


def _features(model: onnx.ModelProto, names: list[str]) -> Any:
    """A function from an input to the tensors `names` of a model."""
    import onnxruntime

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, batch)


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
