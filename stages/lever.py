"""A lever against drift: its model of a method and class, with scores and anomaly maps of the images that need it."""

import argparse

from adshift.detectors import registry
from adshift.evaluation import levers
from adshift.evaluation.levers import Run
from adshift.evaluation.pairs import pair
from adshift.evaluation.scenarios import of_lever
from adshift.project import params
from adshift.project.paths import lever_scores_path, model_path
from adshift.project.stage import run
from adshift.runtime import versions
from adshift.runtime.files import output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--method", required=True)
    parser.add_argument("--name", required=True, help="class")
    parser.add_argument("--lever", required=True, choices=levers.LEVERS)
    args = parser.parse_args()
    dataset, method, name = args.dataset, args.method, args.name
    for record in (f"methods/{method}", f"levers/{args.lever}"):
        versions.check(record)
    scenarios = of_lever(args.lever, params.load("graph.scenarios").graph.scenarios)
    lever = levers.lever_class(args.lever)(Run(dataset, method, name, args.seed))
    with output(model_path(dataset, method, name, args.lever)) as folder:
        lever.save(folder)
    scoring = registry.settings(method, "score")
    for part in ("val", "test"):
        # The page scales its colors by the test images of the domain that set the threshold.
        used = [one.val for one in scenarios] + [one.test for one in scenarios if part == "test"]
        wanted = {pair("clean", domain): domain for domain in used}
        with output(lever_scores_path(part, dataset, method, name, args.lever)) as folder:
            for domains, domain in wanted.items():
                lever.predictions(domain, part, scoring).save(folder / domains / f"{name}.npz")


if __name__ == "__main__":
    run(main)
