"""The normal images of the shifted domain with which the models of a class are adapted: names, in a random order."""

import argparse

from adshift.data import split_file
from adshift.data.manifest import anomalous
from adshift.evaluation.settings import Adapt
from adshift.project.paths import lever_path, settings_path, split_path
from adshift.project.stage import run
from adshift.runtime import seeding
from adshift.runtime.files import output, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--name", required=True, help="class")
    args = parser.parse_args()
    settings = Adapt.read(settings_path("adapt"))
    names = split_file.images_of(split_file.read(split_path(args.dataset, args.name), "shift"), "train")
    normal = [name for name, defective in zip(names, anomalous(names), strict=True) if not defective]
    # The order does not depend on the number, so that fewer images are a part of more.
    order = seeding.generator(args.seed, "adapt", args.name).permutation(len(normal))
    with output(lever_path("adapt", args.dataset, args.name)) as folder:
        folder.mkdir(parents=True)
        write_json(folder / "today.json", [normal[index] for index in order[: settings.images]])


if __name__ == "__main__":
    run(main)
