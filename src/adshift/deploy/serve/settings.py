"""What `adshift serve` is told on the command line, and its bounds."""

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

from adshift.errors import AdshiftError

TOKEN = "ADSHIFT_TOKEN"  # environment variable of the token that requests must carry
LEAST_TOKEN = 16  # characters
MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Bounds on what the service accepts and keeps.

    Attributes:
        body: bytes of a request.
        pixels: of an image.
        images: in a request.
        queue: images accepted and not yet answered.
        seconds: in which a request's body must arrive, and its answer be there.
        spool: verdicts that wait for a sink on disk, each; a full spool accepts no images.
        kept: verdicts that are kept for the page.
    """

    body: int = 64 * MIB
    pixels: int = 50_000_000
    images: int = 64
    queue: int = 64
    seconds: float = 30.0
    spool: int = 100_000
    kept: int = 10_000


@dataclass(frozen=True)
class Watch:
    """A folder whose images are taken.

    Attributes:
        folder: it may be absent for a while.
        move: whether images are moved to `done` or `failed` in it; else they are left and remembered.
    """

    folder: Path
    move: bool = True


@dataclass(frozen=True)
class Outputs:
    """Where verdicts go, beside the answers and the page.

    Attributes:
        webhook: URL that each is posted to.
        jsonl: file that each is a line of.
        jsonl_bytes, jsonl_files: size at which a new file is begun, and files that are kept.
        mqtt: `mqtt://[USER:PASSWORD@]HOST[:PORT]/PREFIX`; images come in from PREFIX/MODEL/image, verdicts go out to
            PREFIX/MODEL/verdict.
        rejects: folder of rejected images.
        rejects_kept, rejects_days: at most so many, and so old.
    """

    webhook: str | None = None
    jsonl: Path | None = None
    jsonl_bytes: int = 64 * MIB
    jsonl_files: int = 10
    mqtt: str | None = None
    rejects: Path | None = None
    rejects_kept: int = 1000
    rejects_days: float = 30.0


@dataclass(frozen=True)
class Settings:
    """All of it.

    Attributes:
        models: {name: directory or exported file}; the first is that of watched folders.
        state: folder of the journal, of one service.
        drift: images of a window of the drift verdict; 0 for none.
    """

    models: dict[str, Path]
    state: Path
    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    limits: Limits = field(default_factory=Limits)
    watch: Watch | None = None
    outputs: Outputs = field(default_factory=Outputs)
    drift: int = 100


def token(host: str) -> str | None:
    """The token in the environment.

    Raises:
        AdshiftError: it is too short; or there is none and `host` can be reached from other machines.
    """
    given = os.environ.get(TOKEN) or None
    if given is not None and len(given) < LEAST_TOKEN:
        raise AdshiftError(f"{TOKEN}: {len(given)} characters", f"give at least {LEAST_TOKEN}: openssl rand -hex 16")
    if given is None and not loopback(host):
        message = f"--host {host}: other machines could send images and read verdicts"
        raise AdshiftError(message, f"set {TOKEN}, a secret that requests must carry, or bind to 127.0.0.1")
    return given


def loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def named(models: list[str]) -> dict[str, Path]:
    """{name: path} of models given as PATH or NAME=PATH.

    The name of a file is its stem, that of a directory CLASS/DOMAIN is CLASS.

    Raises:
        AdshiftError: two have one name, or a name has other characters than letters, digits, `_`, `-` and `.`.
    """
    paths: dict[str, Path] = {}
    for given in models:
        name, separator, path = given.partition("=")
        if not separator:
            path = given
            folder = Path(path).resolve()
            name = folder.stem if folder.suffix == ".onnx" else folder.parent.name
        if not name or not all(one.isascii() and (one.isalnum() or one in "_-.") for one in name):
            raise AdshiftError(f"model name {name!r}: letters, digits, `_`, `-` and `.` only", "NAME=PATH")
        if name in paths:
            raise AdshiftError(f"two models are called {name}", "name them: NAME=PATH")
        paths[name] = Path(path)
    return paths
