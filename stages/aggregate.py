"""Macro averages, the summary for `dvc metrics diff`, the study's tables, and the rows of the plots."""

from pathlib import Path

from adshift.project import params
from adshift.project.stage import run
from adshift.report import plots, tables
from adshift.report.results import collect
from adshift.report.table import write
from adshift.runtime.files import output, write_json

REFERENCE = Path("reference")


def main() -> None:
    settings = params.load("dataset.name", "classes", "methods", "features.backbone", "ablation.ratios")
    dataset = settings.dataset.name
    results = collect(dataset, settings.classes, settings.methods, settings.ablation.ratios)
    charts = plots.rows(dataset, results)
    printed = tables.all_tables(dataset, results, settings.features.backbone, REFERENCE)
    with output("metrics/tables") as folder:
        write(folder, [*printed, tables.differences(results)[1], tables.long(results)])
    with output("plots/curves") as folder:
        plots.write(folder, charts)
    write_json("metrics/summary.json", tables.summary(results))


if __name__ == "__main__":
    run(main)
