"""PatchCore's scoring of 30 images with a bank of 11,760 x 152, against the FAISS flat search that it contains.

python benchmarks/run.py score

Here `ratio` is peer / ours as everywhere: 1 would mean that the search is all that scoring costs.
"""

import time
from statistics import median
from typing import Any

import numpy as np

ROWS, IMAGES = 11_760, 30


def run(rounds: int = 3) -> dict[str, Any]:
    """Seconds, medians of `rounds`, alternating."""
    import faiss
    from bench_coreset import patches

    from adshift import params
    from adshift.features import Features
    from adshift.methods.patchcore import Fit, PatchCore, Score
    from adshift.parallel import thread_count

    points, what = patches(60)
    generator = np.random.default_rng(0)
    section = {**dict(params.load("patchcore").patchcore), "layers": (1,), "pool": 1}
    detector, how = PatchCore(Fit.within(section)), Score.within(section)
    spec = {"size": 224, "layers": [{"name": "patches", "shape": [28, 28, points.shape[1]]}]}
    detector.spec = spec
    detector.bank = np.ascontiguousarray(points[generator.permutation(len(points))[:ROWS]])
    # Grids of patches as the one level: scoring then does everything but average and enlarge the layers.
    test = points[: IMAGES * 784].reshape(IMAGES, 28, 28, -1)
    features = Features.of([str(index) for index in range(IMAGES)], {1: test}, spec)
    flat = faiss.IndexFlatL2(points.shape[1])
    flat.add(detector.bank)
    queries = test.reshape(-1, points.shape[1])

    ours, peer = [], []
    detector.predict(features[:2], how)
    for _ in range(rounds):
        start = time.perf_counter()
        detector.predict(features, how)
        ours.append(time.perf_counter() - start)
        faiss.omp_set_num_threads(thread_count())
        start = time.perf_counter()
        for image in range(IMAGES):
            flat.search(queries[image * 784 : (image + 1) * 784], how.neighbours)
        peer.append(time.perf_counter() - start)
    return {"of": what, "bank": [ROWS, points.shape[1]], "images": IMAGES, "threads": thread_count(),
            "ours": median(ours), "peer": median(peer), "ratio": median(peer) / median(ours)}  # fmt: skip
