"""The detectors by name: every module of this package is a method, except those of `SHARED`.

`adshift.detectors.base` describes such a module. A module is imported when its method is used.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from adshift.project.paths import settings_path
from adshift.runtime.checksums import REMEDY

SHARED = ("__init__", "base", "records", "registry", "resample", "storage")

# {method: its module}, in alphabetical order.
REGISTRY = {
    name: f"adshift.detectors.{name}"
    for name in sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
    if name not in SHARED
}

UNIFIED = "unified"  # in place of a class in paths: the model of all classes

Part = Literal["fit", "score"]


def _module(method: str) -> Any:
    if method not in REGISTRY:
        from adshift.errors import AdshiftError

        raise AdshiftError(f"method {method!r} is unknown", f"choose from {', '.join(REGISTRY)}")
    return import_module(REGISTRY[method])


def detector_class(method: str) -> Any:
    """The class of a method: the one of its module that has the method's name. The module is imported only now."""
    module = _module(method)
    defined = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    [detector] = [one for one in defined if getattr(one, "name", None) == method]
    return detector


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
    """A method's section in params.yaml, divided into its two halves."""
    return {part: {name: section[name] for name in half.model_fields} for part, half in schemas(method).items()}


def levels(section: Mapping[str, Any]) -> set[int]:
    """The levels of the features that a method's section in params.yaml names."""
    return {*section["layers"], *([section["shared"]] if "shared" in section else [])}


def settings(method: str, part: Part, path: Path | None = None, remedy: str = REMEDY) -> Any:
    """One half of a method's settings, as the pipeline stored it, or from another file.

    Raises:
        AdshiftError: the file is missing or damaged, or a value is of another type or out of range.
    """
    return schemas(method)[part].read(path or settings_path(method, part), remedy)
