"""Training, validation and test images of every class."""

from pathlib import Path

from adshift import manifest, params, splits
from adshift.scenarios import split_path
from adshift.stage import output, run


def main() -> None:
    settings = params.load("seed", "dataset.name", "classes", "split")
    dataset = settings.dataset.name
    with output(Path("data/split") / dataset) as folder:
        folder.mkdir()
        for name in settings.classes:
            items = manifest.read(manifest.path_of(dataset, name, "clean"))
            roles = splits.split(items, settings.split, settings.seed, name)
            splits.write(folder / split_path(dataset, name).name, roles)


if __name__ == "__main__":
    run(main)
