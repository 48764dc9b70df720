"""Feature maps of drifted copies of the normal training and validation images of a class, for hardened models."""

import argparse
import json

from adshift.data import manifest, split_file
from adshift.data.manifest import Item
from adshift.data.settings import Harden
from adshift.data.shapes import sides
from adshift.data.shift import copies
from adshift.errors import AdshiftError
from adshift.features import extract
from adshift.features.backbones import Backbone
from adshift.features.settings import Stored
from adshift.project.paths import lever_path, settings_path, split_path
from adshift.project.stage import run
from adshift.runtime.files import output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--name", required=True, help="class")
    args = parser.parse_args()
    settings, features = Harden.read(settings_path("harden")), Stored.read(settings_path("features"))
    roles = split_file.read(split_path(args.dataset, args.name), "clean")
    used = {*split_file.images_of(roles, "train"), *split_file.images_of(roles, "val")}
    items = manifest.read(manifest.path_of(args.dataset, args.name, "clean"))
    normal = [item for item in items if item.name in used and item.defect == manifest.GOOD]
    made = copies.copies_of(normal, settings.copies)
    if twins := {copy.name for copy in made} & {item.name for item in items}:
        raise AdshiftError(f"{min(twins)}: an image has the name of a drifted copy of another one", "rename its file")
    draws = {copy.name: copies.drawn_for(settings, args.seed, args.name, copy) for copy in made}

    def load(copy: Item):  # type: ignore[no-untyped-def]
        return copies.rendered(copy, draws[copy.name], sides(features.resize))

    with output(lever_path("harden", args.dataset, args.name)) as folder:
        folder.mkdir(parents=True)
        if made:
            what = f"embedding copies of {args.name}"
            extract.embed(made, Backbone(features), folder / "features", what=what, load=load, levels=features.levels)
        lines = [json.dumps({"name": name, "draw": drawn.to_dict()}, sort_keys=True) for name, drawn in draws.items()]
        (folder / "draws.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    run(main)
