"""The network that made a model's features, from what the model says of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adshift.backbones import Backbone
from adshift.errors import AdshiftError
from adshift.params import Features as Settings


def from_spec(spec: Mapping[str, Any], weights: Path | str | None = None) -> Backbone:
    """The backbone of a detector's `spec`, with the very weights that were recorded.

    Args:
        spec: how the features were made, as features.json and model.json have it.
        weights: the file that holds the weights, for a backbone that got them from one (features.weights).

    Raises:
        AdshiftError: the spec is damaged, the weights cannot be had, or they are others than those recorded.
    """
    try:
        source, expected = (str(spec["weights"][key]) for key in ("source", "sha256"))
        kept = {key: spec[key] for key in ("backbone", "precision", "dtype")} | dict(spec["preprocessing"])
        names = [layer["name"] for layer in spec["layers"]]
        settings = Settings.of(
            {**kept, "layers": names, "weights": str(weights) if weights else None, "images": False, "batch": 1}
        )
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        reason = str(error).replace("\n", " ")
        raise AdshiftError(
            f"the model's record of its features is damaged ({reason})", "fetch the model again"
        ) from None
    if weights is None and source.startswith("file "):
        raise AdshiftError(
            f"weights of {settings.backbone}: the model's came from the {source}, which is not kept with it",
            "name that file: --weights PATH",
        )
    backbone = Backbone(settings)
    found: Any = backbone.record["weights"]
    if found["sha256"] != expected:
        raise AdshiftError(
            f"weights of {settings.backbone} ({found['source']}) are others than the model's ({source}): "
            f"sha256 {found['sha256'][:12]}..., not {expected[:12]}...",
            "install or name the weights that it was fitted with",
        )
    return backbone
