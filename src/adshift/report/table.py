"""One table for a reader or a program: CSV (keys, 6 digits), Markdown (labels, 3 decimals) or cells for the page."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from adshift.report.labels import MACRO, label

# Format of numbers by column; all others have 3 decimals.
STYLES = {"rows": ".0f", "ratio": "g", "seconds": ".1f", "defective_pixels": ".4f"}
PUBLISHED, DIFFERENCE, SPREAD = "_published", "_difference", "_spread"
LOW, HIGH = "_low", "_high"  # suffixes of the columns with the ends of 95 % intervals
SIGNED = (DIFFERENCE, "gap", "difference")
HEADINGS = {PUBLISHED: "published", DIFFERENCE: "difference", SPREAD: "standard deviation"}
LABELLED = ("method", "than", "better", "scenario", "metric")  # columns whose cells are keys
CLASSES = ("class", "threshold_of", "applied_to")  # columns whose cells are classes
LONG = 200  # rows; a longer table has no Markdown


class Estimate(NamedTuple):
    """A value and the ends of its 95 % interval over test images; None if undefined."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: of its files.
        frame: keys and numbers; undefined values are None or NaN. The columns NAME_low and NAME_high hold the intervals
            of the column NAME.
        note: a sentence under it.
    """

    name: str
    title: str
    frame: pd.DataFrame
    note: str = ""

    @property
    def columns(self) -> list[str]:
        """The columns that a reader sees; intervals are shown in the cells of their values."""
        names = list(self.frame)
        return [name for name in names if not (name.endswith((LOW, HIGH)) and name.rpartition("_")[0] in names)]

    def csv(self) -> str:
        """The table as the text of a CSV file."""
        names = list(self.frame) if len(self.frame) else self.columns
        columns = {name: pd.Series([plain(cell) for cell in self.frame[name]], dtype=object) for name in names}
        return pd.DataFrame(columns, columns=names).to_csv(index=False, lineterminator="\n")

    def cells(self, titles: Mapping[str, str] | None = None) -> list[list[str]]:
        """Header and rows for a reader.

        Args:
            titles: {class: its name for people}. If there is only one, rows of the mean are left out where its own rows
                are, and have its name elsewhere.
        """
        titles, frame, mean = titles or {}, self.frame, label(MACRO)
        if len(titles) == 1 and "class" in frame:
            [mean] = titles.values()
            if frame["class"].isin(titles).any():
                frame = frame[frame["class"] != MACRO]
        names = {MACRO: mean, **titles}
        columns = [self._shown(frame, name, names) for name in self.columns]
        return [[_heading(name) for name in self.columns], *map(list, zip(*columns, strict=True))]

    def _shown(self, frame: pd.DataFrame, column: str, names: Mapping[str, str]) -> list[str]:
        if column in CLASSES:
            return [names.get(cell, str(cell)) for cell in frame[column]]
        values = [_text(cell, column) for cell in frame[column]]
        if column + LOW not in frame:
            return values
        ends = zip(frame[column + LOW], frame[column + HIGH], strict=True)
        return [
            value if pd.isna(low) else f"{value} [{_text(low, column)}, {_text(high, column)}]"
            for value, (low, high) in zip(values, ends, strict=True)
        ]

    def markdown(self, titles: Mapping[str, str] | None = None) -> str:
        """The table as the text of a Markdown file, numbers aligned to the right. `titles`: as in `cells`."""
        header, *rows = ([cell.replace("|", "\\|") for cell in row] for row in self.cells(titles))
        first = self.frame[self.columns].iloc[0] if rows else self.columns
        rule = ["---" if isinstance(cell, str) else "---:" for cell in first]
        lines = ["| " + " | ".join(row) + " |" for row in (header, rule, *rows)]
        return "\n".join([f"# {self.title}", "", *lines, *(["", self.note] if self.note else [])]) + "\n"


def plain(cell: Any) -> Any:
    """A cell of a CSV file: numbers to 6 digits, empty if undefined."""
    return "" if pd.isna(cell) else float(f"{cell:.6g}") if isinstance(cell, float) else cell


def _heading(column: str) -> str:
    return next((word for end, word in HEADINGS.items() if column.endswith(end)), label(column))


def _text(cell: Any, column: str) -> str:
    if pd.isna(cell):
        return "\N{EN DASH}"
    if isinstance(cell, float):
        return format(cell, "+.3f" if column.endswith(SIGNED) else STYLES.get(column, ".3f"))
    return label(cell) if column in LABELLED else str(cell)


def write(folder: Path, tables: Iterable[Table], titles: Mapping[str, str] | None = None) -> None:
    """Write each table as NAME.csv and, up to `LONG` rows, NAME.md, where classes have their names for people."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in tables:
        (folder / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8")
        if len(table.frame) <= LONG:
            (folder / f"{table.name}.md").write_text(table.markdown(titles), encoding="utf-8")
