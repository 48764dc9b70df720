"""The small networks that timm does not have, by name. A new family is a file in this folder, an entry here and a
line in `adshift.data.registry`.

A family's module is imported by its name, and only when one of its networks is built: torch takes seconds, and what
runs a network of another family does not depend on it. Its `build(name)` gives an untrained network (torch Module) of
1000 classes whose parameters bear the names of the authors' checkpoints, so that these load by name, and that has
`steps()`: {layer's name: module}, which run one after another and end before the pooling.

Names, and which layers the edge study keeps, are those of the study's library, MoViAD.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from adshift.data.registry import FAMILIES as MODULES


@dataclass(frozen=True)
class Family:
    """Networks of one paper.

    Attributes:
        name: of the family in `adshift.data.registry`.
        files: {network's name: the authors' file of its weights}.
        release: who gives these files away.
        layers: the usual ones, shallow to deep, as in the edge study's table 3.1.
        sizes: {network's name: side in pixels that it was searched or trained for}; 224 where it is not named.
    """

    name: str
    files: Mapping[str, str]
    release: str
    layers: tuple[str, ...]
    sizes: Mapping[str, int]

    def build(self, network: str) -> Any:
        """The untrained network of that name."""
        return import_module(MODULES[self.name]).build(network)


FAMILIES = (
    Family(
        "mcunet",
        {
            "mcunet-in0": "mcunet-10fps_imagenet.pth",
            "mcunet-in1": "mcunet-5fps_imagenet.pth",
            "mcunet-in2": "mcunet-256kb-1mb_imagenet.pth",
            "mcunet-in3": "mcunet-320kb-1mb_imagenet.pth",
            "mcunet-in4": "mcunet-512kb-2mb_imagenet.pth",
        },
        "mit-han-lab/mcunet, model zoo",
        ("blocks.3", "blocks.6", "blocks.9"),
        {"mcunet-in0": 48, "mcunet-in1": 96, "mcunet-in2": 160, "mcunet-in3": 176, "mcunet-in4": 160},
    ),
    Family(
        "micronet",
        {f"micronet-m{n}": f"micronet-m{n}.pth" for n in range(4)},
        "liyunsheng13/micronet, table of models",
        ("features.2", "features.4", "features.5"),
        {},
    ),
    Family(
        "phinet",
        {
            "phinet_2.3_0.75_5": "new_phinet_small_71.pth.tar",
            "phinet_1.2_0.5_6_downsampling": "new_phinet_divisor8_v2_downsampl.pth.tar",
            "phinet_0.8_0.75_8_downsampling": "new_phinet_divisor8_v3.pth.tar",
            "phinet_1.3_0.5_7_downsampling": "phinet_13057DS.pth.tar",
            "phinet_0.9_0.5_4_downsampling": "phinet_09054DS.pth.tar",
            "phinet_0.9_0.5_4_downsampling_deep": "phinet_09054DSDE.pth.tar",
        },
        "the authors of micromind-toolkit/micromind and MoViAD (backbones/phinet)",
        ("_layers.2", "_layers.6", "_layers.7"),
        {},
    ),
)


def of(name: str) -> Family | None:
    """The family of a network; None for timm's."""
    return next((family for family in FAMILIES if name in family.files), None)


def names() -> list[str]:
    """Of all networks here."""
    return [name for family in FAMILIES for name in family.files]
