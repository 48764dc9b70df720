"""Read published figures, and tables of results that runs wrote."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from adshift.errors import AdshiftError
from adshift.report.labels import MACRO
from adshift.runtime import checksums

PRINTED_MACRO = "macro"  # `MACRO` in published tables and in results of older versions
STUDY_CLASSES = {"hazelnut", "carpet", "zipper"}

Key = tuple[str, str, str, str]  # scenario, method, class, metric


def read_published(
    dataset: str, classes: Sequence[str], backbone: str, folder: Path, on: str = "val"
) -> dict[Key, float]:
    """The study's figures {(scenario, method, class, metric): value}; none for other data, backbones or splits.

    The official protocol (`on` is `test`) tests on other images than the study.
    """
    if dataset != "mvtec" or set(classes) != STUDY_CLASSES or backbone != "resnet50" or on != "val":
        return {}
    rows = with_means(read_csv(folder / "shift_study.csv"))
    return {(row["scenario"], row["method"], row["class"], row["metric"]): float(row["value"]) for row in rows}


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file.

    Raises:
        AdshiftError: it is missing or damaged.
    """
    try:
        columns, rows = checksums.read_table(path)
    except (OSError, ValueError, csv.Error) as error:
        raise AdshiftError(f"{path}: not readable ({error})", checksums.REMEDY) from None
    return [dict(zip(columns, row, strict=True)) for row in rows]


def with_means(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The same rows; if none has the class `MACRO`, `PRINTED_MACRO` is renamed to it."""
    ours = any(row["class"] == MACRO for row in rows)
    return [{**row, "class": MACRO} if not ours and row["class"] == PRINTED_MACRO else {**row} for row in rows]
