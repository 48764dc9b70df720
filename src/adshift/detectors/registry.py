"""The detectors, one file each, found by name. A new method is a file, a line here and a section in params.yaml.

A method's module holds the two halves of its section of params.yaml, `Fit` and `Score`, so that a knob of scoring
refits nothing, and a class with one verb set:

    Detector(settings: Fit)
    detector.fit(features, generator)        -> None
    detector.predict(features, how: Score)   -> Predictions
    detector.save(folder)                    arrays without pickle and a model.json
    Detector.load(folder)

and a function `warm_up()` that loads what `fit` needs, so that a fit's time is the fit's alone.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

REGISTRY = {
    "patchcore": "adshift.detectors.patchcore:PatchCore",
    "patchcore_pq": "adshift.detectors.patchcore_pq:PatchCorePQ",
    "padim": "adshift.detectors.padim:Padim",
    "padim_streaming": "adshift.detectors.padim_streaming:PadimStreaming",
    "padim_diagonal": "adshift.detectors.padim_diagonal:PadimDiagonal",
    "paste": "adshift.detectors.paste:PaSTe",
    "stfpm": "adshift.detectors.stfpm:Stfpm",
    "cfa": "adshift.detectors.cfa:Cfa",
}

UNIFIED = "unified"  # stands for a class in paths: the model of all classes pooled

Part = Literal["fit", "score"]


def _module(method: str) -> Any:
    if method not in REGISTRY:
        from adshift.errors import AdshiftError

        raise AdshiftError(f"method {method!r} is unknown", f"choose from {', '.join(REGISTRY)}")
    return import_module(REGISTRY[method].split(":")[0])


def detector_class(method: str) -> Any:
    """The class of a method, its module imported only now."""
    module = _module(method)
    return getattr(module, REGISTRY[method].split(":")[1])


def warm_up(method: str) -> None:
    """Load what the method's `fit` needs."""
    _module(method).warm_up()


def schemas(method: str) -> dict[Part, Any]:
    """The two halves of a method's section in params.yaml."""
    return {"fit": _module(method).Fit, "score": _module(method).Score}


def schema(method: str) -> Any:
    """A method's whole section in params.yaml."""
    halves = schemas(method)
    return type("Settings", (halves["fit"], halves["score"]), {"__doc__": method})


def halves(method: str, section: Mapping[str, Any]) -> dict[Part, dict[str, Any]]:
    """A method's section in params.yaml, taken apart."""
    return {part: {name: section[name] for name in half.model_fields} for part, half in schemas(method).items()}


def settings_path(method: str, part: Part) -> Path:
    """Where half of a method's settings lies."""
    return Path("data/settings") / method / f"{part}.json"


def settings(method: str, part: Part, path: Path | None = None, remedy: str | None = None) -> Any:
    """Half of a method's settings, as the pipeline stored it, or from another file.

    Raises:
        AdshiftError: the file is missing or damaged, or a value is of another type or out of range.
    """
    from adshift.errors import AdshiftError, in_line
    from adshift.runtime.checksums import REMEDY
    from adshift.runtime.files import read_json

    path = path or settings_path(method, part)
    try:
        return schemas(method)[part].of(read_json(path, remedy or REMEDY))
    except (OverflowError, RecursionError, ValueError) as error:
        raise AdshiftError(f"{path}: not its settings ({in_line(error)})", remedy or REMEDY) from None
