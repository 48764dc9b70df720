"""The service beside the bare model: latency of a request, at half of full load, throughput, memory over many requests.

    serve               a request over HTTP against `Model.predict` of the same file's bytes, one at a time
    serve.load          seconds per image of 8 clients at once against `Model.predict`, one image after another

The model is PatchCore on the default backbone, exported; client and service share the processors, so the bare model
has what the client takes.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from harness import HERE, Entry, at_most, backbone, embedded, entry, patchcore, pictures

sys.path.append(str(HERE.parent / "tests" / "support"))

CLIENTS = 8
LATENCY, TAIL, THROUGHPUT, FLAT = 1.2, 2.0, 0.9, 1.05


def exported(folder: Path, fitted: int = 60) -> tuple[Path, Path, list[Path]]:
    """An exported PatchCore, its model directory, and images."""
    from adshift.deploy import export
    from adshift.runtime.files import write_json

    files = pictures(folder, fitted).normal
    detector, scoring = patchcore()
    detector.fit(embedded(files, backbone("lite0", folder), folder / "features"), np.random.default_rng(0))
    directory = folder / "part" / "clean"
    detector.save(directory)
    write_json(directory / "score.json", dict(scoring))
    write_json(directory / "threshold.json", {"threshold": 40.0, "rule": "f1_grid", "map_ratio": 1.0})
    export.export(directory, scoring, folder / "part.onnx")
    return folder / "part.onnx", directory, files


def run(fitted: int = 60, rounds: int = 200, many: int = 20_000) -> dict[str, Entry]:
    """Entries.

    Args:
        fitted: images that the model is fitted on.
        rounds: requests of each measurement.
        many: requests over which memory is to stay flat.
    """
    import httpx

    import adshift
    import line

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, _, files = exported(folder, fitted)
        data = [path.read_bytes() for path in files[:10]]
        model = adshift.load(file)
        bare = _spent(lambda index: model.predict(data[index % 10]), rounds)
        serving = line.Serving(folder, file, "--drift", "0", "--kept", "1000")
        url = f"{serving.url}/v1/models/part/predict"
        try:
            with httpx.Client() as client:
                request = _spent(lambda index: client.post(url, content=data[index % 10]).raise_for_status(), rounds)
                full = 1 / np.median(request)
                half = _paced(lambda index: client.post(url, content=data[index % 10]), rounds, full / 2)
            loaded = _together(url, data, 4 * rounds)
            first = serving.memory()
            done = 4 * rounds
            while done < many:
                _together(url, data, 500)
                done += 500
            last = serving.memory()
        finally:
            serving.end()
    p50, p99 = (float(np.percentile(half, share)) for share in (50, 99))
    one = entry(
        {"ours": _record(request, last), "peer": _record(bare)},
        at_most("request / Model.predict, p50", np.median(request) / np.median(bare), LATENCY),
        at_most("p99 / p50 at half of full load", p99 / p50, TAIL),
        at_most(f"memory after {many:,} requests / before", last / first, FLAT),
        of="part", p99_ms=round(1000 * p99, 2), requests=done,
    )  # fmt: skip
    load = {"ours": _record([loaded], last), "peer": _record([float(np.mean(bare))])}
    target = at_most("bare throughput / service's", loaded / np.mean(bare), 1 / THROUGHPUT)
    return {"serve": one, "serve.load": entry(load, target, of="part", clients=CLIENTS)}


def _record(spent: list[float], memory: int | None = None) -> dict[str, Any]:
    """A contender's record; the bare model runs in this process, whose memory is that of the clients too."""
    return {"seconds": float(np.median(spent)), "all": spent, "memory": memory}


def _spent(call: Callable[[int], Any], rounds: int) -> list[float]:
    """Seconds of each call, after ten that are not counted."""
    spent = []
    for index in range(rounds + 10):
        start = time.perf_counter()
        call(index)
        spent.append(time.perf_counter() - start)
    return spent[10:]


def _paced(call: Callable[[int], Any], rounds: int, rate: float) -> list[float]:
    """Seconds of calls that start at a rate; a late one counts from when it was due."""
    spent, begin = [], time.perf_counter()
    for index in range(rounds):
        due = begin + index / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        call(index)
        spent.append(time.perf_counter() - due)
    return spent


def _together(url: str, data: list[bytes], count: int) -> float:
    """Seconds per image of clients that all send as fast as they are answered."""
    import httpx

    def work(number: int) -> None:
        with httpx.Client(timeout=60) as client:
            for index in range(count // CLIENTS):
                client.post(url, content=data[(number + index) % len(data)]).raise_for_status()

    start = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(CLIENTS)))
    return (time.perf_counter() - start) / (count // CLIENTS * CLIENTS)
