"""Training, validation and test images of every class."""

from pathlib import Path

from adshift import manifest, params, splits
from adshift.scenarios import split_path
from adshift.stage import output, run


def main() -> None:
    settings = params.load("seed", "dataset.name", "classes", "split", "shift.kind")
    dataset = settings.dataset.name
    with output(Path("data/split") / dataset) as folder:
        folder.mkdir()
        for name in settings.classes:
            paths = {splits.BOTH: manifest.path_of(dataset, name, "clean")}
            if settings.shift.kind == "recorded":
                paths = {
                    "clean": manifest.path_of(dataset, name, "clean"),
                    "shift": manifest.recorded_path(dataset, name),
                }
            roles = {
                domain: splits.split(manifest.read(path), settings.split, settings.seed, name, domain)
                for domain, path in paths.items()
            }
            splits.write(folder / split_path(dataset, name).name, roles)


if __name__ == "__main__":
    run(main)
