"""The error that users see, with its cause and remedy; and the warning of a possible mistake."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class AdshiftError(Exception):
    """Bad input: a message and a remedy.

    Args:
        what: the file or key at fault, what was found there and what was expected.
        remedy: what the user can do about it.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what, self.remedy = what, remedy
        super().__init__(f"{what}\n  remedy: {remedy}" if remedy else what)


class AdshiftWarning(UserWarning):
    """A possible mistake."""


def warn(text: str) -> None:
    """Warn with `AdshiftWarning`; on a command line it is one line on standard error (`warnings_shown`)."""
    warnings.warn_explicit(text, AdshiftWarning, __file__, 0)  # no registry: every warning is shown


@contextmanager
def warnings_shown() -> Iterator[None]:
    """Within: every `AdshiftWarning` is a line `warning: ...` on standard error, without the line of code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", AdshiftWarning)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *more: object, **named: object) -> None:
            if issubclass(category, AdshiftWarning):
                print(f"warning: {shown(str(message))}", file=sys.stderr)
            else:
                usual(message, category, *more, **named)  # type: ignore[arg-type]

        warnings.showwarning = show
        yield


def shown(text: str) -> str:
    """A text for a terminal, such as a file's name, with escapes for control characters, line ends, invalid bytes."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def in_line(error: Exception) -> str:
    """An exception in one line; for an error of pydantic, each key and its problem."""
    if hasattr(error, "errors"):
        parts = [(".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()]
        lines = [f"{key}: {text[0].lower()}{text[1:]}" if key else text for key, text in parts]
        return "; ".join(lines)[:500]
    return " ".join(str(error).split())[:500]
