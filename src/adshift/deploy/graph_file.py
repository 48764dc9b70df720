"""What an exported `.onnx` file holds beside its graph: metadata that make it a complete model, and a checksum.

    method, class, domain, adshift_version      the origin; model_sha256, weights_sha256, backbone, settings, scoring
    features                                    JSON: size, preprocessing and bits of the images, channels of all layers
    before                                      what an image needs before the graph, as text
    threshold, threshold_rule, threshold_record the number, its rule, and the whole threshold file as JSON
    card                                        the model card as JSON
    reference                                   reference.npz, base64

The file's last metadata entry is the SHA-256 of all bytes before it. Protocol buffers may be concatenated, so every
reader of ONNX accepts it.
"""

import base64
import binascii
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adshift.detectors.records import Reference
from adshift.errors import AdshiftError, in_line
from adshift.evaluation.threshold_file import Record

SUFFIX = ".onnx"
REMEDY = "copy the file again, or export the model again: adshift export MODEL"

# `metadata_props {key: "sha256" value: 64 digits}` of a ModelProto, as protocol buffers encode it.
_SEAL = b"\x72\x4a\x0a\x06sha256\x12\x40"
_LENGTH = len(_SEAL) + 64


def is_file(model: str | Path) -> bool:
    """Whether a model is named as an exported file."""
    return Path(model).suffix.lower() == SUFFIX


def sealed(graph: bytes) -> bytes:
    """A serialized graph with its checksum at the end."""
    return graph + _SEAL + hashlib.sha256(graph).hexdigest().encode()


def read(path: Path) -> bytes:
    """The bytes of an exported file, checked.

    Raises:
        AdshiftError: it is missing, damaged, or was not written by `adshift export`.
    """
    if not path.is_file():
        raise AdshiftError(f"{path}: not there", "name an exported model: adshift export MODEL")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AdshiftError(f"{path}: cannot be read ({error.strerror})", REMEDY) from None
    content = memoryview(data)[:-_LENGTH]
    if len(data) <= _LENGTH or data[-_LENGTH:] != _SEAL + hashlib.sha256(content).hexdigest().encode():
        message = f"{path}: damaged, changed by another tool, or not written by this version of `adshift export`"
        raise AdshiftError(message, REMEDY)
    return data


@dataclass(frozen=True)
class Description:
    """The metadata of an exported file.

    Attributes:
        method, class_name, domain, version: the model's origin; the version of adshift that exported it.
        features: size, preprocessing and bits of the images, and the number of channels of all layers.
        threshold: None if the model had none.
        card: None if the model had none.
    """

    method: str
    class_name: str
    domain: str
    version: str
    features: Mapping[str, Any]
    threshold: Record | None
    card: Mapping[str, Any] | None
    _reference: str | None

    @classmethod
    def of(cls, metadata: Mapping[str, str], path: Path) -> "Description":
        """From the metadata of the file `path`.

        Raises:
            AdshiftError: an entry is missing or damaged.
        """
        try:
            features = json.loads(metadata["features"])
            for key in ("size", "preprocessing", "bits", "channels"):
                features[key]
            threshold, card = (json.loads(metadata.get(key, "null")) for key in ("threshold_record", "card"))
            return cls(
                metadata["method"], metadata["class"], metadata["domain"], metadata["adshift_version"], features,
                None if threshold is None else Record.of(threshold), card, metadata.get("reference"),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise AdshiftError(f"{path}: its metadata are not a model's ({in_line(error)})", REMEDY) from None

    def reference(self, path: Path) -> Reference:
        """Validation normals of the model.

        Raises:
            AdshiftError: the file holds none, or they are damaged.
        """
        if self._reference is None:
            message = f"{path}: holds no reference images, since the exported model had none"
            raise AdshiftError(message, "recalibrate it: adshift recalibrate FILE --normal DIR")
        try:
            data = base64.b64decode(self._reference, validate=True)
        except binascii.Error as error:
            raise AdshiftError(f"{path}: not a readable reference ({error})", REMEDY) from None
        return Reference.load(io.BytesIO(data), str(path))
