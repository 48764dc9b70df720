"""Load and faults: clients, a camera over MQTT and a watched folder send images while the sinks go up and down.

    python tests/line/load.py [--seconds N] [--record]

Afterwards every image that was accepted must have its verdict in the journal, the JSON lines, the webhook's receiver
and the broker's subscriber: at least once on the wire, exactly once by id. Memory must not grow. `--record` writes
docs/results/serve.json. Exit code: 1 if a verdict is missing or memory grew.
"""

import argparse
import json
import os
import platform
import random
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "support")]

import httpx  # noqa: E402

import line  # noqa: E402
import plain_model  # noqa: E402

CLIENTS = 8
FLAT = 1.05  # memory at the end divided by that after the warm-up, at most
MANY = 20_000  # images from which on memory is judged: before, caches fill
WARM = 0.2  # share of the time that is the warm-up
RECORD = ROOT / "docs" / "results" / "serve.json"
PICTURES = [plain_model.picture(brightness) for brightness in range(40, 220, 4)]


class Load:
    """What sends images, and what it was told."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.accepted: list[str] = []
        self.seconds: list[float] = []
        self.busy = self.broken = self.dropped = 0
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]
        self._threads.append(threading.Thread(target=self._writer))
        for thread in self._threads:
            thread.start()

    def _client(self, number: int) -> None:
        draw = random.Random(number)
        with httpx.Client(timeout=30) as client:
            while not self._end.is_set():
                start = time.perf_counter()
                try:
                    answer = client.post(f"{self.url}/v1/models/nut/predict", content=draw.choice(PICTURES))
                except httpx.TransportError:  # the service is started again
                    self.broken += 1
                    time.sleep(0.2)
                    continue
                with self._lock:
                    if answer.status_code == 200:
                        self.accepted.append(answer.json()["results"][0]["id"])
                        self.seconds.append(time.perf_counter() - start)
                    elif answer.status_code == 429:
                        self.busy += 1
                        time.sleep(0.05)
                    else:
                        raise RuntimeError(answer.text)

    def _writer(self) -> None:
        draw, number = random.Random(99), 0
        while not self._end.is_set():
            (self.folder / f"{number:06}.png").write_bytes(draw.choice(PICTURES))
            number += 1
            self._end.wait(0.2)
        self.dropped = number

    def end(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description="Load and faults of the service.")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--record", action="store_true", help="write docs/results/serve.json")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        record = run(Path(name), chosen.seconds)
    print(json.dumps(record, indent=1))
    if chosen.record:
        RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if any(record["missing"].values()):
        sys.exit("error: verdicts are missing")
    if record["memory"]["ratio"] > FLAT and record["journal"] >= MANY:
        sys.exit("error: memory grew")


def run(folder: Path, seconds: float) -> dict[str, Any]:
    """The run's record."""
    watched = folder / "in"
    watched.mkdir()
    model = plain_model.write(folder / "nut.onnx")
    broker, receiver = line.Mosquitto(folder / "broker"), line.Receiver()
    subscriber = line.Subscriber(broker.port, "plant")
    words = (model, "--watch", watched, "--webhook", receiver.url, "--jsonl", folder / "v.jsonl", "--jsonl-mib", "4",
             "--jsonl-files", "10000", "--mqtt", f"mqtt://127.0.0.1:{broker.port}/plant", "--queue", "16")  # fmt: skip
    serving = line.Serving(folder, *words)
    load = Load(serving.url, watched)
    start, faults, memory = time.monotonic(), [], []
    draw = random.Random(0)
    try:
        while (now := time.monotonic() - start) < seconds:
            memory.append((now, serving.memory(), len(load.accepted)))
            if not faults or now - faults[-1][0] > max(4.0, seconds / 40):
                faults.append((now, _fault(draw, receiver, broker)))
            time.sleep(1.0)
    finally:
        load.end()
    receiver.failing = None
    if broker.process is None:
        broker.start()
    line.wait(lambda: not any(watched.glob("*.png")), 120)
    line.wait(lambda: all(" 0.0" in one for one in _waiting(serving)), 300)
    took = serving.end(signal.SIGTERM)
    subscriber.end(), receiver.end(), broker.end()
    return _record(folder, seconds, load, faults, memory, took, {"webhook": receiver.got, "mqtt": subscriber.got})


def _fault(draw: random.Random, receiver: line.Receiver, broker: line.Mosquitto) -> str:
    """Let one of the sinks fail, or be well again."""
    if broker.process is None:
        broker.start()
        return "the broker is back"
    if receiver.failing:
        receiver.failing = None
        return "the receiver is back"
    kind = draw.choice(["broker", 500, 503, "drop"])
    if kind == "broker":
        broker.end()
        return "the broker is down"
    receiver.failing = kind
    return f"the receiver fails: {kind}"


def _waiting(serving: line.Serving) -> list[str]:
    text = httpx.get(f"{serving.url}/metrics", timeout=10).text
    return [one for one in text.splitlines() if one.startswith("adshift_waiting{")]


def _record(
    folder: Path, seconds: float, load: Load, faults: list[tuple[float, str]], memory: list[tuple[float, int, int]],
    took: float, wire: dict[str, list[str]],
) -> dict[str, Any]:  # fmt: skip
    files = sorted(folder.glob("v.jsonl*"), key=lambda path: int(path.suffix[1:]) if path.suffix[1:].isdigit() else 0)
    lines = [json.loads(text)["id"] for path in reversed(files) for text in path.read_text().splitlines()]
    database = sqlite3.connect(folder / "state" / "journal.sqlite")
    last = database.execute("SELECT MAX(seq) FROM verdicts").fetchone()[0]
    database.close()
    accepted, sinks = set(load.accepted), {"jsonl": lines, **wire}
    every = set(lines)  # of HTTP and of the watched folder
    warm = [size for now, size, _ in memory if now >= WARM * seconds]
    quarter = max(1, len(warm) // 4)
    sizes = [sum(part) / len(part) for part in (warm[:quarter], warm[-quarter:])]
    milliseconds = sorted(1000 * one for one in load.seconds)
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "hardware": {"cores": os.cpu_count(), "machine": platform.machine()},
        "seconds": seconds,
        "model": "mean brightness: what is measured is the service",
        "clients": CLIENTS,
        "accepted_http": len(load.accepted),
        "watched": load.dropped,
        "journal": last,
        "told_to_come_again": load.busy,
        "connections_broken": load.broken,
        "faults": len(faults),
        "kinds_of_faults": sorted({kind for _, kind in faults}),
        "missing": {
            **{name: len((accepted | every) - set(got)) for name, got in sinks.items()},
            "watched folder": load.dropped - (len(every) - len(accepted)),
        },
        "repeated_on_the_wire": {name: len(got) - len(set(got)) for name, got in sinks.items()},
        "milliseconds": {f"p{share}": round(milliseconds[share * len(milliseconds) // 100], 1) for share in (50, 99)},
        "memory": {"first": round(sizes[0]), "last": round(sizes[1]), "ratio": round(sizes[1] / sizes[0], 4)},
        "seconds_to_end": round(took, 2),
    }


if __name__ == "__main__":
    main()
