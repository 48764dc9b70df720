"""The connection to an MQTT broker: images come in from PREFIX/MODEL/image, verdicts go out (`sinks.Mqtt`).

An image is acknowledged when its verdict is in the journal. The session outlives the service: the broker keeps what
arrives while it is down, if the camera publishes with QoS 1.
"""

import threading
from collections import deque
from typing import Any

from adshift.deploy.serve.engine import BusyError, Engine, RefusedError
from adshift.deploy.serve.sinks import broker
from adshift.errors import AdshiftError

INFLIGHT = 16  # messages that the broker sends before the first is acknowledged


class Broker:
    """The connection. It is made again, without end, when it breaks.

    Attributes:
        client: of paho.
        prefix: of topics.
        problem: why there is no connection; empty if there is one.
        refused: images that could not be judged.
    """

    def __init__(self, url: str, identity: str) -> None:
        """Prepare the connection to `url` under a client's name.

        Raises:
            AdshiftError: no such URL.
        """
        import paho.mqtt.client as paho

        about, self.prefix = broker(url)
        self.problem, self.refused = "not connected yet", 0
        self._engine: Engine | None = None
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=identity, clean_session=False, manual_ack=True
        )
        self.client.max_inflight_messages_set(INFLIGHT)
        self.client.reconnect_delay_set(1, 15)
        if about["user"]:
            self.client.username_pw_set(about["user"], about["password"])
        if about["tls"]:
            self.client.tls_set()
        self.client.on_connect, self.client.on_disconnect = self._connected, self._disconnected
        self.client.on_connect_fail = self._failed
        self.client.on_message = self._arrived
        self._address = about["host"], about["port"]
        self._waiting: deque[Any] = deque()
        self._wake, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt-images", daemon=True)

    def start(self, engine: Engine) -> None:
        """Connect, and judge what comes in."""
        self._engine = engine
        self._thread.start()
        self.client.connect_async(*self._address, keepalive=30)
        self.client.loop_start()

    def end(self) -> None:
        """Judge no more; what is not acknowledged comes again after the next start."""
        self._end.set()
        self._wake.set()

    def close(self) -> None:
        """Disconnect."""
        self.client.disconnect()
        self.client.loop_stop()

    def _connected(self, client: Any, _: Any, __: Any, code: Any, ___: Any) -> None:
        if code.is_failure:
            self.problem = f"the broker refuses: {code}"
            return
        self.problem = ""
        client.subscribe(f"{self.prefix}/+/image", qos=1)

    def _disconnected(self, _: Any, __: Any, ___: Any, code: Any, ____: Any) -> None:
        self.problem = self.problem or f"disconnected: {code}"

    def _failed(self, _: Any, __: Any) -> None:
        self.problem = f"no broker at {self._address[0]}:{self._address[1]}"

    def _arrived(self, _: Any, __: Any, message: Any) -> None:
        self._waiting.append(message)  # at most INFLIGHT, since none more come before one is acknowledged
        self._wake.set()

    def _run(self) -> None:
        assert self._engine is not None
        while not self._end.is_set():
            self._wake.wait(1.0)
            self._wake.clear()
            while self._waiting and not self._end.is_set():
                message = self._waiting[0]
                try:
                    self._judge(self._engine, message)
                except (BusyError, AdshiftError):  # the queue, a spool or the disk is full
                    self._end.wait(0.2)
                    continue
                self._waiting.popleft()
                self.client.ack(message.mid, message.qos)

    def _judge(self, engine: Engine, message: Any) -> None:
        name = message.topic.removeprefix(f"{self.prefix}/").removesuffix("/image")
        try:
            if name not in engine.served or len(message.payload) > engine.settings.limits.body:
                raise RefusedError(404, f"{name}: no such model, or the image is too large")
            with engine.accepted():
                engine.judge(name, message.payload, "image", "mqtt")
        except RefusedError as error:
            self.refused += 1
            self.client.publish(f"{self.prefix}/{name}/error", error.what, qos=1)
