"""Types of parameters that several methods have in params.yaml."""

from typing import Annotated

from pydantic import Field

from adshift.runtime.settings import Count, Number, Several

Layers = Several(Annotated[int, Field(ge=1, le=16)], 16)
Smoothing = Annotated[Number, Field(ge=0, le=100)]  # standard deviation in pixels; a Gaussian is cut at four of them
Neighbours = Annotated[Count, Field(le=10_000)]
Epochs = Annotated[Count, Field(le=10_000)]
LearningRate = Annotated[Number, Field(gt=0, le=100)]
Regularisation = Annotated[Number, Field(ge=1e-6, le=1000)]
