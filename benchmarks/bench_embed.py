"""Embedding of 64 images, files to feature maps on disk, against a plain eager loop over the same files and batches.

Both after the network is built. `embed.memory` is what one process needs for 64 images and for four times as many.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import Entry, alone, at_most, backbone, entry, items, measure, pictures, status, torch_threads
from PIL import Image

MORE = 4
BATCH = 2  # of `embed.memory`


def run(images: int = 64, rounds: int = 3) -> dict[str, Entry]:
    from adshift.backbones import Backbone

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = pictures(folder, MORE * images)
        files = found.normal[:images]
        network = backbone("lite0", folder)
        networks = {"ours": network}
        if "precision" in type(network.settings).model_fields:
            networks["bfloat16"] = Backbone(network.settings.model_copy(update={"precision": "bfloat16"}))
        calls = {name: _ours(files, net, folder / name) for name, net in networks.items()}
        calls["peer"] = _plain(files, network.settings, folder / "plain.npz")
        took = measure(calls, rounds)
        names = [str(file) for file in found.normal]
        few, many = (_alone(names[:count], folder, rounds) for count in (images, MORE * images))
    facts = {"of": found.of, "images": images}
    titles = {"ours": "embed", "bfloat16": "embed.bfloat16"}
    entries = {titles[name]: entry(took, ours=name, **facts) for name in networks}
    growth = at_most(f"memory for {MORE} x the images / memory", many["memory"] / few["memory"], 1.1)
    note = (
        f"a process of its own, without what lies in files; batches of {BATCH}, beside which a growth would stand out"
    )
    return entries | {
        "embed.memory": entry({"ours": few}, growth, of=found.of, images=[images, MORE * images],
                              memory_of_more=many["memory"], note=note)
    }  # fmt: skip


def _alone(files: list[str], folder: Path, rounds: int) -> dict[str, Any]:
    """Embedding in processes of their own, as `measure` has it."""
    found = [alone("bench_embed:store", files, str(folder / f"alone{index}-{len(files)}")) for index in range(rounds)]
    seconds = [child["seconds"] for child in found]
    return {
        "seconds": median(seconds),
        "all": seconds,
        "memory": max(child["anonymous"] - child["start"] for child in found),
    }


def store(files: list[str], folder: str) -> dict[str, Any]:
    """For `alone`: embed some files."""
    from adshift.backbones import Backbone

    network = Backbone(backbone("lite0", Path(folder).parent).settings.model_copy(update={"batch": BATCH}))
    network(np.zeros((1, 224, 224, 3), np.uint8))
    start = status("RssAnon")
    took = measure({"ours": _ours([Path(file) for file in files], network, Path(folder))}, 1)
    return {"seconds": took["ours"]["seconds"], "start": start}


def _ours(files: list[Path], network: Any, folder: Path) -> Callable[[], None]:
    from adshift.embedding import embed
    from adshift.stage import remove

    rows = items(files)

    def call() -> None:
        remove(folder)
        embed(rows, network, folder, what="embed")

    return call


def _plain(files: list[Path], settings: Any, target: Path) -> Callable[[], None]:
    """Decode, resize, stack, forward with autograd off, keep in a list, save."""
    import torch

    from adshift.backbones import full_model, layers

    full = full_model(settings).eval()
    stages = [dict(full.named_modules())[layer] for layer in layers(settings)]
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (settings.mean, settings.std))
    side = settings.resize

    def call() -> None:
        torch_threads()
        kept: list[Any] = []
        hooks = [stage.register_forward_hook(lambda *call: kept.append(call[2].numpy())) for stage in stages]
        for start in range(0, len(files), settings.batch):
            pictures = [
                np.asarray(Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BILINEAR))
                for path in files[start : start + settings.batch]
            ]
            batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous().float() / 255
            with torch.no_grad():
                full((batch - mean) / std)
        for hook in hooks:
            hook.remove()
        np.savez(target, *kept)

    return call
