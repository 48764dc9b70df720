"""Networks of timm with the options of `features.options`, which backbones and the students of detectors share."""

from collections.abc import Mapping
from typing import Any

from adshift.errors import AdshiftError, in_line

TRANSFORMERS = "vit_"  # begins their names
TOKEN_NORM = "token_norm"  # the option that is ours, of transformers


def create(name: str, options: Mapping[str, Any], **arguments: Any) -> Any:
    """A network of timm's with `features.options`, which the networks of students have too.

    Raises:
        AdshiftError: options that it does not have.
    """
    import timm

    theirs = {key: value for key, value in options.items() if key != TOKEN_NORM}
    if name.startswith(TRANSFORMERS):
        arguments = {"dynamic_img_size": True, **arguments}  # for other sizes than the pretrained ones
    try:
        return timm.create_model(name, **arguments, **theirs)
    except (AssertionError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        if not options and not name.startswith(TRANSFORMERS):
            raise
        given = ", ".join(f"{key}: {value}" for key, value in options.items()) or "inputs of any size"
        raise AdshiftError(
            f"features.options: timm cannot build {name} with {given} ({in_line(error)})",
            "correct features.options, set it to {}, or choose another backbone",
        ) from None
