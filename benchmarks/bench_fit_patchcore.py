"""PatchCore's fit, features on disk to model on disk, 50 images at 10 %, against anomalib's subsample_embedding.

python benchmarks/run.py fit_patchcore

The images are MVTec AD's hazelnut, reduced, where they are at hand, else the sample's.
"""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HAZELNUT = Path("../shared/data/mvtec_reduced/hazelnut/train/good")
RATIO = 0.1


def images() -> tuple[np.ndarray, str]:
    """(50, 224, 224, 3) uint8, and what they are."""
    from adshift.images import fit, read_image

    files = sorted(HAZELNUT.glob("*.png"))[:50]
    if files:
        return np.stack([fit(read_image(file), 224) for file in files]), "mvtec_reduced hazelnut"
    from adshift.datasets import sample

    found = [sample.render("hazelnut", "train", "good", f"{index:03}")[0] for index in range(50)]
    return np.stack([fit(image, 224) for image in found]), "sample hazelnut"


def store(folder: Path, pictures: np.ndarray) -> Any:
    """Feature maps of the pictures as the pipeline stores them; returns the settings used."""
    from adshift import params
    from adshift.backbones import Backbone
    from adshift.methods.patchcore import Fit
    from adshift.stage import write_json

    settings = params.load("features", "patchcore")
    backbone = Backbone(settings.features)
    parts = [backbone(pictures[start : start + 10]) for start in range(0, len(pictures), 10)]
    layers = []
    for level, (name, maps) in enumerate(zip(backbone.names, zip(*parts, strict=True), strict=True), start=1):
        array = np.concatenate(maps).astype(np.float16)
        np.save(folder / f"level{level}.npy", array)
        layers.append({"name": name, "file": f"level{level}.npy", "shape": array.shape[1:]})
    names = [f"train/good/{index:03}" for index in range(len(pictures))]
    write_json(folder / "features.json", {"size": 224, "layers": layers, "names": names})
    return Fit.within({**dict(settings.patchcore), "coreset": RATIO})


def run(rounds: int = 3) -> dict[str, Any]:
    """Seconds: ours the median of `rounds`, the peer's once, after a warm-up of both."""
    import torch
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    from adshift.features import Features
    from adshift.methods.patchcore import PatchCore, warm_up
    from adshift.parallel import thread_count

    torch.set_num_threads(thread_count())
    pictures, what = images()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = store(folder, pictures)
        warm_up()

        def ours(target: Path) -> PatchCore:
            detector = PatchCore(settings)
            detector.fit(Features.open(folder), np.random.default_rng(0))
            detector.save(target)
            return detector

        took = []
        for index in range(rounds):
            start = time.perf_counter()
            detector = ours(folder / f"model{index}")
            took.append(time.perf_counter() - start)

        patches = detector.patches(Features.open(folder))
        embedding = torch.from_numpy(patches.reshape(-1, patches.shape[-1]))
        model = PatchcoreModel(["blocks.2", "blocks.4"], "tf_efficientnet_lite0", pre_trained=False)
        start = time.perf_counter()
        model.embedding_store.append(embedding)
        model.subsample_embedding(RATIO)
        peer = time.perf_counter() - start
    rows = {"ours": len(detector.bank), "peer": len(model.memory_bank)}
    return {"of": what, "patches": list(embedding.shape), "threads": thread_count(), "rows": rows,
            "ours": median(took), "peer": peer, "ratio": peer / median(took)}  # fmt: skip
