"""From the command to the answer for one image, in a new process: imports, loading and judging.

startup             `adshift predict FILE.onnx` against anomalib's TorchInferencer with the same weights and bank
startup.openvino    the same against its OpenVINOInferencer
startup.directory   `adshift predict DIRECTORY`, with torch, against the TorchInferencer
startup.absent      `adshift predict FILE.onnx` of a path that does not exist
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_serve import exported
from harness import Entry, at_most, entry, measure, share
from PIL import Image

SECONDS = 1.0
# A process counts what its parent held when it forked: the command's parent is one that holds little.
ALONE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
PEER = """
import sys
from anomalib.deploy import {name}
print(float({name}({path!r}, device={device!r}).predict({image!r}).pred_score.item()))
"""


def run(fitted: int = 60, rounds: int = 5) -> dict[str, Entry]:
    """Entries; `fitted` images fit the model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, directory, files = exported(folder, fitted)
        image = str(files[0].resolve())
        torch, openvino = _peers(folder, directory, image)
        calls = {
            "file": lambda: _adshift(str(file), image, codes=(0, 1)),
            "directory": lambda: _adshift(str(directory), image, codes=(0, 1)),
            "absent": lambda: _adshift(str(file), f"{image}.absent", codes=(2,)),
            "torch": lambda: _peer("TorchInferencer", torch, "cpu", image),
            "openvino": lambda: _peer("OpenVINOInferencer", openvino, "CPU", image),
        }
        found = measure(calls, rounds)
    for record in found.values():
        record["memory"] = record.pop("result")
    first = at_most("seconds to the answer", found["file"]["seconds"], SECONDS)
    absent = at_most("seconds to refuse a path", found["absent"]["seconds"], SECONDS)
    return {
        "startup": entry(found, first, at_most("ours / TorchInferencer", share(found, "file", "torch"), 1), ours="file",
                         peer="torch", of="part"),
        "startup.openvino": entry(found, at_most("ours / OpenVINOInferencer", share(found, "file", "openvino"), 1),
                                  ours="file", peer="openvino", of="part"),
        "startup.directory": entry(found, ours="directory", peer="torch", of="part"),
        "startup.absent": entry(found, absent, ours="absent", peer="", of="a path"),
    }  # fmt: skip


def _adshift(model: str, image: str, codes: tuple[int, ...]) -> int:
    return _run([sys.executable, "-m", "adshift.cli", "predict", model, image], codes)


def _peer(name: str, path: Path, device: str, image: str) -> int:
    return _run(
        [sys.executable, "-c", PEER.format(name=name, path=str(path), device=device, image=image)], (0,), path.parent
    )


def _run(command: list[str], codes: tuple[int, ...], folder: Path | None = None) -> int:
    """Run a command in a folder, where OpenVINO leaves a cache; bytes of its process at the peak."""
    trust = os.environ | {"TRUST_REMOTE_CODE": "1"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ALONE, *command],
        check=False, capture_output=True, text=True, env=trust, cwd=folder,
    )  # fmt: skip
    if done.returncode not in codes:
        raise RuntimeError(f"{command[1:4]} ended with {done.returncode}\n{done.stderr[-2000:]}")
    return 1024 * int(done.stdout.splitlines()[-1])


def _peers(folder: Path, directory: Path, image: str) -> tuple[Path, Path]:
    """anomalib's PatchCore with the network and the bank of a model directory, for images of this one's size."""
    with Image.open(image) as opened:
        size = [str(opened.height), str(opened.width)]
    command = [sys.executable, __file__, str(folder), str(directory), *size]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    torch, openvino = json.loads(answer.splitlines()[-1])
    return Path(torch), Path(openvino)


def _export(folder: Path, directory: Path, size: tuple[int, int]) -> list[str]:
    import torch
    from anomalib.models import Patchcore

    from adshift.deploy.directory import DirectoryModel
    from adshift.features.backbones import cut, full_model

    ours: Any = DirectoryModel(directory)
    net = ours.backbone
    names = [net.names[level - 1] for level in ours.detector.settings.layers]
    peer = Patchcore(backbone=net.settings.backbone, layers=names, pre_trained=False)
    peer.model.memory_bank = torch.from_numpy(ours.detector.bank)
    weights = cut(full_model(net.settings), net.settings.backbone, net.names).state_dict()
    peer.model.feature_extractor.feature_extractor.load_state_dict(weights, strict=False)
    peer.eval()
    # By default anomalib 2.7 exports a dynamic batch, which PatchCore fixes at 2; its inferencer sends 1.
    fixed = {"dynamic_axes": None, "dynamic_shapes": None}
    return [str(peer.to_torch(folder)), str(peer.to_openvino(folder, input_size=size, onnx_kwargs=fixed))]


if __name__ == "__main__":
    height, width = map(int, sys.argv[3:])
    print(json.dumps(_export(Path(sys.argv[1]), Path(sys.argv[2]), (height, width))))
