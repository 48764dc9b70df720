"""Raw image scores and anomaly maps on validation and test images, of the models of a class or of the unified one."""

import argparse
import shutil
from pathlib import Path

from adshift.detectors import registry
from adshift.evaluation.pairs import pairs
from adshift.features.stored_features import stored
from adshift.project import params
from adshift.project.paths import DOMAINS, model_path, scores_path
from adshift.project.stage import run
from adshift.runtime import versions
from adshift.runtime.files import output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--model", required=True, help=f"class, or {registry.UNIFIED} for all classes pooled")
    parser.add_argument("--domains", required=True, choices=DOMAINS, nargs="+", help="of the models and of the images")
    args = parser.parse_args()
    dataset = args.dataset
    versions.check(f"methods/{args.method}")
    names = params.load("classes").classes if args.model == registry.UNIFIED else [args.model]
    for domains in pairs(args.domains):
        model, images = domains.split("-on-")
        detector = registry.detector_class(args.method).load(model_path(dataset, args.method, args.model, model))
        scoring = registry.settings(args.method, "score")
        scored: dict[tuple[str, ...], Path] = {}
        for part in ("val", "test"):
            paths = [scores_path(part, dataset, args.method, args.model, domains, name) for name in names]
            with output(paths[0].parent) as folder:
                folder.mkdir()
                for path in paths:
                    features = stored(dataset, [path.stem], images, part)
                    key = (path.stem, *features.names)
                    if key in scored:  # the official protocol: the test images stand in for the validation images
                        shutil.copyfile(scored[key], folder / path.name)
                    else:
                        detector.predict(features, scoring).save(folder / path.name)
                    scored[key] = path


if __name__ == "__main__":
    run(main)
