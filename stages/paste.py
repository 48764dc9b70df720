"""Scores of a class's normal validation images with pasted defects, of every method's models: they set thresholds."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from adshift.evaluation import pasted
from adshift.evaluation.scenarios import named
from adshift.project import params
from adshift.project.paths import pasted_path
from adshift.project.stage import run
from adshift.runtime import versions
from adshift.runtime.files import output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--name", required=True, help="class")
    args = parser.parse_args()
    settings = params.load("methods", "graph.scenarios")
    for method in settings.methods:
        versions.check(f"methods/{method}")
    with TemporaryDirectory() as temporary, output(pasted_path(args.dataset, args.name)) as folder:
        copies = pasted.Copies(args.dataset, args.name, args.seed, Path(temporary))
        pasted.write(folder, copies, settings.methods, named(settings.graph.scenarios))


if __name__ == "__main__":
    run(main)
