"""The service as a process: its parts are started, and end within seconds of a signal, with nothing lost."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn
from fastapi import FastAPI

from adshift.deploy.serve import sinks
from adshift.deploy.serve.app import application
from adshift.deploy.serve.engine import Engine
from adshift.deploy.serve.mqtt import Broker
from adshift.deploy.serve.settings import Settings
from adshift.deploy.serve.watching import Watcher
from adshift.errors import AdshiftError

GRACE = 4.0  # seconds in which what was accepted is answered


class Service:
    """Models, inputs, sinks and the HTTP side."""

    def __init__(self, settings: Settings) -> None:
        """Load the models, and start inputs and sinks.

        Raises:
            AdshiftError: a model is missing or damaged, an address is none, or another service uses the state folder.
        """
        self.settings = settings
        wanted = sinks.of(settings.outputs)
        url = settings.outputs.mqtt
        self.broker = Broker(url, f"adshift-{settings.state.resolve().name}-{settings.port}") if url else None
        if self.broker:
            wanted.append(sinks.Mqtt(self.broker.client, self.broker.prefix))
        self.engine = Engine(settings, wanted)
        first = next(iter(settings.models))
        self.watcher = Watcher(self.engine, first, settings.watch) if settings.watch else None
        if self.broker:
            self.broker.start(self.engine)
        self.app = application(self.engine, self.problems)
        self.app.router.lifespan_context = self._lifespan

    def problems(self) -> dict[str, str]:
        """What keeps inputs and sinks from working, by name."""
        told = {f"sink {sender.sink.name}": sender.problem for sender in self.engine.senders}
        told |= {f"spool {name}": "full: no image is accepted" for name in self.engine.journal.full}
        told["watched folder"] = self.watcher.problem if self.watcher else ""
        told["broker"] = self.broker.problem if self.broker else ""
        told["rejects"] = self.engine.rejects.problem if self.engine.rejects else ""
        return {name: problem for name, problem in told.items() if problem}

    def reload(self) -> None:
        """Take up models and thresholds from the disk; a damaged one is told, and the one before goes on."""
        for name, served in self.engine.served.items():
            try:
                served.reload()
                print(f"{name}: taken up anew", file=sys.stderr, flush=True)
            except AdshiftError as error:
                print(f"error: {name}: {error}; the one before goes on", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End inputs, answer what was accepted, end sinks."""
        until = time.monotonic() + GRACE
        for part in (self.watcher, self.broker):
            if part:
                part.end()
        if self.watcher:
            self.watcher.join(until)
        self.engine.end(until)
        if self.broker:
            self.broker.close()

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        with suppress(NotImplementedError, RuntimeError):  # in a thread of a test there are no signals
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, self.reload))
        yield
        await asyncio.to_thread(self.close)


def run(settings: Settings) -> None:
    """Serve until a signal.

    Raises:
        AdshiftError: as `Service`.
    """
    service = Service(settings)
    names = ", ".join(f"{name} ({one.current.model.method})" for name, one in service.engine.served.items())
    where = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(f"serving {names} at http://{where}:{settings.port}; state in {settings.state}", file=sys.stderr, flush=True)
    config = uvicorn.Config(
        service.app, host=settings.host, port=settings.port, log_level="warning", access_log=False,
        timeout_graceful_shutdown=int(GRACE), timeout_keep_alive=15, server_header=False, ws="none",
    )  # fmt: skip
    _Server(config).run()


class _Server(uvicorn.Server):
    """Ends with exit code 0 after a signal, once all is answered; uvicorn's own raises the signal again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
