"""Feature maps of every image of a class in a domain. The one stage that runs a network."""

import argparse

from adshift.data import manifest
from adshift.data.images import sha256
from adshift.features import extract
from adshift.features.backbones import Backbone
from adshift.features.kept import Kept
from adshift.features.settings import Stored
from adshift.project.paths import DOMAINS, NETWORK, SOURCES, features_path, kept_path, settings_path
from adshift.project.stage import run
from adshift.runtime import device
from adshift.runtime.files import output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--name", required=True, help="class")
    parser.add_argument("--domain", required=True, choices=DOMAINS)
    args = parser.parse_args()
    items = manifest.read(manifest.path_of(args.dataset, args.name, args.domain))
    settings = Stored.read(settings_path("features"))
    backbone = Backbone(settings)
    key = {path.name: sha256(path) for path in (SOURCES / "stages/embed.json", NETWORK)}
    kept = Kept(kept_path(args.dataset, args.name, args.domain), key)
    what, made = f"embedding {args.name}, {args.domain}", features_path(args.dataset, args.name, args.domain)
    with output(made) as folder:
        copied = extract.embed(items, backbone, folder, what=what, kept=kept, levels=settings.levels)
    kept.keep(made, items)
    print(f"{what}: {len(items) - copied:,} new, {copied:,} kept; device: {device.used()}")


if __name__ == "__main__":
    run(main)
