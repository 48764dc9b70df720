"""Image-level metrics of a method at its calibrated thresholds, their bootstrap, and the points of its curves."""

import argparse
from pathlib import Path

from adshift import checksums, evaluation, params
from adshift.metrics import bootstrap
from adshift.stage import output, read_json, run, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", required=True)
    method = parser.parse_args().method
    settings = params.load("seed", "dataset.name", "classes", "evaluate.bootstrap")
    dataset = settings.dataset.name
    chosen = read_json(f"data/thresholds/{dataset}/{method}.json")
    result = evaluation.image_level(
        dataset, method, settings.classes, chosen, settings.seed, settings.evaluate.bootstrap
    )
    folder = Path("data/evaluation") / dataset / method
    write_json(folder / "image.json", result["report"], checksum=True)
    with output(folder / "bootstrap.npz") as path:
        bootstrap.save(path, result["replicates"])
    for table, rows in result["tables"].items():
        with output(folder / f"{table}.csv") as path:
            checksums.write_table(path, list(rows[0]), [list(row.values()) for row in rows])


if __name__ == "__main__":
    run(main)
