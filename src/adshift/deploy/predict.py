"""`adshift predict`: predict images, and print or write the results.

A file or folder that cannot be read is reported on standard error and in the records; all others are predicted.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adshift.data.image_files import Closed, Entry, Search
from adshift.data.images import SUFFIXES, read_bytes, read_image
from adshift.deploy.inference import Input, Model, Prediction
from adshift.errors import AdshiftError, shown
from adshift.runtime.parallel import map_ordered, progress, silent

RECORDS = "predictions.jsonl"
SIDE = 1024  # longer side of an overlay, in pixels, at most

NORMAL, ANOMALOUS, FAILED = 0, 1, 2  # exit codes


@dataclass(frozen=True)
class Wanted:
    """The outputs beside the scores.

    Attributes:
        out: folder of the records and pictures, None for none.
        overlays, masks: pictures in `out`.
        boxes: boxes of anomalous regions in the records.
        json: JSON records on standard output in place of text.
    """

    out: Path | None = None
    overlays: bool = False
    masks: bool = False
    boxes: bool = False
    json: bool = False


def predict(
    load: Callable[[], Model], sources: Iterable[str], wanted: Wanted, batch: int, lines: Iterable[str] = ()
) -> int:
    """Predict images and print or write the results; returns the exit code.

    Args:
        load: loads the model; called once, when the first image that exists is to be read.
        sources: files, folders, patterns, `-` for `lines` (`adshift.data.image_files`).
        wanted: what to write.
        batch: images in memory together.
        lines: paths, one per line, read as they arrive.

    Raises:
        AdshiftError: the folder `out` cannot be written.
    """
    sources, search = list(sources), Search()
    images: Iterable[Entry] = search.at(sources, lines)
    if "-" not in sources:
        images = list(images)
    total = len(images) if isinstance(images, list) else None
    counts = {NORMAL: 0, ANOMALOUS: 0, FAILED: 0}
    with ExitStack() as stack:
        file = None
        if wanted.out is not None:
            _make(wanted.out, wanted)
            file = stack.enter_context((wanted.out / RECORDS).open("w", encoding="utf-8"))
        model = cache(load)
        predictions = progress(_predictions(model, images, batch), what="predicting", total=total)
        for number, (name, one) in enumerate(predictions, start=1):
            picture = f"{number:06}-{_safe(Path(name).stem)}.png"
            record = {"image": name} | _described(one, wanted, picture, model)
            if "error" in record:
                counts[FAILED] += 1
                _print(f"error: {shown(record['error'])}", sys.stderr)
            else:
                counts[ANOMALOUS if record["anomalous"] else NORMAL] += 1
            line = json.dumps(record)
            if wanted.json:
                _print(line, sys.stdout)
            elif "error" not in record:
                _print(_line(record), sys.stdout)
            if file:
                file.write(line + "\n")
                file.flush()  # the results of a killed run are kept
    if search.passed:
        _print(shown(search.summary()), sys.stderr)
    if not sum(counts.values()):
        raise AdshiftError("no image", f"name files, or folders and patterns with {', '.join(SUFFIXES)}")
    if not wanted.json and sum(counts.values()) > 1:
        _print(f"{counts[NORMAL]} normal, {counts[ANOMALOUS]} anomalous, {counts[FAILED]} failed", sys.stderr)
    return FAILED if counts[FAILED] else ANOMALOUS if counts[ANOMALOUS] else NORMAL


def _predictions(
    load: Callable[[], Model], images: Iterable[Entry], batch: int
) -> Iterator[tuple[str, Prediction | AdshiftError]]:
    """(name, prediction or error) of all images in order, read and predicted in batches."""
    waiting = iter(images)
    model: Model

    def read(one: Entry) -> Input | AdshiftError:
        return one.error if isinstance(one, Closed) else _attempt(lambda: model.read(one))

    while entries := list(islice(waiting, batch)):
        if not any(isinstance(one, str) and os.path.exists(one) for one in entries):  # noqa: PTH110
            yield from ((one.path, one.error) if isinstance(one, Closed) else (one, _unread(one)) for one in entries)
            continue
        model = load()
        with silent():
            inputs = map_ordered(read, entries, what="reading")
        sound = [one for one in inputs if isinstance(one, Input)]
        results: Iterator[Prediction | AdshiftError]
        try:
            results = iter(model.predict(sound, batch))
        except AdshiftError:  # of one image: predict each alone
            results = iter([_attempt(partial(_alone, model, one)) for one in sound])
        for entry, one in zip(entries, inputs, strict=True):
            name = entry.path if isinstance(entry, Closed) else entry
            yield name, one if isinstance(one, AdshiftError) else next(results)


def _unread(path: str) -> AdshiftError:
    """Why a file that is not there cannot be read."""
    try:
        read_bytes(path)
    except AdshiftError as error:
        return error
    return AdshiftError(f"{path}: appeared while the images were read", "predict it again")


def _alone(model: Model, image: Input) -> Prediction:
    return model.predict([image])[0]


def _attempt(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except AdshiftError as error:
        return error


def _described(
    one: Prediction | AdshiftError, wanted: Wanted, picture: str, model: Callable[[], Model]
) -> dict[str, Any]:
    """Write the pictures; return the record without the name."""
    try:
        if isinstance(one, AdshiftError):
            raise one
        return _record(one, wanted) | _pictures(one, wanted, picture, model().bits)
    except AdshiftError as error:
        return {"error": error.what}


def _record(one: Prediction, wanted: Wanted) -> dict[str, Any]:
    record: dict[str, Any] = {
        "score": one.score,
        "threshold": one.threshold,
        "anomalous": one.anomalous,
        "seconds": round(one.seconds, 4),
    }
    if one.note:
        record["warning"] = one.note
    if wanted.boxes:
        record["map_threshold"] = one.map_threshold
        record["boxes"] = [
            {"box": region.box, "area": round(region.area, 1), "peak": region.peak} for region in one.regions
        ]
    return record


def _line(record: dict[str, Any]) -> str:
    verdict = "anomalous" if record["anomalous"] else "normal"
    values = f"{record['score']:10.4f} {record['threshold']:10.4f} {verdict:<9} {1000 * record['seconds']:7.1f} ms"
    boxes = "".join(f"  [{','.join(map(str, region['box']))}]" for region in record.get("boxes", ()))
    return f"{values}  {shown(record['image'])}{boxes}"


def _safe(stem: str) -> str:
    """A file's stem for use in another file's name: without separators and markup, and shortened."""
    return re.sub(r"[^\w.-]+", "_", stem, flags=re.ASCII).strip("._-")[:80] or "image"


def _make(out: Path, wanted: Wanted) -> None:
    try:
        for folder in (out, *(out / name for name in ("overlays", "masks") if getattr(wanted, name))):
            folder.mkdir(parents=True, exist_ok=True)
        (out / RECORDS).touch()
    except OSError as error:
        raise AdshiftError(f"{out}: cannot be written ({error.strerror})", "name another folder: --out DIR") from None


def _pictures(one: Prediction, wanted: Wanted, name: str, bits: int) -> dict[str, str]:
    """Write the pictures; {kind: path within `out`}. Names have the image's number, so that they are unique."""
    made: dict[str, str] = {}
    if wanted.out is not None and wanted.masks:
        made["mask"] = f"masks/{name}"
        Image.fromarray(one.mask().astype(np.uint8) * 255).save(wanted.out / made["mask"])
    if wanted.out is not None and wanted.overlays:
        made["overlay"] = f"overlays/{name}"
        Image.fromarray(overlay(one, read_image(one.name, bits))).save(wanted.out / made["overlay"])
    return made


def overlay(one: Prediction, pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8: the anomaly map over the image, anomalous regions outlined; at most SIDE pixels per side.

    The threshold has the middle colour, so that a normal image stays dark. `pixels` are the image's, (H, W, 3) uint8,
    also enlarged or reduced.
    """
    from adshift.report import pictures

    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    heat = one.geometry.enlarge(one.anomaly_map, image.height, image.width)
    empty = np.empty(0)
    scale = pictures.scale_of(empty, empty, one.map_threshold / one.threshold if one.threshold else 1.0, one.threshold)
    mixed = pictures.blend(np.asarray(image), scale.positions(heat), "cubehelix")
    mask = Image.fromarray(one.mask().astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST)
    mixed[pictures.outline(np.asarray(mask) > 0)] = pictures.FOUND
    return mixed


def _print(line: str, file: Any) -> None:
    """Print a line above the progress bar, and flush it."""
    from tqdm import tqdm

    with tqdm.external_write_mode(file=file):
        print(line, file=file, flush=True)
