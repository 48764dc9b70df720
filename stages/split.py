"""Training, validation and test images of every class, and what of the training images is defective."""

from dataclasses import asdict
from pathlib import Path

from adshift import contamination, manifest, params, splits
from adshift.scenarios import contamination_path, split_path
from adshift.stage import output, run, write_json


def main() -> None:
    settings = params.load("seed", "dataset.name", "classes", "split")
    dataset = settings.dataset.name
    measured = {}
    with output(Path("data/split") / dataset) as folder:
        folder.mkdir()
        for name in settings.classes:
            items = manifest.read(manifest.path_of(dataset, name, "clean"))
            roles = splits.split(items, settings.split, settings.seed, name)
            measured[name] = asdict(contamination.measure(items, roles))
            splits.write(folder / split_path(dataset, name).name, roles)
    write_json(contamination_path(dataset), measured)


if __name__ == "__main__":
    run(main)
