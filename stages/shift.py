"""The shifted domain of a class: MVTec-Shift of every image and mask, or the images that were recorded under drift."""

import argparse

from adshift.data import manifest
from adshift.data.settings import Shifting
from adshift.data.shift import synthetic
from adshift.project.paths import settings_path
from adshift.project.stage import run
from adshift.runtime.files import output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--name", required=True, help="class")
    args = parser.parse_args()
    dataset, name, shifting = args.dataset, args.name, Shifting.read(settings_path("shift"))
    final = manifest.path_of(dataset, name, "shift")
    with output(final.parent) as folder:
        if shifting.kind == "recorded":
            manifest.write(folder / final.name, manifest.read(manifest.recorded_path(dataset, name)))
        else:
            items = manifest.read(manifest.path_of(dataset, name, "clean"))
            synthetic.shift_class(items, shifting, args.seed, name, folder, final.parent, shifting.input)


if __name__ == "__main__":
    run(main)
