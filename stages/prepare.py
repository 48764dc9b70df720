"""A data set into one manifest a class; the sample set's images are made here."""

from pathlib import Path

from adshift import datasets, manifest, params
from adshift.stage import output, run


def main() -> None:
    settings = params.load("dataset", "classes")
    final = Path("data/clean") / settings.dataset.name
    with output(final) as folder:
        found = datasets.build(settings.dataset.name, settings.dataset.root, settings.classes, folder, final)
        for name, items in found.items():
            manifest.write(folder / name / "manifest.csv", items)


if __name__ == "__main__":
    run(main)
