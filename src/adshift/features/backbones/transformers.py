"""Vision transformers of timm as backbones: the patch tokens of some blocks as maps, all at one stride.

With the option `token_norm` every map is normalized by the last layer norm of the network, as in AnomalyDINO (Damm et
al., 2025) and DINOv2. Position embeddings are interpolated once to the size of the input; a file holds the
pretrained ones.

Notation: N images of h x w pixels, patches of p x p, C channels.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from adshift.data.shapes import Size, sides
from adshift.errors import AdshiftError


class Tokens(nn.Module):
    """(N, 3, h, w) to one map (N, C, h / p, w / p) for each block kept.

    Attributes:
        model: the network up to the deepest block kept.
        indices: of the blocks.
        norm: whether the last layer norm of the network normalizes each of them.
    """

    def __init__(self, full: Any, indices: Sequence[int], norm: bool) -> None:
        super().__init__()
        self.model = deepcopy(full)
        self.indices, self.norm = list(indices), norm
        self.model.prune_intermediate_layers(self.indices, prune_norm=not norm, prune_head=True)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        maps: list[torch.Tensor] = self.model.forward_intermediates(
            images, indices=self.indices, norm=self.norm, output_fmt="NCHW", intermediates_only=True
        )
        return maps

    def resize(self, size: Size) -> None:
        """Interpolate the position embeddings for inputs of one size, of which alone it then gives maps.

        Raises:
            AdshiftError: a side is no multiple of the patches.
        """
        patch = self.model.patch_embed.patch_size
        given = sides(size)
        if any(side % one for side, one in zip(given, patch, strict=True)):
            near = [max(1, round(side / one)) * one for side, one in zip(given, patch, strict=True)]
            shown = near[0] if near[0] == near[1] else near
            message = f"features.resize: {list(given)} is no multiple of the transformer's patches of {patch[0]} pixels"
            raise AdshiftError(message, f"set features.resize (or crop): {shown}")
        self.model.set_input_size(img_size=given)


def is_transformer(full: Any) -> bool:
    """Whether a network of timm has tokens at one stride in place of a pyramid of maps."""
    strides = {stage["reduction"] for stage in full.feature_info}
    return len(strides) == 1 and all(hasattr(full, name) for name in ("set_input_size", "patch_embed"))
