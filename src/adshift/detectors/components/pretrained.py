"""Pretrained backbones for models that build their own: weights from a file, a package or a cache, never a network."""

import hashlib
import random
import socket
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from adshift.errors import AdshiftError
from adshift.features.backbones import packaged_file, whole_state, with_weights


class RefusedError(OSError):
    """A connection that `offline` refused."""


@contextmanager
def offline() -> Iterator[None]:
    """Within: this thread can open no connection to a network, so that a stage never depends on one.

    The hub's client is told, or it would try again for half a minute. Its cache still serves.
    """
    from huggingface_hub import constants

    thread = threading.get_ident()
    kept, told = (socket.socket.connect, socket.getaddrinfo), constants.HF_HUB_OFFLINE

    def unless_here(function: Any) -> Any:
        def called(*arguments: Any, **keywords: Any) -> Any:
            if threading.get_ident() == thread:
                raise RefusedError("no stage connects to a network")
            return function(*arguments, **keywords)

        return called

    socket.socket.connect, socket.getaddrinfo = map(unless_here, kept)  # type: ignore[method-assign]
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        socket.socket.connect, socket.getaddrinfo = kept  # type: ignore[method-assign]
        constants.HF_HUB_OFFLINE = told


@contextmanager
def weights(method: str, backbones: Collection[str], file: Path | None, wanted: bool) -> Iterator[None]:
    """Within: a pretrained network of timm or torchvision gets its weights from a file.

    Args:
        method: for errors.
        backbones: whose weights `file` holds; more than one if teacher and student are the same.
        file: of weights; None for the packaged ones, or the hub's cache.
        wanted: whether pretrained networks get weights at all; otherwise random ones.

    Raises:
        AdshiftError: within: weights that are nowhere, or another network's.
    """
    import timm
    from torchvision.models import WeightsEnum

    create, downloaded = timm.create_model, WeightsEnum.get_state_dict

    def file_of(name: str) -> Path | None:
        return file if file is not None and name in backbones else packaged_file(name)

    def lacking(name: str, error: Exception) -> AdshiftError:
        return AdshiftError(
            f"{method}: weights of {name} are in no package and not in the hub's cache ({type(error).__name__}), "
            "and no stage asks a hub",
            f"get a state dict of timm's {name} (.pth or .safetensors) and name it: {method}.weights: PATH",
        )

    def built(model_name: str, pretrained: bool = False, **options: Any) -> Any:
        """In place of `timm.create_model`."""
        if not pretrained or not wanted:
            return create(model_name, pretrained=False, **options)
        path = file_of(model_name)
        if path is not None:
            return with_weights(create(model_name, pretrained=False, **options), model_name, path)
        try:
            return create(model_name, pretrained=True, **options)
        except Exception as error:  # the hub's client raises many kinds
            raise lacking(model_name, error) from None

    def state_dict(self: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        """In place of torchvision's download. Its ResNets have the names of timm's."""
        name = type(self).__name__.removesuffix("_Weights").lower()
        path = file_of(name) if wanted else None
        if path is not None or not wanted:
            return whole_state(name, path)
        try:
            return dict(downloaded(self, *arguments, **options))
        except Exception as error:
            raise lacking(name, error) from None

    timm.create_model, WeightsEnum.get_state_dict = built, state_dict  # type: ignore[assignment]
    try:
        yield
    finally:
        timm.create_model, WeightsEnum.get_state_dict = create, downloaded


@contextmanager
def seeded(generator: np.random.Generator) -> Iterator[None]:
    """Within: the global generators of Python and NumPy, which libraries draw from, start from `generator`."""
    kept = random.getstate(), np.random.get_state()
    random.seed(int(generator.integers(2**63)))
    np.random.seed(int(generator.integers(2**32)))
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])


def check_file(file: str, key: str) -> None:
    """Refuse a file of weights that is not there."""
    if not Path(file).is_file():
        raise AdshiftError(f"{key}: {file} is not a file", "name a .pth or .safetensors file, or leave it empty")


def check_hash(file: str, expected: str, method: str) -> None:
    """Refuse a file of weights other than the one that `adshift check` saw."""
    check_file(file, f"{method}.weights")
    with Path(file).open("rb") as content:
        actual = hashlib.file_digest(content, "sha256").hexdigest()
    if actual != expected:
        message = f"{method}.weights: {file} has sha256 {actual[:12]}..., but {expected[:12]}... when it was checked"
        raise AdshiftError(message, "restore the file, or `dvc repro --force --single-item check` takes the new one")
