"""PatchCore's scoring: the stage against the search in it, exact search against FAISS's, the graph against both.

    score           PatchCore.predict on stored features against FAISS's flat search of the same patches alone,
                    a greedily selected bank of 11,760 x 152
    score.search    our exact search alone against FAISS's
    score.ROWS      large banks (real patches and jittered copies): the HNSW graph, and the exact search of the patches
                    that decide the image score, against FAISS's flat search and our exact one; the AUROC of both
    score.ROWS.exact    our exact search in them against FAISS's

The images that are searched are others than the bank's.
"""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from harness import (
    Entry,
    at_most,
    backbone,
    embedded,
    entry,
    jittered,
    measure,
    patchcore,
    patches_of,
    pictures,
    share,
    threads,
)

LARGE = {100_000: 60, 1_000_000: 20}  # rows: normal images that are scored, and as many defective ones
WIDTHS = (16, 32, 64, 128)


def run(
    rows: int = 11_760, fitted: int = 60, scored: int = 30, real: int = 300, large: Mapping[int, int] = LARGE,
    rounds: int = 3,
) -> dict[str, Entry]:  # fmt: skip
    """Entries.

    Args:
        rows: of the bank that the stage is measured with.
        fitted: images that it is selected from.
        scored: images that are scored with it.
        real: images that the large banks are made of.
        large: large banks.
        rounds: of every measurement.
    """
    more = max([scored, *large.values()])
    first = max(fitted, real)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = pictures(folder, first + more, more)
        features = embedded([*found.normal, *found.defective], backbone("lite0", folder), folder / "features")
        facts = {"of": f"{found.of}, EfficientNet-Lite0"}
        tests = features[first:]  # `more` normal ones, then as many defective ones
        entries = stage(features[:fitted], tests[:scored], rows, rounds, facts)
        points = patches_of(features[:real], patchcore()[0]) if large else None
        for total, each in large.items():
            chosen = tests[:each] + tests[more : more + each]
            entries |= search(jittered(points, total), chosen, each, rounds, facts)
    return entries


def stage(features: Any, tests: Any, rows: int, rounds: int, facts: Mapping[str, Any]) -> dict[str, Entry]:
    """The score stage, and exact search alone, with a bank of `rows`."""
    total = len(patches_of(features[:1], patchcore()[0])) * len(features)
    detector, how = patchcore(coreset=rows / total, index="exact")
    detector.fit(features, np.random.default_rng(0))
    flat, queries = _flat(detector.bank), _queries(tests, detector)
    detector.predict(tests[:2], how)
    found = measure(
        {
            "stage": lambda: detector.predict(tests, how),
            "ours": lambda: _search(detector, queries, how),
            "peer": lambda: _search_flat(flat, queries, how.neighbours),
        },
        rounds,
        of=len(tests),
    )
    facts = {**facts, "bank": list(detector.bank.shape), "images": len(tests), "unit": "s an image"}
    return {
        "score": entry(found, at_most("ours / peer", share(found, "stage"), 1.3), ours="stage", **facts),
        "score.search": entry(found, at_most("ours / peer", share(found), 1), **facts),
    }


def search(bank: np.ndarray, tests: Any, normal: int, rounds: int, facts: Mapping[str, Any]) -> dict[str, Entry]:
    """The graph of a large bank against exact search: time on a few images, AUROC on all; the first `normal` are so."""
    from adshift.evaluation.metrics.ranking import auroc

    (exact, how), (graph, _) = (_with(bank, tests, index) for index in ("exact", "hnsw"))
    start = time.perf_counter()
    graph._link()
    built = time.perf_counter() - start
    _ = exact.neighbors, graph.neighbors  # built here and not in the first round
    flat, queries = _flat(bank), _queries(tests[normal - 2 : normal + 2], exact)
    found = measure(
        {
            "ours": lambda: _search(graph, queries, how),
            "exact": lambda: _search(exact, queries, how),
            "peer": lambda: _search_flat(flat, queries, how.neighbours),
        },
        rounds,
        of=len(queries),
    )
    truth = np.concatenate(found["exact"]["result"])
    widths = {}
    for width in WIDTHS:
        start = time.perf_counter()
        met = np.concatenate(_search(graph, queries, how.model_copy(update={"search_width": width})))
        took = (time.perf_counter() - start) / len(queries)
        widths[width] = {"seconds": took, "recall": float((met[:, 0] == truth[:, 0]).mean())}

    labels = np.arange(len(tests)) >= normal
    scores = {name: _image_scores(detector, tests, how) for name, detector in (("exact", exact), ("hnsw", graph))}
    areas = {weight: {name: auroc(scores[name][weight], labels) for name in scores} for weight in scores["exact"]}
    used = areas["softmax" if how.reweight == "softmax" else "none"]
    facts = {**facts, "bank": list(bank.shape), "unit": "s an image"}
    name = f"score.{len(bank)}"
    return {
        name: entry(
            found,
            at_most("ours / peer", share(found), 0.1),
            at_most("ours / our exact", share(found, "ours", "exact"), 0.1),
            at_most("AUROC, exact less hnsw", used["exact"] - used["hnsw"], 0.002),
            auroc=areas, widths=widths, graph_seconds=built, images=len(tests), **facts,
        ),
        f"{name}.exact": entry(found, at_most("ours / peer", share(found, "exact"), 1), ours="exact", **facts),
    }  # fmt: skip


def _with(bank: np.ndarray, tests: Any, index: str) -> tuple[Any, Any]:
    """PatchCore with this bank, its graph still to be linked, and its settings of scoring."""
    detector, how = patchcore(index=index)
    detector.spec, detector.bank, detector.graph = dict(tests.spec), bank, {}
    return detector, how


def _flat(bank: np.ndarray) -> Any:
    import faiss

    flat = faiss.IndexFlatL2(bank.shape[1])
    flat.add(bank)
    return flat


def _queries(features: Any, detector: Any) -> list[np.ndarray]:
    return [patches_of(features[image : image + 1], detector) for image in range(len(features))]


def _search(detector: Any, queries: list[np.ndarray], how: Any) -> list[np.ndarray]:
    """Rows found, image by image: as `MemoryBank.predict` searches."""
    found = []
    for patches in queries:
        distances, rows = detector._search(patches, how.neighbours, how, threads())
        if detector._exactly:
            detector._correct_leading_scores(patches, distances, rows, 1, how, threads())
        found.append(rows)
    return found


def _search_flat(flat: Any, queries: list[np.ndarray], k: int) -> list[np.ndarray]:
    import faiss

    faiss.omp_set_num_threads(threads())
    return [flat.search(image, k)[1] for image in queries]


def _image_scores(detector: Any, tests: Any, how: Any) -> dict[str, np.ndarray]:
    """Image scores with and without the softmax weight."""
    weights = ("softmax", "none")
    return {name: detector.predict(tests, how.model_copy(update={"reweight": name})).scores for name in weights}
