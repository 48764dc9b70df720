"""How long each fit took: the only metrics that differ between two runs of the same inputs."""

from adshift.project import params
from adshift.project.stage import run
from adshift.report.table import write
from adshift.report.timings import timings
from adshift.runtime.files import output


def main() -> None:
    settings = params.load("dataset.name", "classes", "methods", "graph")
    with output("metrics/timings") as folder:
        write(folder, [timings(settings.dataset.name, settings.classes, settings.methods, settings.graph)])


if __name__ == "__main__":
    run(main)
