"""The detectors, one file each, found by name. A new method is a file, a line here and a section in params.yaml.

A method's module holds `Settings` (its section of params.yaml) and a class with one verb set:

    Detector(**settings)                 its constructor names every setting
    detector.fit(features, generator)    -> None
    detector.predict(features)           -> Predictions
    detector.save(folder)                arrays without pickle and a model.json
    Detector.load(folder)

and a function `warm_up()` that loads what `fit` needs, so that a fit's time is the fit's alone.
"""

from importlib import import_module
from typing import Any

REGISTRY = {
    "patchcore": "adshift.methods.patchcore:PatchCore",
    "padim": "adshift.methods.padim:Padim",
}

UNIFIED = "unified"  # stands for a class in paths: the model of all classes pooled


def detector_class(method: str) -> Any:
    """The class of a method, its module imported only now."""
    module, name = REGISTRY[method].split(":")
    return getattr(import_module(module), name)


def warm_up(method: str) -> None:
    """Load what the method's `fit` needs."""
    import_module(REGISTRY[method].split(":")[0]).warm_up()


def settings(method: str) -> Any:
    """The schema of a method's section in params.yaml."""
    return import_module(REGISTRY[method].split(":")[0]).Settings
