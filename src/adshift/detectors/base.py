"""The contract of a detector, which the stages, the model directory and the export rely on.

A method is one module of this package. The module has the method's name in params.yaml and holds

- `Fit` and `Score`, the two halves of its section of params.yaml: a change of a `Score` parameter re-fits nothing;
- one subclass of `Detector`;
- `warm_up()`, which imports and compiles what `fit` needs, so that the time of a fit excludes it.

Heavy packages (torch, timm, anomalib, faiss) are imported inside the functions that need them, because reading
params.yaml imports the modules of all methods.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from adshift.detectors import storage
from adshift.detectors.records import Predictions
from adshift.errors import AdshiftError
from adshift.features.store import Features


class Detector(ABC):
    """A method with its settings and, once fitted or loaded, its model.

    Attributes:
        name: of the method, as in params.yaml.
        label: in tables and on the page.
        artifact: description of the models, as in `artifacts` of dvc.yaml.
        licence: SPDX name of the licence of the code that fits and scores; the library's licence if a library does.
        least_images: number of training images that a fit needs.
        adaptable: whether it has `adapted`.
        needs_images: whether it reads the network's inputs, which `features.images` stores.
        settings: `Fit` of its module.
        spec: of the features that it was fitted on (network, layers, preprocessing); set by `fit`.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    artifact: ClassVar[str]
    licence: ClassVar[str] = "Apache-2.0"
    least_images: ClassVar[int] = 1
    adaptable: ClassVar[bool] = False
    needs_images: ClassVar[bool] = False
    spec: dict[str, Any]

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def fit(self, features: Features, generator: np.random.Generator) -> None:
        """Fit normal images and set `spec`. Everything random comes from `generator`.

        Raises:
            AdshiftError: too few images, or settings that do not suit these features.
        """

    def adapted(self, features: Features, rows: int | None = None) -> Self:
        """A new detector that also knows further normal images, such as those of today; this one is left as it is.

        Args:
            features: of K normal images, with the model's spec.
            rows: largest number of rows that a memory bank gains; None for no limit.

        Raises:
            AdshiftError: the method cannot be adapted, or the model holds too little for it.
        """
        raise AdshiftError(f"{self.label} cannot be adapted", "fit it again, on the images of today too")

    @classmethod
    def levels(cls, settings: Any) -> tuple[int, ...]:
        """Levels of the features that it reads, with `Fit` settings or the method's whole section."""
        levels: tuple[int, ...] = settings.layers
        return levels

    @classmethod
    def hardened(cls, settings: Any, copies: int) -> Any:
        """`Fit` settings for training images with `copies` drifted copies of each; a model keeps its size."""
        return settings

    def predict(self, features: Features, scoring: Any) -> Predictions:
        """Raw image scores (N,) and anomaly maps (N, h, w) float32, the larger the more anomalous.

        Args:
            features: of N images.
            scoring: `Score` of the method's module.

        Raises:
            AdshiftError: the features have another spec than those that the model was fitted on.
        """
        if dict(features.spec) != self.spec:
            raise AdshiftError("the features were made by another network than the model's", "run `dvc repro`")
        return self._predict(features, scoring)

    @abstractmethod
    def _predict(self, features: Features, scoring: Any) -> Predictions:
        """As `predict`, for features whose spec is the model's."""

    @abstractmethod
    def to_arrays(self) -> Mapping[str, np.ndarray]:
        """The arrays of the model, all finite, with everything that was drawn at random."""

    @abstractmethod
    def from_arrays(self, folder: Path, arrays: dict[str, np.ndarray]) -> None:
        """Check and take the arrays of `to_arrays`. `settings` and `spec` are set before.

        Args:
            folder: of the model, for error messages.
            arrays: from an untrusted file: their names, types, shapes and values must be checked.

        Raises:
            AdshiftError: they are no valid model of this method.
        """

    def save(self, folder: Path) -> None:
        """Write model.json and model.safetensors into `folder`."""
        storage.save(folder, self.name, dict(self.settings), self.spec, self.to_arrays())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a model that `save` wrote.

        Raises:
            AdshiftError: the folder holds no valid model of this method.
        """
        settings, spec, arrays = storage.load(folder, cls.name)
        model = cls(settings)
        model.spec = spec
        model.from_arrays(folder, arrays)
        return model
