"""STFPM (Wang et al., 2021): a complete student network learns, from images, the feature maps of its teacher.

It is the only detector that needs images as well as features: `features.images` stores them.
"""

from typing import Any

import numpy as np

from adshift.detectors.components import students, training
from adshift.features.network import create
from adshift.features.store import Features

Fit, Score = students.Fit, students.Score
warm_up = students.warm_up


class Stfpm(students.Student):
    """A student of the backbone's architecture, cut after the layers that it learns to match."""

    name = "stfpm"
    label = "STFPM"
    artifact = "STFPM: student and teacher"
    needs_images = True

    def _untrained(self) -> Any:
        backbone, layers, options = self.spec["backbone"], self.spec["layers"], self.spec.get("options", {})
        stages: Any = create(backbone, options, pretrained=False).feature_info
        known = [stage["module"] for stage in stages]
        indices = [known.index(layers[level - 1]["name"]) for level in self.settings.layers]
        return create(backbone, options, pretrained=False, features_only=True, out_indices=indices)

    def student_input(self, features: Features) -> Any:
        """The backbone's input: (N, 3, S, S) float32."""
        mean, std = (np.array(self.spec["preprocessing"][key], np.float32) for key in ("mean", "std"))
        return training.tensor((features.images() / np.float32(255) - mean) / std)
