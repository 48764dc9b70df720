"""An exported file made by hand: the score is the mean brightness, so tests of what surrounds a model need no torch.

Notation: S side of the input, V reference images.
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

import adshift
from adshift.deploy import graph_file

SIDE = 32
THRESHOLD = 128.0


def write(
    path: Path, threshold: float | None = THRESHOLD, normal: int = 60, broken: bool = False, **changes: str
) -> Path:
    """Write the file.

    Args:
        path: of the file.
        threshold: brightness from which on an image is anomalous.
        normal: V; their brightness is spread around 64.
        broken: whether the graph fails when it runs.
        changes: of the metadata.
    """
    file = helper.make_model(_graph(broken), opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    reference = io.BytesIO()
    scores = np.random.default_rng(0).normal(64, 4, normal).astype(np.float32)
    np.savez(reference, scores=scores, features=np.repeat(scores[:, None], 3, axis=1))
    features = {"size": SIDE, "bits": 8, "channels": 3, "preprocessing": {"resize": SIDE, "crop": None}}
    record: dict[str, Any] = {"threshold": threshold, "rule": "f1_grid", "map_ratio": 1.0}
    metadata = {
        "adshift_version": adshift.__version__, "method": "brightness", "class": "nut", "domain": "clean",
        "features": json.dumps(features), "input": "uint8 NHWC RGB",
        "reference": base64.b64encode(reference.getvalue()).decode(),
    }  # fmt: skip
    if threshold is not None:
        metadata |= {"threshold": repr(threshold), "threshold_record": json.dumps(record)}
    helper.set_model_props(file, metadata | changes)
    path.write_bytes(graph_file.sealed(file.SerializeToString()))
    return path


def _graph(broken: bool) -> onnx.GraphProto:
    wrong = helper.make_tensor("shape", TensorProto.INT64, [1], [7])
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "all"], ["score"], keepdims=0),
        helper.make_node("ReduceMean", ["pixels", "channel"], ["mean"], keepdims=0),
        helper.make_node("Identity" if not broken else "Reshape", ["mean"] + ["shape"] * broken, ["map"]),
        helper.make_node("ReduceMean", ["pixels", "sides"], ["features"], keepdims=0),
    ]
    axes = {"all": [1, 2, 3], "channel": [3], "sides": [1, 2]}
    constants = [helper.make_tensor(name, TensorProto.INT64, [len(one)], one) for name, one in axes.items()]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("score", "map", "features")]
    return helper.make_graph(nodes, "brightness", [image], outputs, [*constants, wrong])


def picture(brightness: int, kind: str = "PNG", size: tuple[int, int] = (48, 40)) -> bytes:
    """An image file of one brightness, with a little noise."""
    noise = np.random.default_rng(brightness).integers(-3, 4, (size[1], size[0], 3))
    pixels = np.clip(brightness + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()
