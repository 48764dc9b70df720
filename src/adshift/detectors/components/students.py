"""Student and teacher (STFPM, Wang et al., 2021): a student learns the teacher's features of normal images alone.

The teacher is the frozen backbone, and its maps are the stored features. What the student sees, and which part of the
backbone's architecture it is, is up to the method (`paste`, `stfpm`).

Notation: N images, H x W positions and C channels of a layer.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from adshift.detectors.components import storage, training
from adshift.detectors.components.records import Predictions
from adshift.detectors.components.resample import bilinear
from adshift.detectors.components.settings import Epochs, Layers, LearningRate, Smoothing
from adshift.errors import AdshiftError
from adshift.features.store import Features
from adshift.runtime.parallel import map_ordered, torch_threads
from adshift.runtime.settings import Batch, Section

CHUNK = 8  # images scored at once
MOMENTUM, DECAY = 0.9, 1e-4  # of the stochastic gradient descent, as in the paper


class Fit(Section):
    """What the student depends on.

    Attributes:
        layers: levels of the features that it is to match, shallow to deep.
        epochs: passes over the training images.
        batch: images a step.
        learning_rate: of the stochastic gradient descent.
    """

    layers: Layers
    epochs: Epochs
    batch: Batch
    learning_rate: LearningRate


class Score(Section):
    """What the scores depend on beyond the student.

    Attributes:
        smoothing: standard deviation in pixels of the Gaussian that smooths the enlarged map; the papers have none.
    """

    smoothing: Smoothing


def warm_up() -> None:
    """Import what `fit` needs, which takes seconds, so that it can be left out of a fit's time."""
    import timm  # noqa: F401

    training.warm_up()


def distances(teacher: Sequence[Any], student: Sequence[Any]) -> list[Any]:
    """Per layer (N, H, W): half the squared distance of the two normalised features of a position (equation 1)."""
    from torch.nn.functional import normalize

    return [(normalize(t) - normalize(s)).square().sum(1) / 2 for t, s in zip(teacher, student, strict=True)]


class Student(ABC):
    """A detector whose score is how far a student is from its teacher.

    Attributes:
        name: of the method.
        settings: of the fit.
        spec: how the features were made.
        arrays: the student's parameters and buffers, by name.
        history: its mean loss in each epoch of the fit.
    """

    name: ClassVar[str]

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def _untrained(self) -> Any:
        """A network as wide as the teacher, its parameters drawn by torch: from `_seen` to a map a layer."""

    @abstractmethod
    def _seen(self, features: Features) -> Any:
        """What the student sees of some images, a tensor (N, C, H, W)."""

    def fit(self, features: Features, generator: np.random.Generator) -> None:
        """Train the student from scratch (section 3.2).

        Raises:
            AdshiftError: fewer than two images, a level that is not there, or a backbone that cannot be taken apart.
        """
        import torch

        if len(features) < 2:
            raise AdshiftError(
                f"{self.name} needs at least 2 training images, not {len(features)}", "add normal images"
            )
        self.spec = dict(features.spec)
        with training.reproducible(generator):
            student = self._untrained().to(memory_format=torch.channels_last)
            self._agree(student, features[:1])
            optimizer = torch.optim.SGD(
                student.parameters(), self.settings.learning_rate, momentum=MOMENTUM, weight_decay=DECAY
            )

            def loss(part: Features) -> Any:
                found = distances(self._taught(part), student(self._seen(part)))
                return sum(layer.mean() for layer in found)

            settings = self.settings
            self.history = training.descend(
                student, optimizer, loss, features, generator, epochs=settings.epochs, batch=settings.batch
            )
        self.arrays = training.arrays_of(student)

    def _agree(self, student: Any, image: Features) -> None:
        """Refuse a student whose maps are not of the teacher's shapes."""
        import torch

        with torch.inference_mode():
            ours = [tuple(maps.shape) for maps in student.eval()(self._seen(image))]
        theirs = [tuple(maps.shape) for maps in self._taught(image)]
        if ours != theirs:
            raise AdshiftError(
                f"{self.name}: a student of {self.spec['backbone']} gives maps of {ours}, its teacher of {theirs}",
                "use a backbone whose layers follow one another, such as a ResNet",
            )

    def _taught(self, features: Features) -> list[Any]:
        """The teacher's maps: per layer (N, C, H, W)."""
        return [training.tensor(features.maps(level)) for level in self.settings.layers]

    @cached_property
    def student(self) -> Any:
        """The trained network, built when something is scored."""
        import torch

        with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
            network = self._untrained()
        return training.restore(network, self.arrays).to(memory_format=torch.channels_last)

    @torch_threads(1)  # the batches are spread over threads
    def predict(self, features: Features, how: Score) -> Predictions:
        """Distances of all layers multiplied (section 3.3); the image score is the largest of the enlarged map.

        Raises:
            AdshiftError: the features were made in another way than those that the student learned.
        """
        if dict(features.spec) != self.spec:
            raise AdshiftError("the features were made by another network than the model's", "run `dvc repro`")
        _ = self.student  # built once, not by each thread
        parts = [features[start : start + CHUNK] for start in range(0, len(features), CHUNK)]
        maps = np.concatenate(map_ordered(self._distances, parts, what=f"scoring with {self.name}", unit="batch"))
        return Predictions.of_maps(features.names, maps, self.spec["size"], how.smoothing)

    def _distances(self, features: Features) -> np.ndarray:
        """(N, H, W) float32 on the first layer's grid, where the papers multiply on that of the image."""
        import torch

        with torch.inference_mode():
            layers = [one.numpy() for one in distances(self._taught(features), self.student(self._seen(features)))]
        height, width = layers[0].shape[1:]
        product = np.ones_like(layers[0])
        for layer in layers:
            product *= bilinear(layer.shape[1], height) @ layer @ bilinear(layer.shape[2], width).T
        return product

    def save(self, folder: Path) -> None:
        """Write the model: the student alone, since the teacher is the backbone of the features."""
        storage.save(folder, self.name, dict(self.settings), self.spec, self.arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            AdshiftError: the folder holds no sound model of this method.
        """
        settings, spec, arrays = storage.load(folder, cls.name)
        model = cls(settings)
        model.spec, model.arrays = spec, arrays
        negative = [name for name, array in arrays.items() if name.endswith("running_var") and (array < 0).any()]
        storage.demand_that(not negative, folder, f"{', '.join(negative[:3])}: a negative variance")
        try:
            _ = model.student
        except (AdshiftError, KeyError, IndexError, ValueError, RuntimeError) as error:
            what = f"{folder}: no student of {spec.get('backbone')!r} ({str(getattr(error, 'what', error))[:300]})"
            raise AdshiftError(what, storage.REMEDY) from None
        return model
