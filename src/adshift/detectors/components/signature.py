"""Arguments from params.yaml, checked against the signature of the class that takes them."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from adshift.errors import AdshiftError


def checked(where: str, kind: Any, given: Mapping[str, Any], hidden: Collection[str] = ()) -> dict[str, Any]:
    """The arguments as the annotations of the class's constructor have them.

    Args:
        where: they were given, for errors.
        kind: the class.
        given: {name: plain value}.
        hidden: arguments that params.yaml does not give.

    Raises:
        AdshiftError: an argument that the class does not have, that is missing, or of a wrong type.
    """
    parameters = inspect.signature(kind.__init__).parameters
    skipped = {"self", *hidden}
    allowed = {name: one for name, one in parameters.items() if name not in skipped and one.kind != one.VAR_KEYWORD}
    if unknown := [name for name in given if name not in allowed]:
        message = f"{where}.{unknown[0]}: {kind.__name__} has no argument of this name"
        raise AdshiftError(message, f"it has {', '.join(allowed) or 'none'}")
    if missing := [name for name, one in allowed.items() if one.default is one.empty and name not in given]:
        raise AdshiftError(f"{where}: {kind.__name__} needs {missing[0]}", f"add {missing[0]}")
    return {name: _typed(f"{where}.{name}", value, allowed[name].annotation) for name, value in given.items()}


def parameters(kind: Any) -> dict[str, Any]:
    """{argument: its default} of a class's constructor, empty text where there is none."""
    named = inspect.signature(kind.__init__).parameters.items()
    return {name: "" if one.default is one.empty else one.default for name, one in named if name != "self"}


def _typed(key: str, value: Any, annotation: Any) -> Any:
    """A value as its annotation has it; unchanged where the annotation is none that pydantic knows."""
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    if annotation is inspect.Parameter.empty:
        return value
    try:
        return TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        expected = getattr(annotation, "__name__", None) or str(annotation)
        reason = error.errors()[0]["msg"]
        raise AdshiftError(f"{key}: {value!r}: {reason}", f"expected is {expected}") from None
    except (PydanticUserError, NameError, TypeError):
        return value
