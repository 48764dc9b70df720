"""PaSTe (Barusco et al., 2024): STFPM whose student shares the teacher's first layers and trains the later ones alone.

The shared layers' maps are the stored features of a level: what the rest of the student starts from. The maps of the
deeper levels are what it learns. So no image is looked at and no shared layer runs, in training or in scoring.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from adshift.detectors.components import students, training
from adshift.errors import AdshiftError
from adshift.features.store import Features
from adshift.runtime.settings import Count

Score = students.Score
warm_up = students.warm_up


class Fit(students.Fit):
    """What the student depends on.

    Attributes:
        shared: level of the features up to which student and teacher are one.
        layers: deeper levels that it is to match, shallow to deep.
        epochs, batch, learning_rate: of the training.
    """

    shared: Annotated[Count, Field(le=16)]

    @model_validator(mode="after")
    def _deeper(self) -> Self:
        if min(self.layers) <= self.shared:
            raise ValueError("layers must be deeper than the shared one")
        return self


def stages_behind(backbone: str, shared: str, wanted: Sequence[str]) -> Any:
    """The stages of an untrained backbone behind one layer: a network from that layer's map to those of `wanted`.

    Raises:
        AdshiftError: the layers are not stages that follow one another.
    """
    import timm
    from torch import nn

    whole = timm.create_model(backbone, pretrained=False)
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
        return stages_behind(self.spec["backbone"], names[self.settings.shared - 1], wanted)

    def student_input(self, features: Features) -> Any:
        return training.tensor(features.maps(self.settings.shared))
