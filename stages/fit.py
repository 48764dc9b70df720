"""Fit one detector: a method on the training images of one class, or of all classes pooled, in one domain."""

import argparse

from adshift.detectors import registry
from adshift.features.stored_features import stored
from adshift.project import params
from adshift.project.paths import DOMAINS, model_path
from adshift.project.stage import run, timed
from adshift.runtime import seeding, versions
from adshift.runtime.files import output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--method", required=True)
    parser.add_argument("--model", required=True, help=f"class, or {registry.UNIFIED} for all classes pooled")
    parser.add_argument("--domain", required=True, choices=DOMAINS)
    args = parser.parse_args()
    dataset = args.dataset
    versions.check(f"methods/{args.method}")
    names = params.load("classes").classes if args.model == registry.UNIFIED else [args.model]
    detector = registry.detector_class(args.method)(registry.settings(args.method, "fit"))
    features = stored(dataset, names, args.domain, "train")
    registry.warm_up(args.method)
    facts = {"stage": "fit", "method": args.method, "class": args.model, "domain": args.domain, "images": len(features)}
    with timed(f"timings/{dataset}/fit/{args.method}-{args.model}-{args.domain}.json", **facts):
        detector.fit(features, seeding.generator(args.seed, "fit", args.method, args.model, args.domain))
    with output(model_path(dataset, args.method, args.model, args.domain)) as folder:
        detector.save(folder)


if __name__ == "__main__":
    run(main)
