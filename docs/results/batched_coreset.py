"""Coresets selected in chunks beside the exact one: covering radius, image AUROC, memory and seconds of the selection.

Run from the repository's root; needs nothing of the pipeline but `features` and `patchcore` in params.yaml:

    python docs/results/batched_coreset.py docs/results/mvtec_reduced/batched_coreset.csv \\
        --dataset mvtec --root DATA/mvtec_reduced --name hazelnut
    python docs/results/batched_coreset.py docs/results/magnetic_tile/batched_coreset.csv \\
        --dataset magnetic_tile --root DATA/magnetic_tile --name tile

Trains on at most 100 images of train/good and tests on at most 100 normal and 100 defective ones, one thread. Radii are
in the projected space, where the coreset is selected; the bound is what the selection knows without a second pass.
Memory is the peak that NumPy held during the selection, the projected patches and all that the selection needs.
"""

import os
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from embedded import arguments, embedded, write

from adshift.detectors.patchcore import Fit, PatchCore, Score, warm_up
from adshift.evaluation.metrics.ranking import Ranked
from adshift.features.store import Features
from adshift.project import params
from adshift.runtime import seeding
from adshift.search.coreset import covering_radius

RATIOS, CHUNKS = (0.01, 0.05), (None, 2, 5, 10, 25)  # a chunk is so many parts of all patches


def main() -> None:
    args = arguments(__doc__)
    os.environ["ADSHIFT_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.features or Path(temporary)
        train, test, bad = embedded(args.dataset, args.root, args.name, 100, 100, folder)
        write(args.out, list(rows(train, test, bad)))


def rows(train: Features, test: Features, bad: np.ndarray) -> Iterator[dict[str, Any]]:
    """One row a ratio and number of chunks."""
    section = dict(params.load("patchcore").patchcore)
    warm_up()
    for ratio in RATIOS:
        exact = None
        for parts in CHUNKS:
            most = -(-len(train) // parts) * positions(train, section) if parts else None
            detector = PatchCore(Fit.within({**section, "coreset": ratio, "chunk_patches": most}))
            tracemalloc.start()
            start = time.perf_counter()
            detector.fit(train, seeding.generator(42, "batched_coreset"))
            spent, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            patches = np.concatenate([
                detector.patches(train[image : image + 1]).reshape(-1, detector.bank.shape[1]) @ detector.matrix
                for image in range(len(train))
            ])  # fmt: skip
            radius = covering_radius(patches, patches[detector.picks])
            exact = exact or radius
            scores = {
                name: detector.predict(test, Score.within({**section, "reweight": name})).scores
                for name in ("none", "softmax")
            }
            yield {
                "coreset": ratio,
                "bank_rows": len(detector.bank),
                "chunks": parts or "exact",
                "chunk_patches": most or detector.total,
                "radius": round(radius, 3),
                "of_exact": round(radius / exact, 3),
                "bound": round(float(detector.radii[-1]), 3),
                "peak_MB": round(peak / 1e6, 1),
                "fit_s": round(spent, 2),
                **{f"image_auroc_{key}": round(Ranked.of(one, bad).auroc() or 0, 4) for key, one in scores.items()},
            }


def positions(train: Features, section: dict[str, Any]) -> int:
    """Patches of an image."""
    shape = PatchCore(Fit.within(section)).patches(train[:1]).shape
    return shape[1] * shape[2]


if __name__ == "__main__":
    main()
