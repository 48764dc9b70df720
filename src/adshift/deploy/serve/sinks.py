"""Where verdicts go: JSON lines, a webhook, MQTT. One thread a sink sends what waits in the journal, in order.

A sink that is down is tried again after pauses that double up to `LONGEST` seconds. Nothing is skipped.
"""

import json
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from adshift.deploy.serve.journal import Journal
from adshift.deploy.serve.settings import Outputs
from adshift.errors import AdshiftError

BATCH = 32  # verdicts taken from the journal at a time
SHORTEST, LONGEST = 0.2, 15.0  # seconds between two attempts
TIMEOUT = 5.0  # seconds for an attempt
MQTT_PORTS = {"mqtt": 1883, "mqtts": 8883}


class UndeliveredError(Exception):
    """A sink did not take a verdict; the message says why."""


class Sink(ABC):
    """Something that takes verdicts.

    Attributes:
        name: in the journal, in metrics and on the page.
    """

    name: str

    @abstractmethod
    def send(self, records: Sequence[str]) -> int:
        """Send JSON records in order; the number that were taken.

        Raises:
            UndeliveredError: the first one was not taken.
        """

    def close(self) -> None:  # noqa: B027  (most hold nothing)
        """Give back what is held."""


class JsonLines(Sink):
    """A file, and a new one when it has its size: FILE, FILE.1 (the one before), FILE.2 ..."""

    name = "jsonl"

    def __init__(self, path: Path, size: int, files: int) -> None:
        self.path, self.size, self.files = path, size, files

    def send(self, records: Sequence[str]) -> int:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.is_file() and self.path.stat().st_size >= self.size:
                self._rotate()
            before = self.path.stat().st_size if self.path.exists() else 0
            with self.path.open("a", encoding="utf-8") as file:
                try:
                    file.write("".join(f"{record}\n" for record in records))
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(self.path, before)  # no half line
                    raise
        except OSError as error:
            raise UndeliveredError(f"{self.path}: {error.strerror}") from None
        return len(records)

    def _rotate(self) -> None:
        names = [self.path, *(self.path.with_name(f"{self.path.name}.{number}") for number in range(1, self.files))]
        for new, old in zip(reversed(names), reversed(names[:-1]), strict=False):
            if old.exists():
                old.replace(new)
        if self.files == 1:
            self.path.unlink()


class Webhook(Sink):
    """A URL; each verdict is the body of a POST, and any answer 2xx takes it."""

    name = "webhook"

    def __init__(self, url: str) -> None:
        import httpx

        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise AdshiftError(f"--webhook {url}: no URL", "give one such as http://mes.example:8080/verdicts")
        self.url = url
        self._client = httpx.Client(timeout=TIMEOUT, follow_redirects=False)

    def send(self, records: Sequence[str]) -> int:
        import httpx

        for count, record in enumerate(records):
            headers = {"Content-Type": "application/json", "Idempotency-Key": json.loads(record)["id"]}
            try:
                answer = self._client.post(self.url, content=record, headers=headers)
                reason = "" if answer.is_success else f"answered {answer.status_code}"
            except httpx.HTTPError as error:
                reason = str(error) or type(error).__name__
            if reason:
                if count:
                    return count
                raise UndeliveredError(reason)
        return len(records)

    def close(self) -> None:
        self._client.close()


class Mqtt(Sink):
    """A broker: verdicts go to PREFIX/MODEL/verdict, at least once."""

    name = "mqtt"

    def __init__(self, client: Any, prefix: str) -> None:
        self._client, self._prefix = client, prefix

    def send(self, records: Sequence[str]) -> int:
        for count, record in enumerate(records):
            topic = f"{self._prefix}/{json.loads(record)['model']}/verdict"
            try:
                if not self._client.is_connected():
                    raise RuntimeError("not connected")
                message = self._client.publish(topic, record, qos=1)
                message.wait_for_publish(TIMEOUT)
                if not message.is_published():
                    raise RuntimeError("the broker does not acknowledge")
            except (RuntimeError, ValueError, OSError) as error:
                if count:
                    return count
                raise UndeliveredError(str(error)) from None
        return len(records)


def broker(url: str) -> tuple[dict[str, Any], str]:
    """Where a broker is, and the prefix of topics, of `mqtt://[USER:PASSWORD@]HOST[:PORT]/PREFIX`.

    Raises:
        AdshiftError: it is no such URL.
    """
    parts = urlsplit(url)
    try:
        port = parts.port or MQTT_PORTS[parts.scheme]
    except (KeyError, ValueError):
        port = 0
    prefix = parts.path.strip("/")
    if not port or not parts.hostname or not prefix or set(prefix) & set("+#"):
        shown = f"{parts.scheme}://{parts.hostname}{parts.path}"  # without a password
        raise AdshiftError(f"--mqtt {shown}: no broker and prefix", "give mqtt://[USER:PASSWORD@]HOST[:PORT]/PREFIX")
    about = {"host": parts.hostname, "port": port, "tls": parts.scheme == "mqtts"}
    user, password = (unquote(part) if part else None for part in (parts.username, parts.password))
    return {**about, "user": user, "password": password}, prefix


class Sender:
    """The thread of a sink.

    Attributes:
        sink: that it sends to.
        problem: why the sink takes nothing at the moment; empty if it does.
        failures: attempts that failed.
        sent: verdicts that it took.
    """

    def __init__(self, sink: Sink, journal: Journal) -> None:
        self.sink, self.problem, self.failures, self.sent = sink, "", 0, 0
        self._journal = journal
        self._wake, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is a new entry."""
        self._wake.set()

    def end(self) -> None:
        """Send no more: what waits is sent after the next start."""
        self._end.set()
        self._wake.set()

    def join(self, until: float) -> None:
        """Wait for the thread, at most until a time of `time.monotonic`."""
        self._thread.join(max(0.0, until - time.monotonic()))
        self.sink.close()

    def _run(self) -> None:
        pause = SHORTEST
        while not self._end.is_set():
            self._wake.clear()
            try:
                if entries := self._journal.next(self.sink.name, BATCH):
                    taken = self.sink.send([record for _, record in entries])
                    self._journal.delivered(self.sink.name, entries[taken - 1][0])
                    self.problem, pause = "", SHORTEST
                    self.sent += taken
                    continue
            except (UndeliveredError, AdshiftError) as error:
                self.problem = str(error)[:300]
            except Exception as error:  # a sink must not end its thread: the reason is shown, and it is tried again
                self.problem = f"{type(error).__name__}: {error}"[:300]
            else:
                self._wake.wait(1.0)
                continue
            self.failures += 1
            self._end.wait(pause)
            pause = min(2 * pause, LONGEST)


def of(outputs: Outputs) -> list[Sink]:
    """The sinks but MQTT, whose connection is also an input.

    Raises:
        AdshiftError: one is no address.
    """
    sinks: list[Sink] = []
    if outputs.jsonl:
        sinks.append(JsonLines(outputs.jsonl, outputs.jsonl_bytes, outputs.jsonl_files))
    if outputs.webhook:
        sinks.append(Webhook(outputs.webhook))
    return sinks
