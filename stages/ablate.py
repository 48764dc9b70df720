"""Coreset ablation of a class in a domain: one greedy selection serves all ratios, since it is nested."""

import argparse
import time

from adshift.detectors.patchcore import Fit, PatchCore, warm_up
from adshift.features.stored_features import stored
from adshift.project import params
from adshift.project.paths import DOMAINS, ablation_path
from adshift.project.stage import run
from adshift.runtime import seeding
from adshift.runtime.files import output, write_json

LEAVES = tuple(leaf for leaf in Fit.model_fields if leaf != "coreset")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="class")
    parser.add_argument("--domain", required=True, choices=DOMAINS)
    args = parser.parse_args()
    name = args.name
    settings = params.load("seed", "dataset.name", *(f"patchcore.{leaf}" for leaf in LEAVES), "ablation.ratios")
    dataset, ratios = settings.dataset.name, settings.ablation.ratios
    detector = PatchCore(Fit(**vars(settings.patchcore), coreset=max(ratios)))
    warm_up()
    start = time.perf_counter()
    detector.fit(stored(dataset, [name], args.domain, "train"), seeding.generator(settings.seed, "ablate", name))
    whole = time.perf_counter() - start
    with output(ablation_path(dataset, name)) as folder:
        detector.save(folder)
    # A smaller ratio would have stopped the same selection earlier.
    spared = {ratio: detector.seconds[-1] - detector.seconds[len(detector.reduced(ratio).bank) - 1] for ratio in ratios}
    seconds = {str(ratio): round(whole - less, 3) for ratio, less in spared.items()}
    write_json(
        f"timings/{dataset}/ablate/{name}.json",
        {"stage": "ablate", "class": name, "domain": args.domain, "seconds": seconds},
    )


if __name__ == "__main__":
    run(main)
