"""The report page: one HTML file with everything in it, readable without a network.

Overview first (what drift costs and what buys it back), then each class, the worst misses, the unified models, the
coreset. Names from data go through Jinja's escaping; charts and pictures are inlined.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adshift.report import label, pictures, plots, tables
from adshift.report.pictures import BY_NAME, Album
from adshift.report.tables import MACRO, Results
from adshift.scenarios import SCENARIOS

TEMPLATE = Path(__file__).with_name("page.html")
TOLERANCE = 0.05  # of balanced accuracy, that a scenario may lose and still count as safe
WEAK = 0.8  # balanced accuracy below which a detector is not worth adapting
THUMB, MISS = 150, 170  # pixels

ADAPTATIONS = ("shift_no_adaptation", "shift_threshold_only", "shift_full_adaptation")
VERDICTS = {
    "weak": "Weak even without drift",
    "shift_no_adaptation": "Holds as it is",
    "shift_threshold_only": "Needs a new threshold",
    "shift_full_adaptation": "Needs a refit",
    "lost": "Not restored",
    "unknown": "Not measurable",
}


@dataclass(frozen=True)
class Verdict:
    """What a class needs after drift.

    Attributes:
        kind: key of `VERDICTS`.
        values: balanced accuracy: clean, then under shift with no adaptation, a new threshold, a refit.
    """

    kind: str
    values: tuple[float | None, ...]

    @property
    def text(self) -> str:
        return VERDICTS[self.kind]


def balanced_accuracy(results: Results, method: str, scenario: str, name: str) -> float | None:
    """Mean of recall (defects caught) and specificity (good parts passed); unlike F1 it sees false alarms."""
    recall, specificity = (results.value(method, scenario, name, metric) for metric in ("recall", "specificity"))
    return None if recall is None or specificity is None else (recall + specificity) / 2


def verdict(values: Sequence[float | None]) -> Verdict:
    """The cheapest adaptation that keeps balanced accuracy within `TOLERANCE` of the clean domain's.

    Args:
        values: balanced accuracy on the clean domain and under `ADAPTATIONS`.
    """
    if any(value is None for value in values):
        return Verdict("unknown", tuple(values))
    clean, *shifted = (value for value in values if value is not None)
    if clean < WEAK:
        return Verdict("weak", tuple(values))
    enough = (name for name, value in zip(ADAPTATIONS, shifted, strict=True) if value >= clean - TOLERANCE - 1e-9)
    return Verdict(next(enough, "lost"), tuple(values))


def verdicts(results: Results) -> dict[str, dict[str, Verdict]]:
    """{method: {class or "macro": verdict}}."""
    return {
        method: {
            name: verdict([balanced_accuracy(results, method, scenario, name) for scenario in ("clean", *ADAPTATIONS)])
            for name in (*results.classes, MACRO)
        }
        for method in results.methods
    }


def costs(results: Results, method: str) -> list[str]:
    """What drift costs a method and what buys it back, in sentences; only about metrics that are defined."""
    lines = []
    for metric, what in (("specificity", "of the good parts pass"), ("recall", "of the defects are caught")):
        found = [results.value(method, scenario, MACRO, metric) for scenario in ("clean", *ADAPTATIONS)]
        if None not in found:
            clean, drift, threshold, refit = (f"{value:.0%}" for value in found if value is not None)
            lines.append(f"{clean} {what} on clean images, {drift} after drift; "
                         f"{threshold} with a new threshold, {refit} with a refit.")  # fmt: skip
    auroc = [results.value(method, scenario, MACRO, "image_auroc") for scenario in ("clean", *ADAPTATIONS)]
    if None not in auroc:
        clean, drift, _, refit = (f"{value:.3f}" for value in auroc if value is not None)
        lines.append(
            f"Ranking (image AUROC): {clean} clean, {drift} after drift whatever the threshold, {refit} refit."
        )
    return lines


@dataclass(frozen=True)
class Miss:
    """A test image on the wrong side of its threshold; `margin` in standard deviations of the scores there."""

    method: str
    scenario: str
    name: str
    image: str
    defect: str
    anomalous: bool
    score: float
    threshold: float
    margin: float


def misses(scores: plots.Rows, count: int) -> dict[tuple[str, str], list[Miss]]:
    """{(method, scenario): the worst misses}, largest margin first, at most `count` each.

    Classes and methods score on different scales, so a margin is counted in standard deviations of the scores of its
    method, class and scenario.
    """
    groups: dict[tuple[str, str, str], plots.Rows] = {}
    for row in scores:
        groups.setdefault((row["method"], row["scenario"], row["class"]), []).append(row)
    found: dict[tuple[str, str], list[Miss]] = {}
    for (method, scenario, name), rows in groups.items():
        values = [float(row["score"]) for row in rows]
        mean = sum(values) / len(values)
        deviation = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5 or 1.0
        for row, score in zip(rows, values, strict=True):
            if row["anomalous"] != row["predicted"]:
                margin = abs(score - float(row["threshold"])) / deviation
                found.setdefault((method, scenario), []).append(
                    Miss(method, scenario, name, row["name"], row["defect"], row["anomalous"] == "1", score,
                         float(row["threshold"]), margin))  # fmt: skip
    return {key: _worst(group, count) for key, group in found.items()}


def _worst(group: list[Miss], count: int) -> list[Miss]:
    """The worst `count`: half of them missed defects and half false alarms, as far as there are so many of each."""
    group = sorted(group, key=lambda miss: (-miss.margin, miss.name, miss.image))
    kinds = [[miss for miss in group if miss.anomalous is anomalous] for anomalous in (True, False)]
    half = count // 2
    missed = max(half, count - len(kinds[1]))
    return sorted(kinds[0][:missed] + kinds[1][: count - min(missed, len(kinds[0]))], key=group.index)


def build(
    dataset: str,
    results: Results,
    album: Album,
    *,
    backbone: str,
    drift: str,
    shown: pictures.Shown,
    count: int,
    reference: Path,
) -> str:
    """The page as HTML.

    Args:
        dataset: its name.
        results: everything measured.
        album: where pictures come from.
        backbone: its name.
        drift: `synthetic` or `recorded`.
        shown: test images of the qualitative rows.
        count: misses in the gallery, for each method and scenario.
        reference: folder of published figures.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    rows = plots.rows(dataset, results)

    def chart(name: str, **only: str) -> Any:
        table = [row for row in rows[name] if all(row[key] == value for key, value in only.items())]
        spec = plots.fill(plots.CHARTS[name], table)
        spec.pop("title")  # the page has its own headings, and shows one revision
        spec["spec"].get("encoding", {}).pop("strokeDash", None)
        return Markup(plots.svg(spec, prefix="-".join([name, *only.values()])))

    def gallery(method: str, scenario: str) -> dict[str, Any]:
        wrong = [row for row in rows["scores"] if (row["method"], row["scenario"]) == (method, scenario)
                 and row["anomalous"] != row["predicted"]]  # fmt: skip
        cards = [
            {
                "miss": miss,
                "image": pictures.thumbnail(album.image(miss.name, BY_NAME[scenario].test, miss.image), MISS),
                "mask": pictures.thumbnail(album.mask(miss.name, BY_NAME[scenario].test, miss.image), MISS)
                if miss.anomalous else None,
                "map": pictures.thumbnail(album.overlay(method, miss.name, BY_NAME[scenario], miss.image), MISS),
            }
            for miss in worst.get((method, scenario), [])
        ]  # fmt: skip
        alarms = sum(row["anomalous"] == "0" for row in wrong)
        return {"method": method, "scenario": scenario, "cards": cards, "alarms": alarms, "missed": len(wrong) - alarms}

    def strip(name: str, domain: str) -> dict[str, Any]:
        columns = pictures.columns_of(domain, results.methods)
        return {
            "domain": domain,
            "header": ["image", "ground truth", *(text for text, _, _ in columns)],
            "rows": [
                (image, [pictures.thumbnail(picture, THUMB) for picture in (
                    album.image(name, domain, image), album.mask(name, domain, image),
                    *(album.overlay(method, name, scenario, image) for _, method, scenario in columns))])
                for image in shown[name, domain]
            ],
        }  # fmt: skip

    worst = misses(rows["scores"], count)
    judged = verdicts(results)
    printed = {table.name: table for table in tables.all_tables(dataset, results, backbone, reference)}
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        label=lambda key: label(results.named(key)), number=lambda value, digits=3: _number(value, digits)
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        dataset=dataset,
        backbone=backbone,
        drift=drift,
        scaled=album.scaled,
        results=results,
        scenarios=[scenario.name for scenario in SCENARIOS],
        metrics=("image_auroc", "image_auprc", "image_f1", "recall", "specificity", "accuracy", "pixel_auroc",
                 "pixel_auprc", "pro", "aupimo"),
        macro=MACRO,
        gradient=", ".join(f"rgb({red} {green} {blue})" for red, green, blue in pictures.colours(album.palette)[::15]),
        verdicts=judged,
        verdict_texts=VERDICTS,
        costs={method: costs(results, method) for method in results.methods},
        tolerance=TOLERANCE,
        weak=WEAK,
        printed=printed,
        upper_bound=results.note(tables.THRESHOLDED),
        charts={"scenarios": chart("scenarios"), "coreset": chart("coreset"), "cross_class": chart("cross_class"),
                "gap": chart("unified_gap")},
        details=[
            {
                "name": name,
                "charts": [(text, chart(key, **{"class": name})) for key, text in (
                    ("scores", "Scores and thresholds (the bar is the threshold)"), ("confusion", "Confusion matrices"),
                    ("roc", "ROC"), ("pr", "Precision and recall"))],
                "strips": [strip(name, domain) for domain in ("clean", "shift")],
            }
            for name in results.classes
        ],
        galleries=[gallery(method, scenario.name) for method in results.methods for scenario in SCENARIOS],
    )  # fmt: skip


def _number(value: float | None, digits: int) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}"
