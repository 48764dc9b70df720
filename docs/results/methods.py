"""Every method on the same images: bytes of its model, time and memory of its fit, time to score, metrics.

Run from the repository's root; needs nothing of the pipeline but params.yaml:

    python docs/results/methods.py docs/results/magnetic_tile/methods.csv \\
        --dataset magnetic_tile --root DATA/magnetic_tile --name tile

Fits on at most 100 images of train/good and tests on at most 100 normal and 100 defective ones, settings as params.yaml
has them, one seed for all, so that a bank and its quantized twin hold the same rows. Each method runs in a process of
its own: features on disk to model on disk, then the model's scores and maps of all test images, three rounds and their
medians. Memory is the peak of the fit beside what the process held before (resident, without what lies in mapped
files). A table beside the CSV shows it for reading, and what it was made with.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

from embedded import arguments, embedded, masks, write

from adshift.detectors import registry
from adshift.evaluation.metrics.pixel import pixel_metrics
from adshift.evaluation.metrics.ranking import auroc
from adshift.project import params
from adshift.runtime import provenance, seeding

METHODS = ("patchcore", "patchcore_pq", "padim", "padim_streaming", "padim_diagonal", "stfpm", "paste", "cfa")
ROUNDS = {"stfpm": 1, "paste": 1, "cfa": 1}  # they train for minutes
TRAIN, TEST = 100, 100


def main() -> None:
    args = arguments(__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.features or Path(temporary)
        embedded(args.dataset, args.root, args.name, TRAIN, TEST, folder)
        table = []
        for method in METHODS:
            command = [sys.executable, __file__, "--alone", method, args.dataset, args.root, args.name, str(folder)]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            table.append(json.loads(answer.splitlines()[-1]))
    write(args.out, table)
    made = provenance.sentence(provenance.provenance())
    with args.out.with_suffix(".md").open("a", encoding="utf-8") as page:
        page.write(f"\n`python {' '.join(sys.argv)}`: {made}.\n")


def alone(method: str, dataset: str, root: str, name: str, folder: str) -> dict[str, Any]:
    """A method's row."""
    train, test, bad = embedded(dataset, root, name, TRAIN, TEST, Path(folder))
    section = dict(getattr(params.load(method), method))
    halves = {half: schema.within(section) for half, schema in registry.schemas(method).items()}
    registry.warm_up(method)
    fits, scores, peaks = [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(ROUNDS.get(method, 3)):
            model = Path(temporary) / str(number)
            watch, start = Watch(), time.perf_counter()
            detector = registry.detector_class(method)(halves["fit"])
            detector.fit(train, seeding.generator(42, "methods"))
            detector.save(model)
            fits.append(time.perf_counter() - start)
            peaks.append(watch.stop())
            detector = registry.detector_class(method).load(model)
            detector.predict(test[:2], halves["score"])
            start = time.perf_counter()
            found = detector.predict(test, halves["score"])
            scores.append((time.perf_counter() - start) / len(test))
        size = sum(file.stat().st_size for file in model.iterdir())
    pixels = pixel_metrics(found.full_maps(), masks(dataset, root, name, test, Path(folder)), 0.3, bad)
    return {
        "method": method,
        "model_bytes": size,
        "fit_s": round(median(fits), 3),
        "fit_MB": round(max(peaks) / 1e6, 1),
        "score_ms": round(1000 * median(scores), 2),
        "image_auroc": round(auroc(found.scores, bad), 4),
        "pixel_auroc": round(pixels.auroc, 4),
        "pro": round(pixels.pro, 4),
    }


class Watch:
    """The peak of this process's anonymous memory beyond what it held, in bytes, looked at every 5 ms."""

    def __init__(self) -> None:
        self.start = self.peak = anonymous()
        self.running = True
        self.thread = threading.Thread(target=self._look)
        self.thread.start()

    def _look(self) -> None:
        while self.running:
            self.peak = max(self.peak, anonymous())
            time.sleep(0.005)

    def stop(self) -> int:
        """The peak, and no more looking."""
        self.running = False
        self.thread.join()
        return self.peak - self.start


def anonymous() -> int:
    """Bytes of this process's memory that are no file's content."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        print(json.dumps(alone(*sys.argv[2:])))
    else:
        main()
