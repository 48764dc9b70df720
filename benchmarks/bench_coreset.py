"""Coreset selection: 0.5 % of the patches of 300 images, ours against anomalib's KCenterGreedy.

Two sets of patches, 784 an image: 152 dimensions (EfficientNet-Lite0, layers 2 and 3) and 1536 (a ResNet-50's). On the
first ours selects in all dimensions; on the second both in all (`.exact`) and, as the pipeline does, in a random
projection. anomalib projects to as many dimensions as Johnson and Lindenstrauss ask for. The radius is that of the
original dimensions for all.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import Entry, at_most, embedded_apart, entry, measure, patchcore, patches_of, pictures, torch_threads

RATIO = 0.005
IMAGE = 784  # patches


def ours(points: np.ndarray, ratio: float) -> np.ndarray:
    from adshift.search.coreset import greedy, size_of

    return greedy(points, size_of(ratio, len(points)), 0).indices


def projected(points: np.ndarray, ratio: float) -> np.ndarray:
    """Ours in the projection of params.yaml, made as `PatchCore.fit` makes it, an image at a time."""
    from adshift.search.coreset import projection

    target = patchcore()[0].settings.projection or points.shape[1]
    matrix = projection(points.shape[1], target, np.random.default_rng(0))
    found = np.empty((len(points), target), np.float32)
    for low in range(0, len(points), IMAGE):
        np.matmul(points[low : low + IMAGE], matrix, out=found[low : low + IMAGE])
    return ours(found, ratio)


def peer(points: np.ndarray, ratio: float) -> np.ndarray:
    import torch
    from anomalib.models.components import KCenterGreedy

    torch.manual_seed(0)
    return np.array(KCenterGreedy(torch.from_numpy(points), ratio).select_coreset_idxs())


def compare(points: np.ndarray, what: str, contenders: dict[str, Any], ratio: float, rounds: int) -> dict[str, Entry]:
    """{contender: its entry against `peer`}."""
    from adshift.search.coreset import covering_radius

    calls = {name: (lambda pick=pick: pick(points, ratio)) for name, pick in {**contenders, "peer": peer}.items()}
    few = points[: max(2000, round(1 / ratio))]
    for pick in (*contenders.values(), peer):
        pick(few, ratio)  # imports and compilation
    torch_threads()
    found = measure(calls, rounds)
    radius = {name: covering_radius(points, points[record["result"]]) for name, record in found.items()}
    entries = {}
    for name in contenders:
        memory = found[name]["memory"] / points.nbytes
        entries[name] = entry(
            found,
            at_most("memory / patches", memory, 0.1),
            ours=name,
            of=what,
            patches=list(points.shape),
            picks=len(found[name]["result"]),
            radius={"ours": radius[name], "peer": radius["peer"]},
        )
    return entries


def run(images: int = 300, ratio: float = RATIO, rounds: int = 3) -> dict[str, Entry]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = pictures(folder, images)

        def points(network: str) -> np.ndarray:
            features = embedded_apart(found.normal, network, folder)
            return patches_of(features, patchcore()[0])

        lite = compare(points("lite0"), f"{found.of}, EfficientNet-Lite0", {"ours": ours}, ratio, rounds)
        both = {"ours": projected, "exact": ours}
        found = replace(found, normal=found.normal[: images // 3])  # the peer takes long
        wide = compare(points("resnet50"), f"{found.of}, ResNet-50 of random weights", both, ratio, rounds)
    return {"coreset": lite["ours"], "coreset.1536": wide["ours"], "coreset.1536.exact": wide["exact"]}
