"""Pictures, and the one page that shows everything."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from adshift.evaluation.scenarios import named
from adshift.project import params
from adshift.project.stage import run
from adshift.report import page, pictures, plots, targets
from adshift.report.results import collect
from adshift.report.targets import Setting
from adshift.runtime.files import output, read_json
from adshift.runtime.parallel import map_ordered
from adshift.runtime.versions import IGNORED

REFERENCE = Path("reference")


def main() -> None:
    settings = params.load(
        "dataset.name", "classes", "methods", "shift.kind", "features.backbone", "features.resize", "features.crop",
        "ablation.ratios", "graph", "report"
    )  # fmt: skip
    dataset, classes, methods = settings.dataset.name, settings.classes, settings.methods
    graph, ratios = settings.graph, settings.ablation.ratios if settings.graph.ablation else ()
    results = collect(dataset, classes, methods, ratios, named(graph.scenarios))
    album = pictures.Album(
        dataset, settings.features.resize, settings.features.crop, results.thresholds(),
        palette=settings.report.colours, scaled=settings.report.scale,
    )  # fmt: skip
    shown = pictures.choose(dataset, classes, settings.report.rows, graph.domains)
    charts = plots.rows(dataset, results)
    published = targets.tables(results, Setting.of_run(dataset, results, settings.features), REFERENCE)

    def page_of() -> str:
        return page.build(dataset, results, album, backbone=settings.features.backbone, drift=settings.shift.kind,
                          shown=shown, count=settings.report.pictures,
                          required=settings.report.required, reference=REFERENCE, published=published,
                          ignored=read_json(IGNORED))  # fmt: skip

    with output("plots/images") as folder:
        folder.mkdir()
        parts: list[Callable[[], Any]] = [
            page_of,
            partial(pictures.write, folder, album, shown, methods, results.scenarios),
            partial(plots.draw, folder, charts, ["unified_gap", "cross_class"]),
        ]
        html, *_ = map_ordered(lambda part: part(), parts, what="report", unit="part")
    with output("report/index.html") as path:
        path.write_text(html, encoding="utf-8")


if __name__ == "__main__":
    run(main)
