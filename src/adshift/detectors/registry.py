"""The detectors by name: every module of this package is a method, except those of `SHARED`.

`adshift.detectors.base` describes such a module. A module is imported when its method is used.

Every other name that begins with `BRIDGED` is a model of anomalib (`adshift.detectors.anomalib_bridge`).
"""

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from adshift.project.paths import settings_path
from adshift.runtime.checksums import REMEDY

SHARED = ("__init__", "anomalib_bridge", "base", "records", "registry", "resample", "storage")
BRIDGED = "anomalib_"
BRIDGE = "adshift.detectors.anomalib_bridge"

# {method: its module}, in alphabetical order.
REGISTRY = {
    name: f"adshift.detectors.{name}"
    for name in sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
    if name not in SHARED
}

UNIFIED = "unified"  # in place of a class in paths: the model of all classes

Part = Literal["fit", "score"]


def is_bridged(method: str) -> bool:
    """Whether the name is one of a model of anomalib. DVC would split a name at a dot."""
    return re.fullmatch(BRIDGED + "[a-z0-9_]{1,40}", method) is not None


def exists(method: object) -> bool:
    """Whether it is the name of a method."""
    return isinstance(method, str) and (method in REGISTRY or is_bridged(method))


def module_name(method: str) -> str:
    """Dotted name of the module of a method."""
    return BRIDGE if is_bridged(method) else REGISTRY[method]


def _module(method: str) -> Any:
    if not exists(method):
        from adshift.errors import AdshiftError

        remedy = f"choose from {', '.join(REGISTRY)}, or {BRIDGED}NAME for a model of anomalib"
        raise AdshiftError(f"method {method!r} is unknown", remedy)
    return import_module(module_name(method))


def detector_class(method: str) -> Any:
    """The class of a method: the one of its module that has the method's name. The module is imported only now."""
    module = _module(method)
    if is_bridged(method):
        return module.bridged(method)
    defined = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    [detector] = [one for one in defined if getattr(one, "name", None) == method]
    return detector


def check(method: str, section: Any) -> None:
    """Refuse a section of a model of anomalib that does not suit the model's own signature.

    Raises:
        AdshiftError: naming the key.
    """
    if is_bridged(method):
        _module(method).check(method, section)


def warm_up(method: str) -> None:
    """Load what the method's `fit` needs."""
    _module(method).warm_up()


def schemas(method: str) -> dict[Part, Any]:
    """The two halves of a method's section in params.yaml."""
    return {"fit": _module(method).Fit, "score": _module(method).Score}


def schema(method: str) -> Any:
    """A method's whole section in params.yaml."""
    halves = schemas(method)
    config = halves["fit"].model_config  # of a bridge, which takes further keys
    return type("Settings", (halves["fit"], halves["score"]), {"__doc__": method, "model_config": config})


def halves(method: str, section: Mapping[str, Any]) -> dict[Part, dict[str, Any]]:
    """A method's section in params.yaml, divided into its two halves. Keys of neither are the fit's."""
    kinds = schemas(method)
    score = {name: section[name] for name in kinds["score"].model_fields}
    fit = {name: value for name, value in section.items() if name in kinds["fit"].model_fields or name not in score}
    return {"fit": kinds["fit"].written(fit), "score": score}


def levels(section: Mapping[str, Any]) -> set[int]:
    """The levels of the features that a method's section in params.yaml names; none for one that sees images alone."""
    return {*section.get("layers", ()), *([section["shared"]] if "shared" in section else [])}


def settings(method: str, part: Part, path: Path | None = None, remedy: str = REMEDY) -> Any:
    """One half of a method's settings, as the pipeline stored it, or from another file.

    Raises:
        AdshiftError: the file is missing or damaged, or a value is of another type or out of range.
    """
    return schemas(method)[part].read(path or settings_path(method, part), remedy)
