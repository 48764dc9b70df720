"""MVTec-Shift of every image of a class, its mask with the same geometry, and what was drawn for it."""

import argparse

from adshift import manifest, params, shift
from adshift.stage import output, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="class")
    name = parser.parse_args().name
    settings = params.load("seed", "dataset.name", "shift")
    items = manifest.read(manifest.path_of(settings.dataset.name, name, "clean"))
    final = manifest.path_of(settings.dataset.name, name, "shift").parent
    with output(final) as folder:
        shift.shift_class(items, settings.shift, settings.seed, name, folder, final)


if __name__ == "__main__":
    run(main)
