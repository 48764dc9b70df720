"""Thresholds of all methods, classes and scenarios, from validation scores alone, or what stands in for them."""

from pathlib import Path

from adshift.data import split_file
from adshift.evaluation import thresholds
from adshift.evaluation.scenarios import named
from adshift.project import params
from adshift.project.stage import run
from adshift.runtime.files import output, write_json


def main() -> None:
    settings = params.load("dataset.name", "classes", "methods", "split.protocol", "calibrate", "graph.scenarios")
    scenarios = named(settings.graph.scenarios)
    dataset, on = settings.dataset.name, split_file.calibrated_on(settings.split.protocol)
    with output(Path("data/thresholds") / dataset) as folder:
        for method in settings.methods:
            chosen = thresholds.thresholds(dataset, method, settings.classes, settings.calibrate, on, scenarios)
            write_json(folder / f"{method}.json", chosen, checksum=True)


if __name__ == "__main__":
    run(main)
