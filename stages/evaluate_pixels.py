"""Pixel-level metrics of a method. They need no threshold, so a new calibration does not repeat them."""

import argparse

from adshift.evaluation import pixel_level
from adshift.evaluation.scenarios import named
from adshift.project import params
from adshift.project.paths import evaluation_path
from adshift.project.stage import run
from adshift.runtime.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", required=True)
    method = parser.parse_args().method
    settings = params.load(
        "dataset.name", "classes", "features.resize", "features.crop", "evaluate.pro_limit", "evaluate.masks",
        "graph.scenarios"
    )  # fmt: skip
    dataset, size, evaluate = settings.dataset.name, settings.features, settings.evaluate
    scenarios = named(settings.graph.scenarios)
    result = pixel_level.pixel_level(
        dataset, method, settings.classes, size.resize, size.crop, evaluate.pro_limit, evaluate.masks, scenarios
    )
    write_json(evaluation_path(dataset) / "pixel" / f"{method}.json", result, checksum=True)


if __name__ == "__main__":
    run(main)
