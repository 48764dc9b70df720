"""Quantized memory banks beside the exact one: bytes, seconds of search, image AUROC, over bytes a row, K and c.

Run from the repository's root; needs nothing of the pipeline but `features` in params.yaml:

    python docs/results/patchcore_pq.py docs/results/magnetic_tile/patchcore_pq.csv \\
        --dataset magnetic_tile --root DATA/magnetic_tile --name tile

Trains on 100 images of train/good and tests on 100 normal and 100 defective ones. Searches for the 9 nearest rows of
an image's patches alternate with exact ones on one thread; the smallest time of each counts. FAISS's 8-bit codes of as
many bytes are searched beside ours. A table beside the CSV shows it for reading.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from embedded import arguments, embedded, write

from adshift.detectors import patchcore, patchcore_pq
from adshift.evaluation.metrics.ranking import Ranked
from adshift.features.store import Features
from adshift.project import params
from adshift.runtime import seeding
from adshift.search.quantized import quantize

BANKS = (0.02, 0.15)  # coreset ratios
CODES = (12, 16, 24, 32, 38)  # bytes
DEFAULT = 24  # for which K and c vary too
SEARCHES = ((9, 9), (16, 9), (32, 1), (32, 4), (32, 9), (100, 9), (300, 9))  # K, c
ROUNDS = 7


def main() -> None:
    args = arguments(__doc__)
    os.environ["ADSHIFT_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.features or Path(temporary)
        train, test, bad = embedded(args.dataset, args.root, args.name, 100, 100, folder)
        table = list(rows(train, test, bad))
    write(args.out, table)


def rows(train: Features, test: Features, bad: np.ndarray) -> Iterator[dict[str, Any]]:
    """One row a bank, code and search; the exact bank first."""
    settings = params.load("patchcore", "patchcore_pq")
    for ratio in BANKS:
        fit = patchcore.Fit.within({**dict(settings.patchcore), "coreset": ratio})
        exact = patchcore.PatchCore(fit)
        exact.fit(train, seeding.generator(42, "patchcore_pq"))
        patches = exact.patches(test[-1:]).reshape(-1, exact.bank.shape[1])

        def search_exactly(exact: Any = exact, patches: np.ndarray = patches) -> None:
            exact.neighbors.search(patches, 9)

        base = {"bank_rows": len(exact.bank), "bytes": exact.bank.shape[1] * 4, "K": "", "c": "",
                "bank_bytes": exact.bank.nbytes, "times_smaller": 1.0}  # fmt: skip
        how = {
            name: patchcore.Score.within({**dict(settings.patchcore), "reweight": name}) for name in ("none", "softmax")
        }
        (own,) = seconds(search_exactly)
        yield base | times(own, own, None) | {"quantize_s": ""} | aurocs(exact, test, bad, how)
        for size in CODES:
            detector = patchcore_pq.PatchCorePQ(
                patchcore_pq.Fit.within({**dict(settings.patchcore_pq), "coreset": ratio, "bytes": size})
            )
            detector.spec, start = exact.spec, time.perf_counter()
            detector.codes = quantize(exact.bank, size, "euclidean")
            spent = round(time.perf_counter() - start, 2)
            rival = eight_bits(exact.bank, size, patches) if size == DEFAULT else None
            for k, c in SEARCHES if size == DEFAULT else [(32, 9)]:

                def search(detector: Any = detector, patches: np.ndarray = patches, k: int = k, c: int = c) -> None:
                    detector.neighbors.search(patches, c, candidates=k)

                ours, own, *theirs = seconds(search, search_exactly, *([rival] if rival else []))
                how = {
                    name: patchcore_pq.Score.within(
                        {**dict(settings.patchcore_pq), "reweight": name, "candidates": k, "refined": c}
                    )
                    for name in ("none", "softmax")
                }
                yield {
                    **base,
                    "bytes": size,
                    "K": k,
                    "c": c,
                    "bank_bytes": detector.codes.nbytes,
                    "times_smaller": round(exact.bank.nbytes / detector.codes.nbytes, 1),
                    **times(ours, own, theirs[0] if theirs else None),
                    "quantize_s": spent,
                    **aurocs(detector, test, bad, how),
                }


def seconds(*searches: Callable[[], None]) -> list[float]:
    """The smallest time of each search, all of them in turns."""
    found: list[list[float]] = [[] for _ in searches]
    for _ in range(ROUNDS + 1):
        for search, kept in zip(searches, found, strict=True):
            start = time.perf_counter()
            search()
            kept.append(time.perf_counter() - start)
    return [min(kept[1:]) for kept in found]  # the first one compiles and builds


def times(ours: float, exact: float, eight: float | None) -> dict[str, Any]:
    return {"search_ms": round(ours * 1e3, 1), "exact_ms": round(exact * 1e3, 1),
            "faiss_8_bits_ms": round(eight * 1e3, 1) if eight else ""}  # fmt: skip


def eight_bits(bank: np.ndarray, size: int, patches: np.ndarray) -> Callable[[], None]:
    """A search in FAISS's IndexPQ of as many bytes a row, trained on few rows: its time alone is of interest."""
    import faiss

    faiss.omp_set_num_threads(1)
    width = -(-bank.shape[1] // size) * size
    index = faiss.IndexPQ(width, size, 8)
    index.pq.cp.niter, index.pq.cp.min_points_per_centroid = 2, 1
    padded, queries = (
        np.pad(array, ((0, 0), (0, width - array.shape[1]))).astype(np.float32) for array in (bank, patches)
    )
    index.train(padded)
    index.add(padded)
    return lambda: index.search(queries, 9)


def aurocs(detector: Any, test: Features, bad: np.ndarray, how: dict[str, Any]) -> dict[str, float]:
    return {
        f"image_auroc_{name}": round(Ranked.of(detector.predict(test, score).scores, bad).auroc() or 0, 4)
        for name, score in how.items()
    }


if __name__ == "__main__":
    main()
