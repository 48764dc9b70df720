"""ONNX files: traced by torch, reduced in size, with metadata."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from adshift.errors import AdshiftError

LARGE = 1024  # numbers in a constant from which on it is stored as float16
LIMIT = 2**31 - 2**20  # bytes: a protobuf message, and so the one file, is at most 2 GiB


def traced(network: Any, example: Any, opset: int, free: Sequence[int], outputs: Sequence[str]) -> onnx.ModelProto:
    """A module with the input `image` and some outputs as ONNX.

    Args:
        network: the module.
        example: of the input.
        opset: of ONNX's operators.
        free: axes of the input that have any length.
        outputs: their names.

    Raises:
        AdshiftError: the model is too large for one file.
    """
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    if size > LIMIT:
        raise AdshiftError(f"export: the graph's constants take {size / 2**30:.1f} GiB, one file at most 2",
                           "fit a smaller coreset, fewer channels, or patchcore_pq")  # fmt: skip
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # raised inside torch
            program = torch.onnx.export(
                network, (example,), dynamo=True, opset_version=opset, verbose=False,
                input_names=["image"], output_names=list(outputs),
                dynamic_shapes=({axis: torch.export.Dim(f"axis{axis}") for axis in free},),
            )  # fmt: skip
    finally:
        logger.setLevel(level)
    assert program is not None
    return program.model_proto


def halve(model: onnx.ModelProto) -> None:
    """Store large float32 constants as float16, with a cast before each use; constants that would overflow stay.

    A runtime casts them once, when it loads the graph.
    """
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < LARGE:
            continue
        with np.errstate(over="ignore"):
            half = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(half).all():
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT, name=f"{name}.float"))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _clear(graph: onnx.GraphProto) -> None:
    """Remove the metadata of a graph and of the branches in it."""
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _clear(attribute.g)
    for value in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        del value.metadata_props[:]
    del graph.metadata_props[:]


def describe(model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Replace all metadata by `metadata`: the exporter's own name files of this machine."""
    _clear(model.graph)
    model.producer_name, model.producer_version = "adshift", metadata["adshift_version"]
    model.graph.name, model.doc_string = metadata["method"], metadata["before"]
    del model.metadata_props[:]
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
