"""Image-level metrics at the calibrated thresholds, their bootstrap, the points of the curves."""

from adshift.evaluation import image_level, intervals
from adshift.evaluation.scenarios import named
from adshift.project import params
from adshift.project.paths import evaluation_path, thresholds_path
from adshift.project.stage import run
from adshift.runtime import checksums
from adshift.runtime.files import output, read_json, write_json


def main() -> None:
    settings = params.load("seed", "dataset.name", "classes", "methods", "evaluate.bootstrap", "graph.scenarios")
    dataset, classes = settings.dataset.name, settings.classes
    scenarios = named(settings.graph.scenarios)
    folder = evaluation_path(dataset)
    with output(folder / "image") as image, output(folder / "bootstrap") as drawn, output(folder / "curves") as curves:
        for method in settings.methods:
            chosen = read_json(thresholds_path(dataset, method))
            result = image_level.image_level(
                dataset, method, classes, chosen, settings.seed, settings.evaluate.bootstrap, scenarios
            )
            write_json(image / f"{method}.json", result["report"], checksum=True)
            intervals.save(drawn / f"{method}.npz", result["replicates"])
            for table, rows in result["tables"].items():
                columns = image_level.COLUMNS[table]
                checksums.write_table(curves / method / f"{table}.csv", columns, [list(row.values()) for row in rows])


if __name__ == "__main__":
    run(main)
