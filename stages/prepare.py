"""A data set into one manifest a class; the sample set's images are made here."""

from pathlib import Path

from adshift.data import datasets, manifest
from adshift.data.shift import recorded
from adshift.project import params
from adshift.project.stage import run
from adshift.runtime import versions
from adshift.runtime.files import output, write_json


def main() -> None:
    settings = params.load("dataset", "classes", "shift.kind", "shift.recorded")
    dataset = settings.dataset.name
    versions.check(f"datasets/{dataset}")
    final = Path("data/clean") / dataset
    with output(final) as folder:
        source, layout = (dataset, settings.dataset.root, settings.classes), settings.dataset.folder
        items_of = datasets.build(*source, folder, final, layout, settings.dataset.bits)
        write_json(folder / manifest.names_path(dataset).name, datasets.chosen(*source, layout), checksum=True)
        for name, items in items_of.items():
            clean = items
            if settings.shift.kind == "recorded":
                clean, shifted = recorded.assign(items, settings.shift.recorded, name)
                manifest.write(folder / name / manifest.recorded_path(dataset, name).name, shifted)
            manifest.write(folder / name / manifest.path_of(dataset, name, "clean").name, clean)


if __name__ == "__main__":
    run(main)
