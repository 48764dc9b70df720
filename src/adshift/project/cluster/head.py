"""The head of a cluster: stages hand their command lines to it, and it has workers run them."""

import json
import os
import secrets
import select
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import cloudpickle
from distributed import Client, Future
from distributed.scheduler import KilledWorker

from adshift.errors import AdshiftError
from adshift.project.cluster import worker
from adshift.project.cluster.handover import HEAVY, NETWORK, VARIABLE
from adshift.runtime import versions

PATIENCE = 60.0  # seconds until the first worker is there, and until a file of a worker is seen
LOOK = 0.1  # seconds between two looks at a task
GIB = 2**30

cloudpickle.register_pickle_by_value(worker)


class Head:
    """The running head.

    Attributes:
        slots: stages that the workers run at the same time, when it began.
    """

    def __init__(self, client: Client, outputs: Callable[[str], Mapping[str, Sequence[str]]]) -> None:
        """Check the workers.

        Args:
            client: of the cluster.
            outputs: {stage: paths that it writes} of the project in a folder, which may be an experiment's copy.

        Raises:
            AdshiftError: no worker within `PATIENCE`, or one that cannot run the stages.
        """
        self._client, self._outputs = client, cache(outputs)
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            message = f"the cluster has no worker after {PATIENCE:.0f} s"
            raise AdshiftError(message, "start workers, or see the queue and the logs of their jobs") from None
        self._check()
        states = client.scheduler_info(n_workers=-1)["workers"].values()
        self.slots = sum(state["nthreads"] for state in states)
        self._offered = {name: max(state["resources"].get(name, 0) for state in states) for name in ("GPU", "memory")}

    def _check(self) -> None:
        """Refuse workers without this project or with other versions."""
        nonce = f".dvc/tmp/adshift-{secrets.token_hex(8)}"
        packages = (*versions.COMPUTING.values(), "distributed")
        Path(nonce).touch()
        try:
            asked = (str(Path.cwd()), nonce, packages, os.environ.get("PYTHONPATH"))
            here = worker.probe(*asked)
            workers = self._client.run(worker.probe, *asked)
        finally:
            Path(nonce).unlink()
        for address, one in workers.items():
            name = f"worker {address} on {one['host']}"
            if one["problem"]:
                raise AdshiftError(
                    f"{name} {one['problem']}",
                    "all machines need the project under one path on a shared file system, and its environment",
                )
            different = {
                package: f"{version} there, {here['versions'][package]} here"
                for package, version in one["versions"].items()
                if version != here["versions"][package]
            }
            if different:
                listed = "; ".join(f"{package} {both}" for package, both in different.items())
                raise AdshiftError(f"{name} has other versions: {listed}", "use the same environment on all machines")

    @contextmanager
    def listening(self) -> Iterator[dict[str, str]]:
        """Within: stages that have these variables in their environment are run by the workers.

        At the end all tasks are cancelled.
        """
        with tempfile.TemporaryDirectory(prefix="adshift-") as folder:
            path = str(Path(folder, "head"))  # short: a socket's path has 107 bytes at most
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(path)
                listener.listen(1024)
                ended = threading.Event()
                accepting = threading.Thread(target=self._accept, args=(listener, ended), name="head", daemon=True)
                accepting.start()
                try:
                    yield {VARIABLE: path}
                finally:
                    ended.set()
                    accepting.join()

    def _accept(self, listener: socket.socket, ended: threading.Event) -> None:
        stages = []
        while not ended.is_set():
            if select.select([listener], [], [], LOOK)[0]:
                connection, _ = listener.accept()
                stages.append(threading.Thread(target=self._serve, args=(connection, ended), daemon=True))
                stages[-1].start()
        for stage in stages:
            stage.join()

    def _serve(self, connection: socket.socket, ended: threading.Event) -> None:
        """Have one stage run, and answer it."""
        with connection, connection.makefile("rw", encoding="utf-8") as lines:
            request = json.loads(lines.readline())

            def answer(**values: Any) -> None:
                with suppress(OSError, ValueError):  # the stage was killed
                    lines.write(json.dumps(values) + "\n")
                    lines.flush()

            try:
                answer(code=self._run(request, connection, ended, answer))
            except AdshiftError as error:
                answer(error=error.what, remedy=error.remedy)
            except Exception as error:  # of Dask: the scheduler has gone, a task cannot be sent
                answer(error=f"the cluster failed ({type(error).__name__}: {error})", remedy="see the workers' logs")

    def _run(self, request: Any, connection: socket.socket, ended: threading.Event, answer: Any) -> int:
        stage, folder = request["stage"], request["folder"]
        topic = f"{stage}-{secrets.token_hex(4)}"
        self._client.subscribe_topic(topic, lambda event: answer(**event[1]))
        try:
            outputs = self._outputs(folder).get(stage, ())
            future = self._client.submit(
                worker.run, request["command"], request["environment"], folder, outputs, topic,
                key=topic, pure=False, resources=self._resources(Path(request["command"][0]).stem),
            )  # fmt: skip
            code, files = self._result(future, stage, connection, ended)
        finally:
            self._client.unsubscribe_topic(topic)
        _wait_for(stage, folder, files)
        return code

    def _result(
        self, future: Future, stage: str, connection: socket.socket, ended: threading.Event
    ) -> tuple[int, dict[str, tuple[int, int]]]:
        while not future.done():
            if ended.is_set() or select.select([connection], [], [], LOOK)[0]:  # readable: it was closed
                future.cancel(force=True)
                raise AdshiftError(f"{stage}: cancelled", "`adshift repro --cluster` goes on from what is done")
        try:
            code, files = future.result()
        except KilledWorker as error:
            raise AdshiftError(
                f"{stage}: the workers that ran it died, {error.allowed_failures + 1} in all, at last "
                f"{error.last_worker.address}",
                "see their logs: memory and time that they were given may be too little",
            ) from None
        return code, files

    def _resources(self, script: str) -> dict[str, float]:
        """What a stage needs, of what any worker offers.

        Raises:
            AdshiftError: no worker has enough memory.
        """
        needs = {"memory": HEAVY[script] * GIB, "GPU": int(script in NETWORK)}
        if 0 < self._offered["memory"] < needs["memory"]:
            raise AdshiftError(
                f"{script} needs {HEAVY[script]} GiB, the workers have {self._offered['memory'] / GIB:.1f} at most",
                "give the workers more memory",
            )
        return {name: amount for name, amount in needs.items() if amount and self._offered[name]}


def _wait_for(stage: str, folder: str, files: Mapping[str, tuple[int, int]]) -> None:
    """Wait until the files of a worker are seen here as it wrote them: NFS shows them late.

    Raises:
        AdshiftError: they are not within `PATIENCE`.
    """
    deadline = time.monotonic() + PATIENCE
    for name, expected in files.items():
        while _seen(folder, name) != expected:
            if time.monotonic() > deadline:
                raise AdshiftError(
                    f"{stage}: {name} is not seen here as its worker wrote it, after {PATIENCE:.0f} s",
                    "check that all machines share the file system of the project",
                )
            time.sleep(LOOK)


def _seen(folder: str, name: str) -> tuple[int, int] | None:
    list(Path(folder, name).parent.iterdir())  # lets NFS look again
    return next(iter(worker.checksums(folder, [name]).values()), None)
