"""What is drawn for one image: records that hold all that the image is made from, checked when they are read.

Notation: H x W pixels; coordinates are (x, y) of pixel centres, the first pixel at (0, 0).
"""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adshift.errors import AdshiftError

Unit = Annotated[float, Field(ge=0, le=1)]


class _Drawn(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Affine(_Drawn):
    """Rotation (degrees, counter-clockwise) and scale (< 1 shrinks) about the centre, then a shift in image sides."""

    kind: Literal["affine"] = "affine"
    rotation: float
    scale: Annotated[float, Field(gt=0)]
    shift_x: float
    shift_y: float

    def matrix(self, height: int, width: int) -> np.ndarray:
        """(3, 3): a pixel's place in the result -> where it comes from."""
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        angle = np.deg2rad(self.rotation)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / self.scale  # y points down
        matrix = np.eye(3)
        matrix[:2, :2] = turn
        matrix[:2, 2] = centre - turn @ (centre + np.array([self.shift_x * width, self.shift_y * height]))
        return matrix


class Crop(_Drawn):
    """A box, in widths and heights of the image, enlarged to the whole image."""

    kind: Literal["resized_crop"] = "resized_crop"
    left: Unit
    top: Unit
    width: Annotated[float, Field(gt=0, le=1)]
    height: Annotated[float, Field(gt=0, le=1)]

    def matrix(self, height: int, width: int) -> np.ndarray:
        """(3, 3): a pixel's place in the result -> where it comes from."""
        # Edges of the box go to edges of the image, which lie half a pixel outside of the outer centres.
        return np.array([[self.width, 0, self.left * width + self.width / 2 - 0.5],
                         [0, self.height, self.top * height + self.height / 2 - 0.5],
                         [0, 0, 1]])  # fmt: skip


class Color(_Drawn):
    """Factors, 1 leaves the image as it is; torchvision's definitions."""

    brightness: float
    contrast: float
    saturation: float


class Linear(_Drawn):
    """Darkens one edge, down to `strength` times the brightness."""

    kind: Literal["linear"] = "linear"
    strength: Unit
    edge: Literal["left", "right", "top", "bottom"]
    smoothing: float

    def ramp(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """How dark the places (x, y) in [0, 1] are."""
        return {"left": 1 - x, "right": x, "top": 1 - y, "bottom": y}[self.edge] + 0 * (x + y)


class Radial(_Drawn):
    """Darkens away from a centre (in widths and heights), down to `strength` times the brightness."""

    kind: Literal["radial"] = "radial"
    strength: Unit
    x: Unit
    y: Unit
    smoothing: float

    def ramp(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """How dark the places (x, y) in [0, 1] are."""
        return np.hypot(x - self.x, y - self.y)


class Blur(_Drawn):
    kernel: int
    sigma: Annotated[float, Field(gt=0)]


class Noise(_Drawn):
    sigma: float
    seed: Annotated[int, Field(ge=0)]


class Draw(_Drawn):
    """All that was drawn for one image; None where a family leaves it alone.

    Attributes:
        border: what fills the border that the geometry uncovers.
        tries: geometries drawn until enough of the defect stayed in the picture.
    """

    border: Literal["reflect", "edge", "wrap", "constant"] = "reflect"
    tries: int = 1
    geometry: Annotated[Affine | Crop, Field(discriminator="kind")] | None = None
    color: Color | None = None
    illumination: Annotated[Linear | Radial, Field(discriminator="kind")] | None = None
    blur: Blur | None = None
    noise: Noise | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON, which keeps every bit of a float."""
        return self.model_dump()

    @classmethod
    def from_dict(cls, values: Any) -> "Draw":
        """What `to_dict` gave, checked.

        Raises:
            AdshiftError: a key is missing or unknown, or a value out of range.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise AdshiftError(f"a recorded draw is damaged: {error}", "run `dvc repro`") from None
