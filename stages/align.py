"""Statistics of the feature maps of the training images of a class, to which those of other images are brought."""

import argparse

from adshift.evaluation.settings import Align
from adshift.features.alignment import FILE, Alignment
from adshift.features.stored_features import stored
from adshift.project.paths import lever_path, settings_path
from adshift.project.stage import run
from adshift.runtime.files import output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--name", required=True, help="class")
    args = parser.parse_args()
    settings = Align.read(settings_path("align"))
    alignment = Alignment.fit(stored(args.dataset, [args.name], "clean", "train"), settings.per)
    with output(lever_path("align", args.dataset, args.name)) as folder:
        folder.mkdir(parents=True)
        alignment.save(folder / FILE)


if __name__ == "__main__":
    run(main)
