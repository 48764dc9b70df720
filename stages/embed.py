"""Feature maps of every image of a class in a domain. The one stage that runs a network."""

import argparse

from adshift.data import manifest
from adshift.features import extract
from adshift.features.backbones import Backbone
from adshift.features.settings import Features
from adshift.project.paths import DOMAINS, features_path, settings_path
from adshift.project.stage import run
from adshift.runtime.files import output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--name", required=True, help="class")
    parser.add_argument("--domain", required=True, choices=DOMAINS)
    args = parser.parse_args()
    items = manifest.read(manifest.path_of(args.dataset, args.name, args.domain))
    backbone = Backbone(Features.read(settings_path("features")))
    with output(features_path(args.dataset, args.name, args.domain)) as folder:
        extract.embed(items, backbone, folder, what=f"embedding {args.name}, {args.domain}")


if __name__ == "__main__":
    run(main)
