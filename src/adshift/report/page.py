"""The report page: one HTML file that needs no network.

Its sections, in order: how good the models are and what they miss; drift, if there is any (which method, which class,
safe or not); each class; a movable threshold; the gallery of errors; the unified models; the coreset; all tables. Jinja
escapes names from data, also in the JSON that the page's script reads. A Content-Security-Policy allows this script by
its hash and forbids every request.
"""

import hashlib
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from adshift.evaluation.intervals import LEVEL
from adshift.evaluation.metrics.registry import BY_NAME, METRICS, shown_in
from adshift.evaluation.scenarios import BASELINE, DRIFT, UNADAPTED
from adshift.report import absent, overview, payload, pictures, plots, tables
from adshift.report.labels import MACRO, label
from adshift.report.pictures import Album
from adshift.report.recommendation import recommendations
from adshift.report.results import THRESHOLDED, Results
from adshift.report.table import Estimate, Table
from adshift.runtime.parallel import map_ordered

TEMPLATE, STYLE, SCRIPT = (Path(__file__).with_name(f"page.{kind}") for kind in ("html", "css", "js"))

CHARTS = ("scenarios", "costs", "coreset", "cross_class", "unified_gap")
DEMANDED = ("image_f1", "specificity")  # metrics that a safe inspection must reach
ADAPTATIONS = tuple(scenario.name for scenario in DRIFT)
MOMENTS = {BASELINE.name: "Before drift"} | {
    scenario.name: f"After drift, {scenario.adaptation or 'nothing changed'}" for scenario in DRIFT
}
JUDGED = tuple(MOMENTS)
STATES = {"safe": "Safe", "unsafe": "Not safe", "unsure": "Cannot tell"}
ADVICE = {
    **{one.name: f"Safe with {one.adaptation}" if one.adaptation else "Safe as it is" for one in DRIFT},
    "weak": "Not safe even before drift",
    "lost": "Not safe, whatever is done",
    "unsure": "Cannot tell",
}


@dataclass(frozen=True)
class Judgement:
    """Whether a method is safe on a class in a scenario, and the figures that decide it.

    Attributes:
        state: key of `STATES`.
        figures: of the metrics in `DEMANDED`, with intervals.
    """

    state: str
    figures: tuple[Estimate, ...]


def judge(figures: Sequence[Estimate], images: int, required: float) -> str:
    """Key of `STATES`: `unsafe` if an interval lies below `required`, `safe` if none reaches below it, else `unsure`.

    Args:
        figures: of the metrics in `DEMANDED`.
        images: number of normal or of defective test images, whichever is smaller.
        required: lower bound that every figure must reach.
    """
    if any(figure.high is not None and figure.high < required for figure in figures):
        return "unsafe"
    if images < enough(required) or any(figure.low is None or figure.low < required for figure in figures):
        return "unsure"
    return "safe"


def enough(required: float) -> int:
    """Least number of images of a kind (normal, defective) that can show a rate of at least `required`.

    If no image fails, all resamples are equal and the bootstrap interval has no width, even for very few images. The
    exact binomial interval has a width: with n successes in n, its lower end is ((1 - LEVEL) / 2) ** (1 / n).
    """
    return math.ceil(math.log((1 - LEVEL) / 2) / math.log(required))


def judged_scenarios(results: Results) -> tuple[str, ...]:
    """The scenarios of `JUDGED` that were run."""
    there = {scenario.name for scenario in results.scenarios}
    return tuple(name for name in JUDGED if name in there)


def judgements(results: Results, required: float) -> dict[str, dict[str, dict[str, Judgement]]]:
    """{method: {class or `MACRO`: {scenario of `JUDGED`: judgement}}}.

    Thresholds that were chosen on the test images prove nothing: every state is then `unsure`.
    """

    def of(method: str, name: str, scenario: str) -> Judgement:
        figures = tuple(results.estimate(method, scenario, name, metric) for metric in DEMANDED)
        counts = [results.counts(method, scenario, one) for one in (results.classes if name == MACRO else (name,))]
        images = min(sum(one.tn + one.fp for one in counts), sum(one.fn + one.tp for one in counts))
        return Judgement(judge(figures, images if results.on == "val" else 0, required), figures)

    return {
        method: {
            name: {scenario: of(method, name, scenario) for scenario in judged_scenarios(results)}
            for name in results.names
        }
        for method in results.methods
    }


def advice(judged: dict[str, Judgement]) -> str:
    """Key of `ADVICE`: the cheapest adaptation that is safe after drift, or why there is none."""
    adaptations = [scenario for scenario in ADAPTATIONS if scenario in judged]
    for scenario in adaptations:
        if judged[scenario].state == "safe":
            return scenario
    if judged[BASELINE.name].state == "unsafe":
        return "weak"
    return "unsure" if any(judged[scenario].state == "unsure" for scenario in adaptations) else "lost"


def leaders(results: Results, scenario: str, name: str) -> tuple[str, ...]:
    """The method with the highest F1, and all methods that paired differences do not show to be worse."""
    values = {method: results.value(method, scenario, name, "image_f1") for method in results.methods}
    known = {method: value for method, value in values.items() if value is not None}
    if not known:
        return ()
    best = max(known, key=lambda method: known[method])
    gaps = {other: results.difference((best, scenario), (other, scenario), name, "image_f1") for other in known}
    return tuple(other for other, gap in gaps.items() if other == best or gap.low is None or gap.low <= 0)


def answers(results: Results, judged: dict[str, dict[str, dict[str, Judgement]]]) -> list[tuple[str, list[str]]]:
    """What the overview says of drift: (question, sentences)."""
    moments = {scenario: MOMENTS[scenario] for scenario in judged_scenarios(results)}
    safe = []
    for scenario, moment in moments.items():
        states = {(method, name): judged[method][name][scenario].state
                  for method in results.methods for name in results.classes}  # fmt: skip
        safe_classes = {method: [results.titles[name] for name in results.classes if states[method, name] == "safe"]
                 for method in results.methods}  # fmt: skip
        shown = "; ".join(f"{label(method)} on {', '.join(names)}" for method, names in safe_classes.items() if names)
        unsure = list(states.values()).count("unsure")
        rest = f"; {unsure} of {len(states)} cases cannot be told" if unsure else ""
        safe.append(f"{moment}: {f'safe are {shown}' if shown else 'nothing is shown to be safe'}{rest}.")
    best = []
    for scenario, moment in moments.items():
        ahead = leaders(results, scenario, MACRO)
        names = " and ".join(label(method) for method in ahead) or "not measurable"
        best.append(f"{moment}: {names}" + (", which the test images cannot tell apart." if len(ahead) > 1 else "."))
    return [("Is it safe?", safe), ("Which method?", best)]


def costs(results: Results, method: str) -> list[str]:
    """Sentences: a method's loss under drift and its gain from each adaptation, for metrics that are defined."""
    drift = [scenario for scenario in DRIFT if scenario in results.scenarios]
    if UNADAPTED not in drift:
        return []
    lines = []
    for metric, what in (("specificity", "of the good parts pass"), ("recall", "of the defects are caught")):
        values = {scenario: results.value(method, scenario, MACRO, metric) for scenario in judged_scenarios(results)}
        if None not in values.values():
            adapted = ", ".join(f"{values[one.name]:.0%} with {one.adaptation}" for one in drift if one.adaptation)
            lines.append(f"{values[BASELINE.name]:.0%} {what} on clean images, "
                         f"{values[UNADAPTED.name]:.0%} after drift; {adapted}.")  # fmt: skip
    # Ranking metrics depend on model and images, not on the threshold: one scenario for each set of maps.
    by_maps = {scenario.pixels: scenario for scenario in reversed(drift)}
    auroc = {scenario: results.value(method, scenario.name, MACRO, "image_auroc")
             for scenario in (BASELINE, *reversed(by_maps.values()))}  # fmt: skip
    if None not in auroc.values():
        others = ", ".join(f"{value:.3f} with {one.adaptation}" for one, value in auroc.items() if one.adaptation)
        lines.append(f"Ranking (image AUROC): {auroc[BASELINE]:.3f} clean, {auroc[UNADAPTED]:.3f} after drift whatever "
                     f"the threshold, {others}.")  # fmt: skip
    return lines


def build(
    dataset: str,
    results: Results,
    album: Album,
    *,
    backbone: str,
    drift: str,
    shown: pictures.Shown,
    count: int,
    required: float,
    reference: Path,
    ignored: Mapping[str, str] | None = None,
    published: Sequence[Table] = (),
) -> str:
    """The page as HTML.

    Args:
        dataset: its name.
        results: everything measured.
        album: source of the pictures.
        backbone: its name.
        drift: `none`, `synthetic` or `recorded`.
        shown: test images that are shown as examples.
        count: images to picture, per class and domain.
        required: lower bound of F1 and specificity of a safe inspection.
        reference: folder of published figures.
        ignored: {package: how its installed version differs from the recorded one}.
        published: tables of published figures beside ours.
    """
    from markupsafe import Markup

    rows, printed = plots.rows(dataset, results), tables.all_tables(dataset, results, backbone, reference)
    charts, run = map_ordered(
        lambda part: part(),
        [partial(_charts, rows), partial(payload.build, results, album, shown, count)],
        what="page", unit="part",
    )  # fmt: skip
    return _environment(results).from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        dataset=dataset,
        backbone=backbone,
        drift=drift if any(scenario in results.scenarios for scenario in DRIFT) else "none",
        scaled=album.scaled,
        results=results,
        scenarios=results.scenarios,
        pictured={domain: [one.name for one in pictures.pictured(domain, results.scenarios)]
                  for domain in {scenario.test for scenario in results.scenarios}},
        quality=overview.quality(results, rows["scores"]),
        rows=results.names if len(results.classes) > 1 else results.classes,
        gradient=", ".join(f"rgb({red} {green} {blue})" for red, green, blue in pictures.colours(album.palette)[::15]),
        titles=results.titles,
        **_judged(results, required),
        recommendations=recommendations(results, results.titles),
        costs={method: costs(results, method) for method in results.methods},
        printed=[*printed, *published, *absent.tables(results)],
        upper_bound=results.note(THRESHOLDED),
        charts={name: [(heading, Markup(drawn)) for heading, drawn in one] for name, one in charts.items()},
        run=run,
        ignored=ignored or {},
    )  # fmt: skip


def _judged(results: Results, required: float) -> dict[str, Any]:
    """Template values that say which methods are safe enough, and which is best."""
    judged, scenarios = judgements(results, required), judged_scenarios(results)
    return {
        "answers": answers(results, judged),
        "judged": judged,
        "judged_scenarios": scenarios,
        "advice": {method: {name: advice(one) for name, one in names.items()} for method, names in judged.items()},
        "leaders": {name: {one: leaders(results, one, name) for one in scenarios} for name in results.names},
        "required": required,
        "enough": enough(required),
    }


def _environment(results: Results) -> Any:
    """The Jinja environment: filters, metric and scenario records, texts, style and script."""
    from jinja2 import Environment
    from markupsafe import Markup

    script = SCRIPT.read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "allow_nan": False, "separators": (",", ":")}
    environment.filters.update(
        label=lambda key: label(results.named(key)), number=lambda value, digits=3: _number(value, digits)
    )
    environment.globals.update(
        macro=MACRO,
        metrics=[metric.name for metric in shown_in("page")],
        described=[metric for metric in METRICS if metric.description],
        thresholded=[metric.short_label for metric in METRICS if metric.thresholded],
        demanded=[BY_NAME[name].short_label for name in DEMANDED],
        states=STATES,
        advice_texts=ADVICE,
        style=Markup(STYLE.read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return environment


def _charts(rows: Mapping[str, plots.Rows]) -> dict[str, list[tuple[str, str]]]:
    """{chart: [(heading, SVG) of each panel]} of the charts of `CHARTS` that have rows."""
    return {
        name: [
            (heading, plots.svg(spec, prefix=f"{name}-{number}"))
            for number, (heading, spec) in enumerate(plots.panels(plots.CHARTS[name], rows[name]))
        ]
        for name in filter(rows.get, CHARTS)
    }


def _number(value: float | None, digits: int) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}"
