"""PatchCore's fit, features on disk to model on disk, 50 images at 10 %, against anomalib's subsample_embedding.

The images are MVTec AD's hazelnut, reduced, where they are at hand, else the sample's. The peer has the same
embeddings, in memory already, and writes no model.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import (
    Entry,
    embedded_apart,
    entry,
    hazelnuts,
    measure,
    patchcore,
    patches_of,
    torch_threads,
)

RATIO = 0.1


def run(images: int = 50, ratio: float = RATIO, rounds: int = 3) -> dict[str, Entry]:
    import torch
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    from adshift.detectors.patchcore import warm_up
    from adshift.features.store import Features

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = hazelnuts(folder, images)
        stored = embedded_apart(found.normal, "lite0", folder)
        embedding = torch.from_numpy(patches_of(stored, patchcore()[0]))
        model = PatchcoreModel(["blocks.2", "blocks.4"], "tf_efficientnet_lite0", pre_trained=False)

        def ours() -> Any:
            detector, _ = patchcore(coreset=ratio)
            detector.fit(Features.open(folder / "lite0"), np.random.default_rng(0))
            detector.save(folder / "model")
            return detector

        def peer() -> Any:
            model.embedding_store.append(embedding)
            model.subsample_embedding(ratio)
            return model

        warm_up()
        torch_threads()
        measured = measure({"ours": ours, "peer": peer}, rounds)
        rows = {"ours": len(measured["ours"]["result"].bank), "peer": len(measured["peer"]["result"].memory_bank)}
    return {
        "fit_patchcore": entry(measured, of=found.of, patches=list(embedding.shape), rows=rows)
    }  # fmt: skip
