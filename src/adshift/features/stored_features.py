"""Feature maps that the stage `embed` stored, for the images of a part of the split."""

from collections.abc import Iterable
from functools import reduce
from typing import Literal

from adshift.data import split_file
from adshift.features.store import Features
from adshift.project.paths import features_path, split_path


def stored(dataset: str, classes: Iterable[str], domain: str, part: Literal["train", "val", "test"]) -> Features:
    """Stored feature maps of the images of a part, all classes together."""
    sets = []
    for name in classes:
        names = split_file.images_of(split_file.read(split_path(dataset, name), domain), part)
        sets.append(Features.open(features_path(dataset, name, domain)).select(names))
    return reduce(Features.__add__, sets)
