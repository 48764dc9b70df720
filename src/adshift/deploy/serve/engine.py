"""Images in, verdicts out: what every input shares.

An image is accepted if the queue and the spools have room; then it is decoded, judged and written to the journal, and
its verdict is answered. What was accepted is answered, also while the service ends.
"""

import base64
import io
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adshift.data import images as files
from adshift.data.shapes import sides
from adshift.deploy.predict import overlay
from adshift.deploy.prediction import Input, Prediction
from adshift.deploy.serve.journal import Journal
from adshift.deploy.serve.measured import Measured
from adshift.deploy.serve.rejects import Rejects
from adshift.deploy.serve.served import Current, Drift, Served
from adshift.deploy.serve.settings import Settings
from adshift.deploy.serve.sinks import Sender, Sink
from adshift.errors import AdshiftError
from adshift.runtime.parallel import thread_count

PICTURES = 48  # of the last images of a model that are kept in memory, as the network saw them
NAME = 200  # characters of an image's name that are kept


class BusyError(Exception):
    """No image is accepted now: the message says why."""


class RefusedError(AdshiftError):
    """An image that cannot be judged; `status` is HTTP's."""

    def __init__(self, status: int, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.status = status


@dataclass(frozen=True)
class Wanted:
    """Pictures of an answer, PNG in base64."""

    map: bool = False
    mask: bool = False
    overlay: bool = False


@dataclass
class Recent:
    """A judged image, as the network saw it."""

    prediction: Prediction
    pixels: np.ndarray


@dataclass
class _Line:
    """A model's state beside the model."""

    served: Served
    drift: Drift
    recent: "dict[str, Recent]" = field(default_factory=dict)
    order: deque[str] = field(default_factory=deque)


class Engine:
    """Models, their queue, the journal and the sinks.

    Attributes:
        served: {name: model}.
        senders: one for each sink.
        ending: no image is accepted any more.
    """

    def __init__(self, settings: Settings, sinks: Sequence[Sink]) -> None:
        """Load the models and open the journal.

        Raises:
            AdshiftError: a model is damaged or missing, or the journal is in use.
        """
        self.settings, self.ending = settings, False
        lines = {name: Served(name, path) for name, path in settings.models.items()}
        self.journal = Journal(
            settings.state, [sink.name for sink in sinks], settings.limits.kept, settings.limits.spool
        )
        self._lines = {name: _Line(one, Drift(one, self.journal, settings.drift)) for name, one in lines.items()}
        self.served = lines
        self.senders = [Sender(sink, self.journal) for sink in sinks]
        self.measured = Measured(self)
        outputs = settings.outputs
        self.rejects = Rejects(outputs.rejects, outputs.rejects_kept, outputs.rejects_days) if outputs.rejects else None
        self._in_flight, self._lock = 0, threading.Condition()
        self._pool = ThreadPoolExecutor(thread_count() + 1, "judge")
        self._looks = ThreadPoolExecutor(1, "drift")

    @property
    def in_flight(self) -> int:
        """Images accepted and not yet judged."""
        return self._in_flight

    def drift(self, name: str) -> Drift:
        """The drift verdict of a model."""
        return self._lines[name].drift

    def picture(self, name: str, identity: str) -> Recent | None:
        """One of the last images of a model."""
        return self._lines[name].recent.get(identity)

    def accept(self, count: int) -> None:
        """Take the place of `count` images in the queue; `release` gives it back.

        Raises:
            BusyError: the queue or a spool is full, or the service ends.
        """
        if full := self.journal.full:
            raise BusyError(f"verdicts that wait for {', '.join(full)} fill the spool")
        with self._lock:
            if self.ending:
                raise BusyError("the service ends")
            if self._in_flight + count > self.settings.limits.queue:
                raise BusyError(f"{self._in_flight} images are waiting, at most {self.settings.limits.queue} may")
            self._in_flight += count

    def release(self, count: int = 1) -> None:
        """`count` images are judged, or could not be."""
        with self._lock:
            self._in_flight -= count
            self._lock.notify_all()

    @contextmanager
    def accepted(self) -> Iterator[None]:
        """Within: one image is in flight; errors as for `accept`."""
        self.accept(1)
        try:
            yield
        finally:
            self.release()

    def submit(self, name: str, data: bytes, file: str, source: str, wanted: Wanted) -> "Future[dict[str, Any]]":
        """Judge an image that was accepted, in another thread, also if nobody waits for it; errors as for `judge`."""
        future = self._pool.submit(self.judge, name, data, file, source, wanted)
        future.add_done_callback(lambda _: self.release())
        return future

    def judge(self, name: str, data: bytes, file: str, source: str, wanted: Wanted = Wanted()) -> dict[str, Any]:
        """The verdict of an image; it is in the journal when this returns.

        Args:
            name: of the model.
            data: the image's file.
            file: its name.
            source: that it came from: http, watch or mqtt.
            wanted: pictures to add to the answer.

        Raises:
            RefusedError: the image cannot be judged.
            AdshiftError: the journal cannot be written.
        """
        start, line = time.perf_counter(), self._lines[name]
        current, file = line.served.current, _shortened(file)
        try:
            image = self._read(current, data, file)
            prediction = current.model.predict([image], 1)[0]
        except RefusedError as error:
            self.measured.refused(name, error.status)
            raise
        seconds = time.perf_counter() - start
        record = _record(current, name, file, source, prediction, seconds)
        self.journal.add(record)
        self.measured.judged(name, prediction.anomalous, seconds)
        for sender in self.senders:
            sender.wake()
        self._remember(line, current, record["id"], image, prediction)
        if prediction.anomalous and self.rejects:
            self.rejects.add(record["id"], data, file)
        return record | _pictures(prediction, image, wanted)

    def end(self, until: float) -> None:
        """Accept no more, wait for what was accepted, and close the journal, at most until a time of `monotonic`."""
        with self._lock:
            self.ending = True
            self._lock.wait_for(lambda: not self._in_flight, max(0.0, until - time.monotonic()))
        for sender in self.senders:
            sender.end()
        for sender in self.senders:
            sender.join(until)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._looks.shutdown(wait=False, cancel_futures=True)
        self.journal.close()

    def _read(self, current: Current, data: bytes, file: str) -> Input:
        if not data:
            raise RefusedError(400, f"{file}: empty", "send the bytes of an image file")
        most = self.settings.limits.pixels
        if _pixels(data, file) > most:
            message = f"{file}: more than {most / 1e6:g} megapixels"
            raise RefusedError(413, message, "reduce the image, it would be shrunk anyway; or --max-megapixels")
        try:
            return current.model.read(data, file)
        except AdshiftError as error:
            raise RefusedError(422, error.what, error.remedy) from None

    def _remember(self, line: _Line, current: Current, identity: str, image: Input, prediction: Prediction) -> None:
        with self._lock:
            line.recent[identity] = Recent(prediction, image.pixels)
            line.order.append(identity)
            if len(line.order) > PICTURES:
                del line.recent[line.order.popleft()]
        if line.drift.add(current, prediction.score, prediction.features) and not self.ending:
            self._looks.submit(line.drift.look)


def _record(current: Current, name: str, file: str, source: str, one: Prediction, seconds: float) -> dict[str, Any]:
    record = {
        "id": uuid.uuid4().hex,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "model": name,
        "model_id": current.identity,
        "threshold": one.threshold,
        "threshold_from": current.origin,
        "source": source,
        "image": file,
        "score": one.score,
        "anomalous": one.anomalous,
        "boxes": [{"box": region.box, "area": round(region.area, 1), "peak": region.peak} for region in one.regions],
        "seconds": round(seconds, 4),
    }
    return record | ({"warning": one.note} if one.note else {})


def _pictures(one: Prediction, image: Input, wanted: Wanted) -> dict[str, str]:
    made: dict[str, str] = {}
    if wanted.map:
        top = max(float(one.anomaly_map.max()), one.map_threshold, 1e-12)
        made["map"] = encoded((one.anomaly_map.clip(0) / top * 255).astype(np.uint8))
        made["map_of_255"] = repr(top)
    if wanted.mask:
        made["mask"] = encoded(one.mask().astype(np.uint8) * 255)
    if wanted.overlay:
        made["overlay"] = encoded(seen(one, image.pixels))
    return made


def seen(one: Prediction, pixels: np.ndarray) -> np.ndarray:
    """The overlay of an image as the network saw it, in the image's aspect: (h, w, 3) uint8."""
    geometry = one.geometry
    (height, width), cut = sides(geometry.resize), sides(geometry.size)
    if pixels.shape[:2] == cut != (height, width):  # a directory's network sees the centre alone
        (top, left), centre = geometry.start, pixels
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[top : top + cut[0], left : left + cut[1]] = centre
    scale = max(height, width) / max(geometry.height, geometry.width)
    shape = max(1, round(geometry.width * scale)), max(1, round(geometry.height * scale))
    return overlay(one, np.asarray(Image.fromarray(pixels).resize(shape, Image.Resampling.BILINEAR)))


def encoded(picture: np.ndarray) -> str:
    """A picture as PNG in base64."""
    return base64.b64encode(png(picture)).decode()


def png(picture: np.ndarray) -> bytes:
    """A picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _pixels(data: bytes, file: str) -> float:
    """Number of pixels that an image file says it has, from its header alone.

    Raises:
        RefusedError: it is no image.
    """
    try:
        with Image.open(io.BytesIO(data), formats=files.FORMATS) as image:
            return image.width * image.height
    except Image.DecompressionBombError:
        return float("inf")
    except Exception:  # a damaged file makes Pillow's readers trip in many ways
        raise RefusedError(415, f"{file}: not an image", f"send one of {', '.join(files.SUFFIXES)}") from None


def _shortened(file: str) -> str:
    """A name from a request or a folder: the last part, printable and short. It is never used as a path."""
    last = Path(file.replace("\\", "/")).name or "image"
    return "".join(one if one.isprintable() else "?" for one in last)[:NAME]
