"""Image-level metrics at the calibrated thresholds, their bootstrap, the points of the curves; the coreset ablation."""

from pathlib import Path

from adshift import checksums, evaluation, params, split_file
from adshift.metrics import bootstrap
from adshift.stage import output, read_json, run, write_json


def main() -> None:
    settings = params.load(
        "seed", "dataset.name", "classes", "methods", "split.protocol", "calibrate", "evaluate.bootstrap",
        "ablation.ratios"
    )  # fmt: skip
    dataset, classes = settings.dataset.name, settings.classes
    place = Path("data/evaluation") / dataset
    with output(place / "image") as image, output(place / "bootstrap") as drawn, output(place / "curves") as curves:
        for method in settings.methods:
            chosen = read_json(f"data/thresholds/{dataset}/{method}.json")
            result = evaluation.image_level(
                dataset, method, classes, chosen, settings.seed, settings.evaluate.bootstrap
            )
            write_json(image / f"{method}.json", result["report"], checksum=True)
            bootstrap.save(drawn / f"{method}.npz", result["replicates"])
            for table, rows in result["tables"].items():
                columns = list(rows[0])
                checksums.write_table(curves / method / f"{table}.csv", columns, [list(row.values()) for row in rows])
    on = split_file.calibrated_on(settings.split.protocol)
    ablation = evaluation.ablation(dataset, classes, settings.ablation.ratios, settings.calibrate, on)
    write_json(place / "ablation.json", ablation, checksum=True)


if __name__ == "__main__":
    run(main)
