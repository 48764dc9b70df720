"""How long each fit took: the only metrics that differ between two runs of the same inputs."""

from adshift.data.manifest import class_names
from adshift.project import params
from adshift.project.stage import run
from adshift.report.table import write
from adshift.report.timings import timings
from adshift.runtime.files import output


def main() -> None:
    settings = params.load("dataset.name", "classes", "methods", "graph")
    names = class_names(settings.dataset.name, settings.classes)
    with output("metrics/timings") as folder:
        write(folder, [timings(settings.dataset.name, settings.classes, settings.methods, settings.graph)], names)


if __name__ == "__main__":
    run(main)
