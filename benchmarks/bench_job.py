"""The whole job on one class: from a folder of images to verdicts, and image and pixel metrics, of PatchCore and PaDiM.

Ours is the pipeline in a clone of the last commit, as a user runs it: `adshift preset mvtec`, then `adshift repro
evaluate evaluate_pixels`. The peer is a process with anomalib's Engine: fit and test of both models. Both get the same
images, the same weights, the same ratio of the coreset, the same input size and threads; both set the threshold on the test
images, as anomalib does (`split.protocol: official`). Time counts from the start of the processes to their end, imports,
DVC and the files that ours writes included. Ours also computes PRO, AUPIMO, average precision and the intervals, which
the Engine's default evaluator does not.
"""

import logging
import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Any

from bench_knobs import Clone
from harness import TILES, Entry, alone, at_most, backbone, entry, measure, pictures, settings_of, threads

GOAL = 5  # times as fast as the peer
RATIO = 0.05
METHODS = ("patchcore", "padim")


def run(
    train: int = 100, tested: int = 50, rounds: int = 2, ratio: float = RATIO, limit: float = 1200
) -> dict[str, Entry]:
    """The entry.

    Args:
        train: normal images that train.
        tested: normal images that test, and as many defective ones.
        rounds: of each.
        ratio: of the coreset.
        limit: seconds after which a contender sits out.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        of = data_set(folder / "data", train, tested)
        weights(folder)
        calls = {"ours": lambda: ours(folder, ratio), "peer": lambda: peer(folder, ratio)}
        found = measure(calls, rounds, limit=limit)
    for record in found.values():
        record["memory"] = record["result"].pop("memory")
    figures = {side: record["result"] for side, record in found.items()}
    return {
        "job": entry(
            found, at_most("ours / anomalib's Engine", found["ours"]["seconds"] / found["peer"]["seconds"], 1 / GOAL),
            of=of, images={"train": train, "test": 2 * tested}, coreset=ratio, **figures,
            note="memory is that of the largest process",
        )
    }  # fmt: skip


def data_set(root: Path, train: int, tested: int) -> str:
    """Write one class in MVTec AD's layout, links to images and copies of masks; says what it is of."""
    found = pictures(root.parent, train + tested, tested)
    parts = {
        "train/good": found.normal[:train], "test/good": found.normal[train:], "test/defect": found.defective,
    }  # fmt: skip
    for part, files in parts.items():
        (root / "part" / part).mkdir(parents=True)
        for number, file in enumerate(files):
            (root / "part" / part / f"{number:04}{file.suffix}").symlink_to(file.resolve())
    if found.defective and found.defective[0].is_relative_to(TILES):
        (root / "part" / "ground_truth" / "defect").mkdir(parents=True)
        for number, file in enumerate(found.defective):
            mask = root / "part" / "ground_truth" / "defect" / f"{number:04}_mask.png"
            shutil.copy(file.with_suffix(".png"), mask)
    return found.of


def weights(folder: Path) -> None:
    """Write the state of our network, up to its deepest layer kept, to FOLDER/weights.pt."""
    import torch

    from adshift.features.backbones import cut, full_model

    network = backbone("lite0", folder)
    state = cut(full_model(network.settings), network.settings.backbone, network.names).state_dict()
    torch.save({"state": state, "names": network.names}, folder / "weights.pt")


def ours(folder: Path, ratio: float) -> dict[str, Any]:
    """Figures of the pipeline's run, its processor time and its memory."""
    shutil.rmtree(folder / "clone", ignore_errors=True)
    clone = Clone(folder / "clone")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    clone.run("adshift", "preset", "mvtec", "--data-root", str(folder / "data"))
    text = (clone.folder / "params.yaml").read_text(encoding="utf-8")
    for old, new in {
        "protocol: study ": "protocol: official ", "kind: synthetic ": "kind: none ", "  coreset: 0.05": f"  coreset: {ratio}",
    }.items():  # fmt: skip
        if old not in text:
            raise RuntimeError(f"params.yaml has no {old!r}")
        text = text.replace(old, new, 1)
    (clone.folder / "params.yaml").write_text(text, encoding="utf-8")
    clone.run("adshift", "repro", "--jobs", str(threads()), "evaluate", "evaluate_pixels")
    return {**_spent(before), **_measured(clone.folder)}


def _measured(folder: Path) -> dict[str, Any]:
    """{method: AUROC of images and pixels} of a run."""
    from adshift.runtime.files import read_json

    figures = {}
    for method in METHODS:
        image, pixel = (
            read_json(folder / "data/evaluation/mvtec" / level / f"{method}.json") for level in ("image", "pixel")
        )
        figures[method] = {
            "image_auroc": image["classes"]["part"]["clean"]["auroc"],
            "pixel_auroc": next(iter(pixel["part"].values()))["auroc"],
        }
    return figures


def _spent(before: resource.struct_rusage) -> dict[str, float]:
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime
    return {"processor_seconds": processor, "memory": now.ru_maxrss * 1024}


def peer(folder: Path, ratio: float) -> dict[str, Any]:
    """The same of anomalib's Engine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = alone("bench_job:engine", str(folder), ratio)
    return {**_spent(before), "memory": found["resident"], **{method: found[method] for method in METHODS}}


def engine(folder: str, ratio: float) -> dict[str, Any]:
    """For `alone`: fits and tests both of anomalib's models."""
    logging.disable(logging.WARNING)
    os.chdir(folder)
    import torch
    from anomalib.data import Folder
    from anomalib.engine import Engine
    from anomalib.models import Padim, Patchcore
    from anomalib.models.components import AnomalibModule

    from adshift.project import params

    torch.set_num_threads(threads())
    kept = torch.load("weights.pt", weights_only=True)
    name, padim = "tf_efficientnet_lite0", params_of(folder, "padim")
    masks = Path("data/part/ground_truth/defect")
    data = Folder(
        "part", root="data/part", normal_dir="train/good", normal_test_dir="test/good", abnormal_dir="test/defect",
        mask_dir="ground_truth/defect" if masks.is_dir() else None, val_split_mode="same_as_test", num_workers=threads(),
    )  # fmt: skip
    ready = Patchcore.configure_pre_processor((224, 224))
    models: dict[str, AnomalibModule] = {
        "patchcore": Patchcore(name, kept["names"][1:], pre_trained=False, coreset_sampling_ratio=ratio,
                               pre_processor=ready, visualizer=False),
        "padim": Padim(name, kept["names"], pre_trained=False, n_features=padim, pre_processor=ready, visualizer=False),
    }  # fmt: skip
    found = {}
    for method, model in models.items():
        loaded = model.model.feature_extractor.feature_extractor.load_state_dict(kept["state"], strict=False)
        assert not loaded.unexpected_keys, loaded.unexpected_keys
        trainer = Engine(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
                         enable_model_summary=False, default_root_dir=Path("results"))  # fmt: skip
        trainer.fit(model=model, datamodule=data)
        [figures] = trainer.test(model=model, datamodule=data, verbose=False)
        found[method] = {key: value for key, value in figures.items() if key in ("image_AUROC", "pixel_AUROC")}
    return {method: {key.lower(): value for key, value in figures.items()} for method, figures in found.items()}
