"""What stands around a service on a line: the process itself, a broker, and a receiver that fails on purpose."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

PLAIN = False  # for `verify` of httpx: reading certificates takes 20 ms a call, and no call here is encrypted
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def wait(until: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What `until` returns once it is true."""
    end = time.monotonic() + seconds
    while not (result := until()):
        if time.monotonic() > end:
            raise TimeoutError("waited in vain")
        time.sleep(0.05)
    return result


class Serving:
    """`adshift serve` as a process.

    Attributes:
        url: of its HTTP side.
    """

    def __init__(self, folder: Path, *words: object, port: int = 0, environment: dict[str, str] | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = (folder / "service.log").open("ab")
        command = [sys.executable, "-m", "adshift.cli", "serve", *map(str, words), "--port", str(self.port)]
        command += ["--state", str(folder / "state")]
        self.log = folder / "service.log"
        self.process = subprocess.Popen(
            command, stderr=self._log, stdout=self._log, env=os.environ | (environment or {})
        )
        wait(self._answers, 60)

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(self.log.read_text())
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz", timeout=5, verify=PLAIN).status_code == 200
        return False

    def ask(self, path: str) -> Any:
        return httpx.get(f"{self.url}{path}", timeout=10, verify=PLAIN).json()

    def memory(self) -> int:
        """Bytes of the process in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def end(self, number: int = signal.SIGTERM) -> float:
        """End the process; seconds that it took."""
        start = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()
        return time.monotonic() - start


class Receiver:
    """A webhook's receiver.

    Attributes:
        got: ids, in the order in which they came.
        failing: None, or how: an HTTP status, or `drop` to close the connection without an answer.
    """

    def __init__(self) -> None:
        self.got: list[str] = []
        self.records: dict[str, dict[str, Any]] = {}
        self.failing: int | str | None = None
        self.failed = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                record = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.headers["Idempotency-Key"] == record["id"]
                if receiver.failing:
                    receiver.failed += 1
                    if receiver.failing == "drop":
                        self.close_connection = True
                        return
                    self.send_response(int(receiver.failing))
                else:
                    receiver.got.append(record["id"])
                    receiver.records[record["id"]] = record
                    self.send_response(204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/verdicts"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Mosquitto:
    """A real broker, which can be ended and started again on its port; it keeps its sessions."""

    def __init__(self, folder: Path, extra: str = "allow_anonymous true") -> None:
        assert MOSQUITTO
        self.port = free_port()
        folder.mkdir(exist_ok=True)
        self._settings = folder / "mosquitto.conf"
        self._settings.write_text(
            f"listener {self.port} 127.0.0.1\n{extra}\npersistence true\npersistence_location {folder}/\n"
            f"autosave_interval 1\nmax_queued_messages 0\nlog_dest none\nuser {os.environ.get('USER', 'root')}\n"
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([str(MOSQUITTO), "-c", str(self._settings)], stderr=subprocess.DEVNULL)
        wait(self._listens)

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def end(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None


class Subscriber:
    """Reads PREFIX/+/verdict.

    Attributes:
        got: ids, in the order in which they came.
    """

    def __init__(self, port: int, prefix: str) -> None:
        import paho.mqtt.client as paho

        self.got: list[str] = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="subscriber", clean_session=False)
        self.client.reconnect_delay_set(1, 2)
        self.client.on_connect = lambda client, *_: client.subscribe(f"{prefix}/+/verdict", qos=1)
        self.client.on_message = lambda _, __, message: self.got.append(json.loads(message.payload)["id"])
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        wait(self.client.is_connected)

    def end(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def ended(*parts: Any) -> Iterator[None]:
    """End the parts, the last first, whatever happens."""
    try:
        yield
    finally:
        for part in reversed(parts):
            part.end()
