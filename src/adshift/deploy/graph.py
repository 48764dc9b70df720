"""An exported file, run by onnxruntime: no torch, and none of the pipeline's packages."""

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from adshift.data.geometry import fit
from adshift.deploy import graph_file
from adshift.deploy.inference import Model, Scored
from adshift.deploy.prediction import Input
from adshift.detectors.records import Reference
from adshift.errors import AdshiftError
from adshift.runtime.parallel import thread_count

ERRORS_ONLY = 3  # of onnxruntime's levels of its log
OUTPUTS = ("score", "map", "features")


class GraphModel(Model):
    """An exported file. Its images are resized here, by Pillow, which the graph's own resizing equals byte by byte.

    Attributes:
        description: the file's metadata.
    """

    def __init__(
        self, file: str | Path, *, threshold: float | str | Path | None = None, class_name: str | None = None
    ) -> None:
        """Read an exported file; arguments and errors as for `adshift.load`."""
        super().__init__()
        self.source = Path(file).absolute()
        data = graph_file.read(self.source)
        self._identity = hashlib.sha256(data).hexdigest()
        self._session = _session(data, self.source)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.description = about = graph_file.Description.of(metadata, self.source)
        self.method, self.bits, self.channels = about.method, about.features["bits"], about.features["channels"]
        self.resize, self.crop = (about.features["preprocessing"][key] for key in ("resize", "crop"))
        self._pixels, self._layout, *_ = metadata.get("input", "uint8 NHWC").split()
        self._set_threshold(threshold, class_name, about.threshold, self.source)

    @property
    def identity(self) -> str:
        return self._identity

    def _reference(self) -> Reference:
        return self.description.reference(self.source)

    def _fitted(self, pixels: np.ndarray) -> np.ndarray:
        return fit(pixels, self.resize)  # the graph crops

    def _limits(self) -> Any:
        return nullcontext()

    def _scored(self, images: Sequence[Input]) -> Scored:
        rows = [self._run(image) for image in images]
        scores, maps, features = (np.concatenate(values) for values in zip(*rows, strict=True))
        if not np.isfinite(scores).all() or not np.isfinite(maps).all():
            raise AdshiftError(f"{images[0].name}...: a score or an anomaly map is not finite", graph_file.REMEDY)
        return Scored(scores, maps, features)

    def _run(self, image: Input) -> Sequence[np.ndarray]:
        pixels = image.pixels[None] if self._layout == "NHWC" else image.pixels.transpose(2, 0, 1)[None]
        if self._pixels == "float32":
            pixels = pixels / np.float32(255)
        try:
            outputs: Sequence[np.ndarray] = self._session.run(OUTPUTS, {"image": np.ascontiguousarray(pixels)})
        except Exception as error:  # onnxruntime raises many kinds
            message = " ".join(str(error).split())[:200]
            raise AdshiftError(f"{self.source}: cannot compute {image.name} ({message})", graph_file.REMEDY) from None
        return outputs


def _session(data: bytes, path: Path) -> Any:
    """A session on the processor. Idle threads do not spin: a line's computer has other work.

    Raises:
        AdshiftError: it is no graph that this version of onnxruntime runs.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = thread_count(), ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many kinds
        message = " ".join(str(error).split())[:200]
        raise AdshiftError(f"{path}: not a graph that onnxruntime {onnxruntime.__version__} runs ({message})",
                           graph_file.REMEDY) from None  # fmt: skip
