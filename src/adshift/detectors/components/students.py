"""Student and teacher (STFPM, Wang et al., 2021): a student learns the teacher's features of normal images only.

The teacher is the frozen backbone, and its maps are the stored features. The method (`paste`, `stfpm`) defines the
student's input and its part of the backbone's architecture.

Notation: N images, H x W positions and C channels of a layer.
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from adshift.detectors import storage
from adshift.detectors.base import Detector
from adshift.detectors.components import training
from adshift.detectors.components.settings import Epochs, Layers, LearningRate, Smoothing
from adshift.detectors.components.whole_maps import predictions_of
from adshift.detectors.records import Predictions
from adshift.detectors.resample import bilinear
from adshift.errors import AdshiftError
from adshift.features.store import Features
from adshift.runtime import device
from adshift.runtime.parallel import map_ordered, torch_threads
from adshift.runtime.settings import Batch, Section

CHUNK = 8  # images scored at a time
MOMENTUM, DECAY = 0.9, 1e-4  # of the stochastic gradient descent, as in the paper


class Fit(Section):
    """Parameters of the student.

    Attributes:
        layers: levels of the features that it learns to match, shallow to deep.
        epochs: passes over the training images.
        batch: images per step.
        learning_rate: of the stochastic gradient descent.
    """

    layers: Layers
    epochs: Epochs
    batch: Batch
    learning_rate: LearningRate


class Score(Section):
    """Parameters of scoring.

    Attributes:
        smoothing: standard deviation in pixels of the Gaussian that smooths the enlarged map; the papers have none.
    """

    smoothing: Smoothing


def warm_up() -> None:
    """Import what `fit` needs. This takes seconds, which the time of a fit excludes."""
    import timm  # noqa: F401

    training.warm_up()


def distances(teacher: Sequence[Any], student: Sequence[Any]) -> list[Any]:
    """(N, H, W) per layer: half the squared distance between both normalised features of a position (equation 1)."""
    from torch.nn.functional import normalize

    return [(normalize(t) - normalize(s)).square().sum(1) / 2 for t, s in zip(teacher, student, strict=True)]


class Student(Detector):
    """A detector whose score is the distance between the features of student and teacher.

    Attributes:
        arrays: the student's parameters and buffers, by name.
        history: its mean loss in each epoch of the fit.
    """

    @abstractmethod
    def _untrained(self) -> Any:
        """A network with the teacher's widths and random parameters, from `student_input` to one map per layer."""

    least_images = 2

    @abstractmethod
    def student_input(self, features: Features) -> Any:
        """The student's input for some images, a tensor (N, C, H, W)."""

    def fit(self, features: Features, generator: np.random.Generator) -> None:
        """Train the student from scratch (section 3.2).

        Raises:
            AdshiftError: fewer than two images, a missing level, or a backbone that cannot be divided at the layers.
        """
        import torch

        if len(features) < self.least_images:
            raise AdshiftError(
                f"{self.name} needs at least 2 training images, not {len(features)}", "add normal images"
            )
        self.spec = dict(features.spec)
        with training.reproducible(generator):
            student = device.to_device(self._untrained()).to(memory_format=torch.channels_last)
            self.check_shapes(student, features[:1])
            optimizer = torch.optim.SGD(
                student.parameters(), self.settings.learning_rate, momentum=MOMENTUM, weight_decay=DECAY
            )

            def loss(part: Features) -> Any:
                layer_distances = distances(self.teacher_maps(part), student(self.student_input(part)))
                return sum(layer.mean() for layer in layer_distances)

            settings = self.settings
            self.history = training.descend(
                student, optimizer, loss, features, generator, epochs=settings.epochs, batch=settings.batch
            )
        self.arrays = training.arrays_of(student)

    def check_shapes(self, student: Any, image: Features) -> None:
        """Refuse a student whose maps have other shapes than the teacher's."""
        import torch

        with torch.inference_mode():
            ours = [tuple(maps.shape) for maps in student.eval()(self.student_input(image))]
        theirs = [tuple(maps.shape) for maps in self.teacher_maps(image)]
        if ours != theirs:
            raise AdshiftError(
                f"{self.name}: a student of {self.spec['backbone']} gives maps of {ours}, its teacher of {theirs}",
                "use a backbone whose layers follow one another, such as a ResNet",
            )

    def teacher_maps(self, features: Features) -> list[Any]:
        """The teacher's maps: per layer (N, C, H, W)."""
        return [training.tensor(features.maps(level)) for level in self.settings.layers]

    @cached_property
    def student(self) -> Any:
        """The trained network, built at the first scoring."""
        import torch

        with torch.random.fork_rng(devices=[]):  # random parameters are overwritten below
            network = self._untrained()
        return device.to_device(training.restore(network, self.arrays)).to(memory_format=torch.channels_last)

    @torch_threads(1)  # the batches are spread over threads
    def _predict(self, features: Features, scoring: Score) -> Predictions:
        """Distances of all layers multiplied (section 3.3); the image score is the largest of the enlarged map."""
        _ = self.student  # built here, once, and not in each thread
        parts = [features[start : start + CHUNK] for start in range(0, len(features), CHUNK)]
        maps = np.concatenate(map_ordered(self._distances, parts, what=f"scoring with {self.name}", unit="batch"))
        return predictions_of(features, maps, scoring.smoothing)

    def _distances(self, features: Features) -> np.ndarray:
        """(N, H, W) float32: multiplied on the first layer's grid, while the papers multiply on the image's."""
        layers = device.run(
            lambda: device.received(distances(self.teacher_maps(features), self.student(self.student_input(features))))
        )
        height, width = layers[0].shape[1:]
        product = np.ones_like(layers[0])
        for layer in layers:
            product *= bilinear(layer.shape[1], height) @ layer @ bilinear(layer.shape[2], width).T
        return product

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The student's arrays. The teacher is the backbone of the features."""
        return self.arrays

    def from_arrays(self, folder: Path, arrays: dict[str, np.ndarray]) -> None:
        """Check and take the arrays of `to_arrays`."""
        self.arrays = arrays
        negative = [name for name, array in arrays.items() if name.endswith("running_var") and (array < 0).any()]
        storage.demand_that(not negative, folder, f"{', '.join(negative[:3])}: a negative variance")
        try:
            _ = self.student
        except (AdshiftError, KeyError, IndexError, ValueError, RuntimeError) as error:
            message = (
                f"{folder}: no student of {self.spec.get('backbone')!r} ({str(getattr(error, 'what', error))[:300]})"
            )
            raise AdshiftError(message, storage.REMEDY) from None
