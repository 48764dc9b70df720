"""Training, validation and test images of every class, and what of the training images is defective."""

import sys
from dataclasses import asdict
from pathlib import Path

from adshift.data import contamination, manifest, split_file, splits
from adshift.project import params
from adshift.project.paths import contamination_path, split_path
from adshift.project.stage import run
from adshift.runtime.files import output, write_json


def main() -> None:
    settings = params.load("seed", "dataset.name", "classes", "split", "shift.kind")
    dataset = settings.dataset.name
    measured, shown = {}, manifest.class_names(dataset, settings.classes)
    placed: list[tuple[manifest.Item, str]] = []
    with output(Path("data/split") / dataset) as folder:
        folder.mkdir()
        for name in settings.classes:
            paths = {split_file.BOTH: manifest.path_of(dataset, name, "clean")}
            if settings.shift.kind == "recorded":
                paths = {
                    "clean": manifest.path_of(dataset, name, "clean"),
                    "shift": manifest.recorded_path(dataset, name),
                }
            items = {domain: manifest.read(path) for domain, path in paths.items()}
            roles: dict[str, dict[str, str]] = {}
            settled: dict[str, str] = {}
            for domain, of_domain in items.items():
                roles[domain] = splits.split(of_domain, settings.split, settings.seed, name, domain, settled)
                settled |= splits.sides(of_domain, roles[domain], settings.split, settings.seed, name)
                placed += [(item, roles[domain][item.name]) for item in of_domain]
                subject = shown[name] if domain == split_file.BOTH else f"{shown[name]}, {domain} domain"
                for warning in splits.warnings(of_domain, roles[domain], subject):
                    print(f"warning: {warning}", file=sys.stderr)
            first = next(iter(items))  # both domains, or the clean one
            measured[name] = asdict(contamination.measure(items[first], roles[first]))
            split_file.write(folder / split_path(dataset, name).name, roles)
        splits.check_copies(placed)
    write_json(contamination_path(dataset), measured, checksum=True)


if __name__ == "__main__":
    run(main)
