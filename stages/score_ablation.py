"""Raw image scores of every coreset ratio on validation and test images of a domain, and the banks' sizes."""

import argparse
from pathlib import Path

from adshift.detectors.patchcore import PatchCore, Score
from adshift.features.stored_features import stored
from adshift.project import params
from adshift.project.paths import DOMAINS, ablation_path
from adshift.project.stage import run
from adshift.runtime.files import output, write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domain", required=True, choices=DOMAINS)
    domain = parser.parse_args().domain
    leaves = (f"patchcore.{leaf}" for leaf in Score.model_fields)
    settings = params.load("dataset.name", "classes", *leaves, "ablation.ratios")
    dataset, scoring = settings.dataset.name, Score(**vars(settings.patchcore))
    with output(Path("data/scores/ablation") / dataset) as folder:
        for name in settings.classes:
            largest, rows = PatchCore.load(ablation_path(dataset, name)), {}
            images = {part: stored(dataset, [name], domain, part) for part in ("val", "test")}
            for ratio in settings.ablation.ratios:
                detector = largest.reduced(ratio)
                rows[str(ratio)] = len(detector.bank)
                for part, features in images.items():
                    detector.predict(features, scoring).save(folder / name / f"{part}-{ratio}.npz")
            write_json(folder / name / "rows.json", rows, checksum=True)


if __name__ == "__main__":
    run(main)
