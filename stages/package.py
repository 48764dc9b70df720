"""Model directories of a method, complete: model, thresholds, scoring, reference, model card."""

import argparse

from adshift import package, params
from adshift.stage import output, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", required=True)
    method = parser.parse_args().method
    settings = params.load("seed", "dataset.name", "classes", "split", "shift.kind", "calibrate")
    with output(package.folder_of(settings.dataset.name, method)) as folder:
        package.write(folder, method, settings)


if __name__ == "__main__":
    run(main)
