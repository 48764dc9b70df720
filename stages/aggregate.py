"""Macro averages, the summary for `dvc metrics diff`, the study's tables, and the rows of the plots."""

from pathlib import Path

from adshift.evaluation.scenarios import named
from adshift.project import params
from adshift.project.paths import SUMMARY
from adshift.project.stage import run
from adshift.report import absent, headline, plots, tables, targets
from adshift.report.results import collect
from adshift.report.table import write
from adshift.report.targets import Setting
from adshift.runtime.files import output, write_json

REFERENCE = Path("reference")


def main() -> None:
    settings = params.load(
        "dataset.name", "classes", "methods", "features.backbone", "features.resize", "features.crop",
        "ablation.ratios", "graph",
    )  # fmt: skip
    dataset = settings.dataset.name
    graph, ratios = settings.graph, settings.ablation.ratios if settings.graph.ablation else ()
    scenarios = named(graph.scenarios)
    results = collect(dataset, settings.classes, settings.methods, ratios, scenarios)
    charts = plots.rows(dataset, results)
    printed = tables.all_tables(dataset, results, settings.features.backbone, REFERENCE)
    with output("metrics/tables") as folder:
        published = targets.tables(results, Setting.of_run(dataset, results, settings.features), REFERENCE)
        further = [*published, *absent.tables(results), tables.differences(results)[1], tables.long(results)]
        write(folder, [*printed, *further], results.titles)
    with output("plots/curves") as folder:
        plots.write(folder, charts)
    write_json(SUMMARY, tables.summary(results))
    write_json("metrics/headline.json", headline.headline(dataset, results))


if __name__ == "__main__":
    run(main)
