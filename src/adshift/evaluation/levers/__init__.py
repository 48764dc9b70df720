"""Levers against drift: before it comes (`harden`, `normalise`, `align`) and after it (`adapt`).

Each is one module of this package with one subclass of `Lever`. The stages `harden`, `normalise`, `align` and `adapt`
make what a lever needs for every method together; the stage `lever` fits its models and scores images with them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np

from adshift.data import split_file
from adshift.detectors import registry
from adshift.detectors.base import Detector
from adshift.detectors.records import Predictions
from adshift.evaluation.registry import LEVERS
from adshift.features.store import Features
from adshift.features.stored_features import stored
from adshift.project.paths import lever_path, model_path, settings_path, split_path
from adshift.runtime import seeding

Part = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Run:
    """A method and a class for which a lever is run.

    Attributes:
        dataset, method, name: of the pipeline; `name` is the class.
        seed: of everything random.
    """

    dataset: str
    method: str
    name: str
    seed: int

    def stored(self, domain: str, part: Part) -> Features:
        """Feature maps of the images of a part."""
        return stored(self.dataset, [self.name], domain, part)

    def names(self, domain: str, part: Part) -> tuple[str, ...]:
        """Names of the images of a part."""
        return split_file.images_of(split_file.read(split_path(self.dataset, self.name), domain), part)

    def generator(self) -> np.random.Generator:
        """The generator of the clean model's fit, so that a lever that changes no image gives the same model."""
        return seeding.generator(self.seed, "fit", self.method, self.name, "clean")

    @property
    def settings(self) -> Any:
        """`Fit` settings of the method."""
        return registry.settings(self.method, "fit")

    @cached_property
    def detector(self) -> Any:
        """Class of the method."""
        return registry.detector_class(self.method)

    @cached_property
    def clean(self) -> Detector:
        """The fitted model of the clean domain."""
        model: Detector = self.detector.load(model_path(self.dataset, self.method, self.name, "clean"))
        return model


class Lever(ABC):
    """A lever, for one method and class.

    Attributes:
        name: of its module, its section of params.yaml and its folders.
        settings: `Settings` of its module, its section of params.yaml.
        run: the method and class.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.settings = import_module(LEVERS[self.name]).Settings.read(settings_path(self.name))

    @property
    def name(self) -> str:
        return type(self).__module__.rsplit(".", 1)[1]

    @property
    def folder(self) -> Path:
        """What the stage of the lever's name made for this class."""
        return lever_path(self.name, self.run.dataset, self.run.name)

    @cached_property
    @abstractmethod
    def model(self) -> Detector:
        """The fitted model."""

    def images(self, domain: str, part: Part) -> Features:
        """The images of a part as the model scores them."""
        return self.run.stored(domain, part)

    def predictions(self, domain: str, part: Part, scoring: Any) -> Predictions:
        """Scores and anomaly maps of the images of a part; those of `val` set the threshold."""
        return self.model.predict(self.images(domain, part), scoring)

    def save(self, folder: Path) -> None:
        """Write the model, with what its use needs beside it."""
        self.model.save(folder)


def lever_class(name: str) -> Any:
    """The class of a lever."""
    module = import_module(LEVERS[name])
    [lever] = [
        one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Lever) and one is not Lever
    ]
    return lever
