"""The whole job on one class: from a folder of images to verdicts, and image and pixel metrics, of PatchCore and PaDiM.

Ours is the pipeline in a clone of the last commit, as a user runs it: `adshift preset mvtec`, then `adshift repro
evaluate evaluate_pixels`. The peer is a process with anomalib's Engine: fit and test of both models. Both have equal
images, weights, input size, coreset ratio and threads; both set the threshold on the test images, as anomalib does
(`split.protocol: official`). Ours runs without drift and levers (`shift.kind: none`, `scenarios: [clean]`), which the
peer does not have. Time counts from the start of the processes to their end: imports, DVC and the files that
ours writes are included. Ours also computes PRO, AUPIMO, average precision and intervals, which the Engine's default
evaluator does not.
"""

import logging
import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Any

from bench_knobs import Clone
from harness import TILES, Entry, alone, at_most, backbone, entry, measure, pictures, share, threads, write_png

GOAL = 5  # times as fast as the peer
METHODS = ("patchcore", "padim")


def run(train: int = 100, tested: int = 50, rounds: int = 2, ratio: float = 0.05) -> dict[str, Entry]:
    """The entry.

    Args:
        train: normal images that train.
        tested: normal images that test, and as many defective ones.
        rounds: of each.
        ratio: of the coreset.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        of = data_set(folder / "data", train, tested)
        weights(folder)
        calls = {"ours": lambda: ours(folder, ratio), "peer": lambda: peer(folder, ratio)}
        found = measure(calls, rounds, limit=1200)
    for record in found.values():
        record["memory"] = record["result"].pop("memory")
    facts = {side: record["result"] for side, record in found.items()}
    target = at_most("ours / anomalib's Engine", share(found), 1 / GOAL)
    note = "memory is that of the largest process, imports included"
    return {"job": entry(found, target, of=of, images=[train, tested, tested], coreset=ratio, figures=facts, note=note)}


def data_set(root: Path, train: int, tested: int) -> str:
    """Write one class in MVTec AD's layout, links to images and copies of masks; says what it is of."""
    from adshift.data.datasets import sample

    root.mkdir()
    found = pictures(root, train + tested, tested)
    parts = {"train/good": found.normal[:train], "test/good": found.normal[train:], "test/defect": found.defective}
    for part, files in parts.items():
        (root / "part" / part).mkdir(parents=True)
        for number, file in enumerate(files):
            (root / "part" / part / f"{number:04}{file.suffix}").symlink_to(file.resolve())
    masks = root / "part" / "ground_truth" / "defect"
    masks.mkdir(parents=True)
    for number, file in enumerate(found.defective):
        mask = masks / f"{number:04}_mask.png"
        if file.is_relative_to(TILES):
            shutil.copy(file.with_suffix(".png"), mask)
        else:
            _, defect, index = file.stem.split("-")
            write_png(mask, 255 * sample.render("carpet", "test", defect, f"{int(index):03}")[1].astype("uint8"))
    return found.of


def weights(folder: Path) -> None:
    """Write the state of our network, up to its deepest layer kept, to FOLDER/weights.pt."""
    import torch

    from adshift.features.backbones import cut, full_model

    network = backbone("lite0", folder)
    state = cut(full_model(network.settings), network.settings.backbone, network.names).state_dict()
    torch.save({"state": state, "layers": list(network.names)}, folder / "weights.pt")


def ours(folder: Path, ratio: float) -> dict[str, Any]:
    """Figures of the pipeline's run, its processor time and its memory."""
    from adshift.runtime.files import read_json

    shutil.rmtree(folder / "clone", ignore_errors=True)
    clone, before = Clone(folder / "clone"), resource.getrusage(resource.RUSAGE_CHILDREN)
    clone.run("adshift", "preset", "mvtec", "--data-root", str(folder / "data"))
    path = clone.folder / "params.yaml"
    text = path.read_text(encoding="utf-8")
    changes = {
        "protocol: study": "protocol: official",
        "kind: synthetic": "kind: none",
        "scenarios: all": "scenarios: [clean]",
        "coreset: 0.05": f"coreset: {ratio}",
    }
    for old, new in changes.items():
        if old not in text:
            raise RuntimeError(f"params.yaml has no {old!r}")
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")
    clone.run("adshift", "repro", "--jobs", str(threads()), "evaluate", "evaluate_pixels")
    spent, figures = _spent(before), {}
    for method in METHODS:
        root = clone.folder / "data" / "evaluation" / "mvtec"
        image, pixel = (read_json(root / level / f"{method}.json") for level in ("image", "pixel"))
        figures[method] = {
            "image_auroc": image["classes"]["part"]["clean"]["auroc"],
            "pixel_auroc": next(iter(pixel["part"].values()))["auroc"],
        }
    return {**spent, **figures}


def peer(folder: Path, ratio: float) -> dict[str, Any]:
    """The same of anomalib's Engine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = alone("bench_job:engine", str(folder), ratio)
    return {**_spent(before), "memory": found["resident"], **{method: found[method] for method in METHODS}}


def _spent(before: resource.struct_rusage) -> dict[str, float]:
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "processor_seconds": now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime,
        "memory": now.ru_maxrss * 1024,
    }


def engine(folder: str, ratio: float) -> dict[str, Any]:
    """For `alone`: fits and tests both of anomalib's models, {method: {metric: value}}."""
    logging.disable(logging.WARNING)
    import torch
    from anomalib.data import Folder
    from anomalib.engine import Engine
    from anomalib.models import Padim, Patchcore

    from adshift.project import params

    features = params.load("padim").padim.n_features  # before another folder is the current one
    os.chdir(folder)
    torch.set_num_threads(threads())
    kept = torch.load("weights.pt", weights_only=True)
    name, layers = "tf_efficientnet_lite0", kept["layers"]
    data = Folder(
        "part", root="data/part", normal_dir="train/good", normal_test_dir="test/good", abnormal_dir="test/defect",
        mask_dir="ground_truth/defect",
        val_split_mode="same_as_test", num_workers=0,
    )  # fmt: skip
    ready = {"pre_processor": Patchcore.configure_pre_processor((224, 224)), "pre_trained": False, "visualizer": False}
    models = {
        "patchcore": Patchcore(name, layers[1:], coreset_sampling_ratio=ratio, **ready),
        "padim": Padim(name, layers, n_features=features, **ready),
    }
    found = {}
    for method, model in models.items():
        loaded = model.model.feature_extractor.feature_extractor.load_state_dict(kept["state"], strict=False)
        assert not loaded.unexpected_keys, loaded.unexpected_keys
        trainer = Engine(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
                         enable_model_summary=False, default_root_dir=Path("results"))  # fmt: skip
        trainer.fit(model=model, datamodule=data)
        [figures] = trainer.test(model=model, datamodule=data, verbose=False)
        found[method] = {f"{level}_auroc": figures[f"{level}_AUROC"] for level in ("image", "pixel")}
    return found
