"""Feature maps of images whose intensities are brought to those of the training images, of a class in a domain."""

import argparse

from adshift.data import manifest, split_file
from adshift.data.images import load_image
from adshift.data.normalising import Reference
from adshift.data.settings import Normalise
from adshift.features import extract
from adshift.features.backbones import Backbone
from adshift.features.settings import Stored
from adshift.project.paths import DOMAINS, lever_path, settings_path, split_path
from adshift.project.stage import run
from adshift.runtime.files import output
from adshift.runtime.parallel import map_ordered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--name", required=True, help="class")
    parser.add_argument("--domain", required=True, choices=DOMAINS)
    args = parser.parse_args()
    settings, features = Normalise.read(settings_path("normalise")), Stored.read(settings_path("features"))
    training = split_file.images_of(split_file.read(split_path(args.dataset, args.name), "clean"), "train")
    clean = {item.name: item for item in manifest.read(manifest.path_of(args.dataset, args.name, "clean"))}
    inputs = map_ordered(
        lambda name: extract.network_inputs(load_image(clean[name]), features), training, what="training images"
    )
    items = manifest.read(manifest.path_of(args.dataset, args.name, args.domain))
    with output(lever_path("normalise", args.dataset, args.name) / args.domain) as folder:
        what = f"embedding {args.name}, {args.domain}, normalized"
        reference = Reference.fit(inputs, settings.kind)
        extract.embed(items, Backbone(features), folder, what=what, normalise=reference, levels=features.levels)


if __name__ == "__main__":
    run(main)
