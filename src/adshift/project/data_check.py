"""Counts of the data set under the current parameters, and warnings if they are too low."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adshift.data import datasets, facts, splits
from adshift.data.groups import BY_NAME, RANDOM
from adshift.data.survey import Survey, survey


@dataclass(frozen=True)
class Checked:
    """The result of `check`.

    Attributes:
        settings: all parameters, from `params.load_all`.
        survey: counts of the data set.
        normal: {class, or class and domain: number of its normal images in each part}.
        warnings: possible mistakes, and figures that the data cannot give, one line each.
    """

    settings: Any
    survey: Survey
    normal: Mapping[str, Counter[str]]
    warnings: tuple[str, ...]

    def lines(self) -> list[str]:
        """The result as lines of text."""
        passed = self.survey.passed()
        return [
            self.survey.line(),
            *([passed] if passed else []),
            *(f"warning: {warning}" for warning in self.warnings),
        ]


def look(settings: Any) -> Checked:
    """Check the data set without opening its images.

    Raises:
        AdshiftError: as `datasets.check` and `datasets.domains`, or a column in the parameters is missing.
    """
    source = settings.dataset.name, settings.dataset.root, settings.classes
    surveyed = survey(*source, settings.dataset.folder)
    normal = datasets.check(*source, settings.dataset.folder)
    if settings.shift.kind == "recorded":
        normal = datasets.domains(*source, settings.shift.recorded, settings.dataset.folder)
    _check_columns(settings, surveyed)
    return Checked(settings, surveyed, normal, tuple(_warnings(settings, surveyed, normal)))


def _check_columns(settings: Any, surveyed: Survey) -> None:
    split = settings.split
    named = {"split.group": split.group, "split.order": None if split.order in (RANDOM, BY_NAME) else split.order}
    for key, value in named.items():
        if value is not None and "(" not in value:
            for one in surveyed.listings.values() or [None]:
                facts.column(one.images if one else [], value, key)


def _warnings(settings: Any, surveyed: Survey, normal: Mapping[str, Mapping[str, int]]) -> list[str]:
    lines = []
    for name, counts in normal.items():
        if 0 < (count := splits.training_count(settings.split, counts)) < splits.FEW:
            lines.append(splits.few(f"class {name}", count))
    counts = surveyed.counts
    if not counts["defective"]:
        lines.append("no defective image: figures that need one stay empty, thresholds come from normal images alone")
    elif not counts["masks"]:
        lines.append("no mask: how well defects are localized cannot be measured")
    elif counts["masks"] < counts["defective"]:
        missing = counts["defective"] - counts["masks"]
        lines.append(f"{missing} of {counts['defective']} defective images have no mask: pixel figures leave them out")
    return lines
