"""The contract of a detector: what the stages, the model directory and the export rely on.

A method is one module of this package, named as the method is called in params.yaml. It holds

- `Fit` and `Score`, the two halves of its section of params.yaml: a change of a `Score` parameter re-fits nothing;
- one subclass of `Detector`;
- `warm_up()`, which imports and compiles what `fit` needs, so that a fit's time is the fit's alone.

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
        label: what a reader sees.
        artifact: what the models are, as `artifacts` of dvc.yaml says.
        licence: SPDX name of the licence of the code that fits and scores, a library's if that does the work.
        least_images: how many training images a fit needs.
        settings: `Fit` of its module.
        spec: how the features that it was fitted on were made; set by `fit`.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    artifact: ClassVar[str]
    licence: ClassVar[str] = "Apache-2.0"
    least_images: ClassVar[int] = 1
    spec: dict[str, Any]

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def fit(self, features: Features, generator: np.random.Generator) -> None:
        """Fit normal images and set `spec`. Everything random comes from `generator`.

        Raises:
            AdshiftError: too few images, or settings that these features cannot serve.
        """

    def predict(self, features: Features, scoring: Any) -> Predictions:
        """Raw image scores (N,) and anomaly maps (N, h, w) float32, the larger the more anomalous.

        Args:
            features: of N images.
            scoring: `Score` of the method's module.

        Raises:
            AdshiftError: the features were made in another way than those that the model was fitted on.
        """
        if dict(features.spec) != self.spec:
            raise AdshiftError("the features were made by another network than the model's", "run `dvc repro`")
        return self._predict(features, scoring)

    @abstractmethod
    def _predict(self, features: Features, scoring: Any) -> Predictions:
        """As `predict`, for features that fit the model."""

    @abstractmethod
    def to_arrays(self) -> Mapping[str, np.ndarray]:
        """The arrays of the model, all finite, with everything that was drawn at random."""

    @abstractmethod
    def from_arrays(self, folder: Path, arrays: dict[str, np.ndarray]) -> None:
        """Take what `to_arrays` gave. `settings` and `spec` are set.

        Args:
            folder: of the model, for error messages.
            arrays: read from anywhere: their names, types, shapes and values are to be checked.

        Raises:
            AdshiftError: they are no sound model of this method.
        """

    def save(self, folder: Path) -> None:
        """Write model.json and model.safetensors into `folder`."""
        storage.save(folder, self.name, dict(self.settings), self.spec, self.to_arrays())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            AdshiftError: the folder holds no sound model of this method.
        """
        settings, spec, arrays = storage.load(folder, cls.name)
        model = cls(settings)
        model.spec = spec
        model.from_arrays(folder, arrays)
        return model
