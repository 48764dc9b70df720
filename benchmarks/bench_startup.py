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

SECONDS = 1.0
PEER = """
import sys
from anomalib.deploy import {name}
print(float({name}({path!r}, device={device!r}).predict({image!r}).pred_score))
"""


def run(fitted: int = 60, rounds: int = 5) -> dict[str, Entry]:
    """Entries; `fitted` images fit the model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, directory, files = exported(folder, fitted)
        torch, openvino = _peers(folder, directory)
        image = str(files[0])
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
    return _run([sys.executable, "-c", PEER.format(name=name, path=str(path), device=device, image=image)], (0,))


def _run(command: list[str], codes: tuple[int, ...]) -> int:
    """Run a command; bytes of its process at the peak."""
    trust = os.environ | {"TRUST_REMOTE_CODE": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=trust)
    assert process.stderr
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode not in codes:
        raise RuntimeError(f"{command[1:4]} ended with {process.returncode}\n{told.decode()[-2000:]}")
    peak: int = usage.ru_maxrss * 1024
    return peak


def _peers(folder: Path, directory: Path) -> tuple[Path, Path]:
    """anomalib's PatchCore with the network and the bank of a model directory, exported as anomalib does."""
    answer = subprocess.run(
        [sys.executable, __file__, str(folder), str(directory)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    torch, openvino = json.loads(answer.splitlines()[-1])
    return Path(torch), Path(openvino)


def _export(folder: Path, directory: Path) -> list[str]:
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
    side = ours.resize if isinstance(ours.resize, int) else ours.resize[0]
    return [str(peer.to_torch(folder)), str(peer.to_openvino(folder, input_size=(side, side)))]


if __name__ == "__main__":
    print(json.dumps(_export(Path(sys.argv[1]), Path(sys.argv[2]))))
