"""Fit one detector: a method on the training images of one class, or of all classes pooled, in one domain."""

import argparse

from adshift import methods, params, seeding, versions
from adshift.paths import DOMAINS, model_path
from adshift.stage import output, run, timed
from adshift.stored_features import stored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--method", required=True)
    parser.add_argument("--model", required=True, help=f"class, or {methods.UNIFIED} for all classes pooled")
    parser.add_argument("--domain", required=True, choices=DOMAINS)
    args = parser.parse_args()
    dataset = args.dataset
    versions.check(f"methods/{args.method}")
    names = params.load("classes").classes if args.model == methods.UNIFIED else [args.model]
    detector = methods.detector_class(args.method)(methods.settings(args.method, "fit"))
    features = stored(dataset, names, args.domain, "train")
    methods.warm_up(args.method)
    facts = {"stage": "fit", "method": args.method, "class": args.model, "domain": args.domain, "images": len(features)}
    with timed(f"timings/{dataset}/fit/{args.method}-{args.model}-{args.domain}.json", **facts):
        detector.fit(features, seeding.generator(args.seed, "fit", args.method, args.model, args.domain))
    with output(model_path(dataset, args.method, args.model, args.domain)) as folder:
        detector.save(folder)


if __name__ == "__main__":
    run(main)
