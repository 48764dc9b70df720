"""PaSTe (Barusco et al., 2024): STFPM whose student shares the teacher's first layers and trains only the later ones.

The rest of the student has two kinds of stored features: its input, the maps of the last shared layer, and its targets,
the maps of the deeper levels. So neither training nor scoring reads an image or runs a shared layer.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from adshift.detectors.components import students, training
from adshift.errors import AdshiftError
from adshift.features.network import create
from adshift.features.store import Features
from adshift.runtime.settings import Count

Score = students.Score
warm_up = students.warm_up


class Fit(students.Fit):
    """Parameters of the student.

    Attributes:
        shared: level of the features up to which student and teacher share all layers.
        layers: deeper levels that the student learns to match, shallow to deep.
        epochs, batch, learning_rate: of the training.
    """

    shared: Annotated[Count, Field(le=16)]

    @model_validator(mode="after")
    def _deeper(self) -> Self:
        if min(self.layers) <= self.shared:
            raise ValueError("layers must be deeper than the shared one")
        return self


def stages_behind(backbone: str, options: Mapping[str, Any], shared: str, wanted: Sequence[str]) -> Any:
    """The stages of an untrained backbone after a layer: a network from that layer's map to those of `wanted`.

    Raises:
        AdshiftError: the layers are not stages that follow one another.
    """
    from torch import nn

    whole = create(backbone, options, pretrained=False)
    *parents, first = shared.split(".")
    names = [name.removeprefix(".".join([*parents, ""])) for name in wanted]
    stages = dict(whole.get_submodule(".".join(parents)).named_children())
    behind = list(stages)[list(stages).index(first) + 1 :]
    if not set(names) <= set(behind):
        raise AdshiftError(
            f"paste: {', '.join(wanted)} are not stages of {backbone} that follow {shared}",
            "use a backbone whose layers follow one another, such as a ResNet",
        )

    class Stages(nn.ModuleDict):
        def forward(self, maps: Any) -> list[Any]:
            outputs = []
            for name, stage in self.items():
                maps = stage(maps)
                if name in names:
                    outputs.append(maps)
            return outputs

    last = max(behind.index(name) for name in names)
    return Stages({name: stages[name] for name in behind[: last + 1]})


class PaSTe(students.Student):
    """A student of the backbone's later stages."""

    name = "paste"
    label = "PaSTe"
    artifact = "PaSTe: student and teacher that share their first layers"

    def _untrained(self) -> Any:
        names = [layer["name"] for layer in self.spec["layers"]]
        wanted = [names[level - 1] for level in self.settings.layers]
        options = self.spec.get("options", {})
        return stages_behind(self.spec["backbone"], options, names[self.settings.shared - 1], wanted)

    def student_input(self, features: Features) -> Any:
        return training.tensor(features.maps(self.settings.shared))
