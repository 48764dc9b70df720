"""Embedding of 64 images, files to feature maps on disk, against a plain eager loop over the same files and batches.

python benchmarks/run.py embed
"""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

TILES = Path("../shared/data/magnetic_tile/MT_Free/Imgs")
IMAGES = 64


def files(folder: Path) -> tuple[list[Path], str]:
    """64 image files, and what they are."""
    found = sorted(TILES.glob("*.jpg"))[:IMAGES]
    if found:
        return found, "magnetic tiles"
    from adshift.datasets import sample

    for index in range(IMAGES):
        Image.fromarray(sample.render("carpet", "train", "good", f"{index:03}")[0]).save(folder / f"{index:03}.png")
    return sorted(folder.glob("*.png")), "sample carpet"


def run(rounds: int = 3) -> dict[str, Any]:
    """Seconds, medians of `rounds`, alternating; both after the network is built."""
    import torch

    from adshift import embedding, params
    from adshift.backbones import Backbone, full_model
    from adshift.images import sha256
    from adshift.manifest import Item
    from adshift.parallel import thread_count

    settings = params.load("features").features
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, what = files(folder)
        items = []
        for path in paths:
            with Image.open(path) as image:
                items.append(
                    Item(f"train/good/{path.stem}", "train", "good", str(path), "", sha256(path), "", *image.size)
                )
        full = full_model(settings).eval()
        stages = [dict(full.named_modules())[layer] for layer in Backbone(settings).names]
        mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (settings.mean, settings.std))

        def plain() -> int:
            """Decode, resize, stack, forward with autograd off, keep in a list, save."""
            kept: list[Any] = []
            hooks = [stage.register_forward_hook(lambda *call: kept.append(call[2].numpy())) for stage in stages]
            for start in range(0, len(paths), settings.batch):
                pictures = [
                    np.asarray(Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))
                    for path in paths[start : start + settings.batch]
                ]
                batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous().float() / 255
                with torch.no_grad():
                    full((batch - mean) / std)
            for hook in hooks:
                hook.remove()
            np.savez(folder / "plain.npz", *kept)
            return len(kept)

        backbone = Backbone(settings)  # built once: its import and loading are not what is compared
        ours, peer = [], []
        for index in range(rounds):
            start = time.perf_counter()
            embedding.embed(items, backbone, folder / f"ours{index}", what="embed")
            ours.append(time.perf_counter() - start)
            torch.set_num_threads(thread_count())
            start = time.perf_counter()
            plain()
            peer.append(time.perf_counter() - start)
    return {"of": what, "images": len(paths), "threads": thread_count(), "ours": median(ours), "peer": median(peer),
            "ratio": median(peer) / median(ours)}  # fmt: skip
