"""Embedding of 64 images, files to feature maps on disk, against a plain eager loop over the same files and batches.

Each contender runs in a process of its own, in turns, and counts after its network is built and one round is done: the
plain loop has the allocator and the waiting threads of any script, which is much of what it costs. `embed.same_process`
is that loop under our settings of both. `embed.memory` is what one process needs for 256 and
for 832 images: with fewer, the threads' peaks do not always meet.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import (
    Entry,
    alone,
    as_any_script,
    at_most,
    backbone,
    entry,
    items,
    measure,
    pictures,
    status,
    together,
    torch_threads,
)
from PIL import Image

FEW, MANY = 4, 13  # times the images of the timing, for `embed.memory`
BATCH = 2  # of `embed.memory`
TARGET = 1 / 3  # of the plain loop's time


def run(images: int = 64, rounds: int = 3) -> dict[str, Entry]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = pictures(folder, MANY * images)
        names = [str(file) for file in found.normal]
        took = _in_turns(names[:images], folder, rounds)
        few, many = (_memory(names[:count], folder, rounds) for count in (FEW * images, MANY * images))
    facts = {"of": found.of, "images": images}
    target = at_most("ours / plain loop", took["ours"]["seconds"] / took["plain"]["seconds"], TARGET)
    kept = (many["memory"] - few["memory"]) / (many["written"] - few["written"])
    growth = at_most("more memory for more images / what is written for them", kept, 0.1)
    note = (
        f"a process of its own, without what lies in files; batches of {BATCH}, beside which a growth would stand out"
    )
    return {
        "embed": entry(took, target, peer="plain", **facts),
        "embed.bfloat16": entry(took, ours="bfloat16", peer="plain", **facts),
        "embed.same_process": entry(took, peer="settled", **facts),
        "embed.memory": entry({"ours": few}, growth, of=found.of, images=[FEW * images, MANY * images],
                              memory_of_more=many["memory"], note=note),
    }  # fmt: skip


def _in_turns(files: list[str], folder: Path, rounds: int) -> dict[str, Any]:
    """As `measure` has it, of `timed`."""
    kinds = ("ours", "bfloat16", "plain", "settled")
    found: dict[str, Any] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            found[kind].append(alone("bench_embed:timed", kind, files, str(folder)))
    return {kind: together(children) for kind, children in found.items()}


def timed(kind: str, files: list[str], folder: str) -> dict[str, Any]:
    """For `alone`: one contender's second round.

    Args:
        kind: `ours`, in float32, `bfloat16`, `plain`, or `settled`: the plain loop with our settings of the process.
        files: images.
        folder: that may be written to.
    """
    if kind == "plain":
        as_any_script()
    from adshift.project import params
    from adshift.runtime.parallel import keep_memory

    paths, target = [Path(file) for file in files], Path(folder)
    if kind in ("plain", "settled"):
        if kind == "settled":
            keep_memory()
        call = _plain(paths, params.load("features").features, target / "plain.npz")
    else:
        from adshift.features.backbones import Backbone

        settings = params.load("features").features
        precision = "bfloat16" if kind == "bfloat16" else "float32"
        call = _ours(paths, Backbone(settings.model_copy(update={"precision": precision})), target / "features")
    call()
    took = measure({"call": call}, 1)["call"]
    return {"seconds": took["seconds"], "memory": took["memory"]}


def _memory(files: list[str], folder: Path, rounds: int) -> dict[str, Any]:
    """Embedding in processes of their own, as `measure` has it."""
    found = [alone("bench_embed:store", files, str(folder / f"alone{index}-{len(files)}")) for index in range(rounds)]
    beside = [{**child, "memory": child["anonymous"] - child["start"]} for child in found]
    return {**together(beside), "written": found[0]["written"]}


def store(files: list[str], folder: str) -> dict[str, Any]:
    """For `alone`: embed some files."""
    from adshift.features.backbones import Backbone

    network = Backbone(backbone("lite0", Path(folder).parent).settings.model_copy(update={"batch": BATCH}))
    network(np.zeros((1, 224, 224, 3), np.uint8))
    start = status("RssAnon")
    took = measure({"ours": _ours([Path(file) for file in files], network, Path(folder))}, 1)
    written = sum(file.stat().st_size for file in Path(folder).iterdir())
    return {"seconds": took["ours"]["seconds"], "start": start, "written": written}


def _ours(files: list[Path], network: Any, folder: Path) -> Callable[[], None]:
    from adshift.features.extract import embed
    from adshift.runtime.files import remove

    rows = items(files)

    def call() -> None:
        remove(folder)
        embed(rows, network, folder, what="embed")

    return call


def _plain(files: list[Path], settings: Any, target: Path) -> Callable[[], None]:
    """Decode, resize, stack, forward with autograd off, keep in a list, save; the whole network, not channels-last."""
    import torch

    from adshift.features.backbones import full_model, layers

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
