"""The shift study's claims, judged on the figures of `adshift study run shift_study`: holds, fails, or cannot tell.

    python docs/results/shift_study/claims.py docs/results/shift_study/claims docs/results/shift_study/*-three.csv

Writes a CSV and a table. Each claim is a sum of figures, each times a factor, that is above (or below) a bound. It is
computed seed by seed. The interval is Student's, 95 %, over the seeds, which draw split, shift, projection and
channels. A claim holds if the whole interval is on its side of the bound, fails if it is on the other, and cannot be
told otherwise.
The study's own figures give one number without an interval.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import t as student

NONE, THRESHOLD, REFIT = "shift_no_adaptation", "shift_threshold_only", "shift_full_adaptation"
STUDY = Path("reference/shift_study.csv")
MEAN, MACRO = "(mean)", "macro"  # of classes: our word and the study's


@dataclass(frozen=True)
class Claim:
    """One statement.

    Attributes:
        text: what is claimed.
        terms: {(method, scenario, metric): factor}.
        bound: and whether the sum is claimed to be `above` it.
        shift: of our rows: `whole` or `rotation`.
    """

    text: str
    terms: Mapping[tuple[str, str, str], float]
    bound: float = 0.0
    above: bool = True
    shift: str = "whole"

    def verdict(self, low: float, high: float) -> str:
        """What an interval says."""
        if low > self.bound:
            return "holds" if self.above else "fails"
        if high < self.bound:
            return "fails" if self.above else "holds"
        return "cannot tell"


def drop(method: str, metric: str, before: str = "clean", after: str = NONE) -> dict[tuple[str, str, str], float]:
    """What is lost from one scenario to another."""
    return {(method, before, metric): 1.0, (method, after, metric): -1.0}


def beyond_half(method: str, metric: str, scenario: str) -> dict[tuple[str, str, str], float]:
    """How far a scenario is beyond the middle between the drifted and the clean figure."""
    return {(method, scenario, metric): 1.0, (method, NONE, metric): -0.5, (method, "clean", metric): -0.5}


def difference(one: Mapping[Any, float], other: Mapping[Any, float]) -> dict[Any, float]:
    return {**one, **{key: -factor for key, factor in other.items()}}


ROTATION = difference(drop("padim", "image_auroc"), drop("patchcore", "image_auroc"))
CLAIMS = (
    Claim("1. Without adaptation PatchCore's specificity falls by more than 0.3",
          drop("patchcore", "specificity"), 0.3),
    Claim("1. Without adaptation PaDiM's specificity falls by more than 0.3", drop("padim", "specificity"), 0.3),
    Claim("2. A new threshold restores more than half of PatchCore's specificity",
          beyond_half("patchcore", "specificity", THRESHOLD)),
    Claim("2. A new threshold restores less than half of PaDiM's specificity",
          beyond_half("padim", "specificity", THRESHOLD), above=False),
    Claim("3. A refit restores more than half of PatchCore's image AUROC",
          beyond_half("patchcore", "image_auroc", REFIT)),
    Claim("3. A refit restores more than half of PaDiM's image AUROC", beyond_half("padim", "image_auroc", REFIT)),
    Claim("3. A refit restores more than half of PatchCore's specificity",
          beyond_half("patchcore", "specificity", REFIT)),
    Claim("3. A refit restores more than half of PaDiM's specificity", beyond_half("padim", "specificity", REFIT)),
    Claim("4. PaDiM loses more image AUROC than PatchCore under the whole shift", ROTATION),
    Claim("4. PaDiM loses more image AUROC than PatchCore under rotation alone", ROTATION, shift="rotation"),
    Claim("5. One PatchCore for all classes costs less than 0.02 of image AUROC",
          drop("patchcore", "image_auroc", after="unified"), 0.02, above=False),
    Claim("5. One PaDiM for all classes costs less than 0.02 of image AUROC",
          drop("padim", "image_auroc", after="unified"), 0.02, above=False),
    Claim("5. One model for all classes costs PaDiM more pixel AUROC than PatchCore",
          difference(drop("padim", "pixel_auroc", after="unified"), drop("patchcore", "pixel_auroc", after="unified"))),
)  # fmt: skip


def main() -> None:
    out, files = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
    rows = pd.concat([pd.read_csv(file) for file in files])
    published = pd.read_csv(STUDY).groupby(["method", "scenario", "metric", "class"]).value.first()
    table = [
        row
        for claim in CLAIMS
        for (backbone, weight, name), some in rows[rows["shift"] == claim.shift].groupby(
            ["backbone", "weight", "class"], sort=False
        )
        if (row := judged(claim, some, published, backbone=backbone, weight=weight, name=name))
    ]
    with out.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    out.with_suffix(".md").write_text(page(table), encoding="utf-8")


def judged(claim: Claim, rows: Any, published: Any, *, backbone: str, weight: str, name: str) -> dict[str, Any] | None:
    """A row of the table; None where a figure is missing, such as pixel metrics of a class without masks."""
    figures = rows.pivot_table(index="seed", columns=["method", "scenario", "metric"], values="value")
    if not set(claim.terms) <= set(figures.columns):
        return None
    values = sum(factor * figures[term] for term, factor in claim.terms.items())
    half = student.ppf(0.975, len(values) - 1) * values.std() / len(values) ** 0.5
    low, high = values.mean() - half, values.mean() + half
    keys = [(*term, MACRO) for term in claim.terms]
    theirs = sum(claim.terms[key[:3]] * published[key] for key in keys) if set(keys) <= set(published.index) else None
    return {
        "claim": claim.text, "backbone": backbone, "weight": weight, "class": name, "seeds": len(values),
        "bound": claim.bound, "claimed": "above" if claim.above else "below",
        "study": "" if theirs is None or claim.shift != "whole" else round(theirs, 3),
        "ours": round(values.mean(), 3), "low": round(low, 3), "high": round(high, 3),
        "verdict": claim.verdict(low, high),
    }  # fmt: skip


def page(table: Sequence[Mapping[str, Any]]) -> str:
    """The mean of classes and each class in Markdown, one table a backbone and weight."""
    lines = ["# The shift study's claims", ""]
    for backbone, weight in dict.fromkeys((row["backbone"], row["weight"]) for row in table):
        some = [row for row in table if (row["backbone"], row["weight"]) == (backbone, weight)]
        classes = list(dict.fromkeys(row["class"] for row in some))
        titles = ["mean of classes" if name == MEAN else name for name in classes]
        lines += [f"## {backbone}, the {weight}'s weight of a score", "",
                  f"| claim | bound | study | {' | '.join(titles)} |",
                  "| --- | ---: | ---: |" + " --- |" * len(classes)]  # fmt: skip
        for text in dict.fromkeys(row["claim"] for row in some):
            of = {row["class"]: row for row in some if row["claim"] == text}
            first = next(iter(of.values()))
            cells = [
                f"{row['ours']:.2f} [{row['low']:.2f}, {row['high']:.2f}]: {row['verdict']}"
                if (row := of.get(name))
                else ""
                for name in classes
            ]
            bound = f"{'>' if first['claimed'] == 'above' else '<'} {first['bound']:g}"
            lines.append(f"| {text} | {bound} | {first['study']} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["In brackets: Student's 95 % interval over the seeds. `claims.py` says how a claim is computed."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
