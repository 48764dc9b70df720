"""Thresholds of a method for every class and scenario, from validation scores alone, or what stands in for them."""

import argparse

from adshift import evaluation, params, splits
from adshift.stage import run, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", required=True)
    method = parser.parse_args().method
    settings = params.load("dataset.name", "classes", "split.protocol", "calibrate")
    dataset = settings.dataset.name
    on = splits.calibrated_on(settings.split.protocol)
    chosen = evaluation.thresholds(dataset, method, settings.classes, settings.calibrate, on)
    write_json(f"data/thresholds/{dataset}/{method}.json", chosen, checksum=True)


if __name__ == "__main__":
    run(main)
