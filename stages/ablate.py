"""Coreset ablation of a class on the shifted domain: one greedy selection serves all ratios, since it is nested."""

import argparse
import time
from pathlib import Path

from adshift import params, seeding
from adshift.features import stored
from adshift.methods.patchcore import Fit, PatchCore, Score, warm_up
from adshift.stage import output, run, write_json

FIT = tuple(leaf for leaf in Fit.model_fields if leaf != "coreset")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="class")
    name = parser.parse_args().name
    leaves = (f"patchcore.{leaf}" for leaf in (*FIT, *Score.model_fields))
    settings = params.load("seed", "dataset.name", *leaves, "ablation.ratios")
    dataset, ratios, values = settings.dataset.name, settings.ablation.ratios, vars(settings.patchcore)
    how = Score.within(values)
    full = PatchCore(Fit.within({**values, "coreset": max(ratios)}))
    warm_up()
    start = time.perf_counter()
    full.fit(stored(dataset, [name], "shift", "train"), seeding.generator(settings.seed, "ablate", name))
    whole = time.perf_counter() - start
    detectors = {ratio: full.reduced(ratio) for ratio in ratios}
    with output(Path("data/ablation") / dataset / name) as folder:
        for part in ("val", "test"):
            images = stored(dataset, [name], "shift", part)
            for ratio, detector in detectors.items():
                detector.predict(images, how).save(folder / f"{part}-{ratio}.npz")
        rows = {str(ratio): len(detector.bank) for ratio, detector in detectors.items()}
        write_json(folder / "rows.json", rows)
    # A smaller ratio would have stopped the same selection earlier.
    spared = {ratio: full.seconds[-1] - full.seconds[count - 1] for ratio, count in rows.items()}
    seconds = {ratio: round(whole - less, 3) for ratio, less in spared.items()}
    write_json(f"timings/{dataset}/ablate/{name}.json", {"stage": "ablate", "class": name, "seconds": seconds})


if __name__ == "__main__":
    run(main)
