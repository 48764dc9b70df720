"""The device that networks, training and exact search run on: ADSHIFT_DEVICE is `auto`, `cpu`, `cuda` or `cuda:N`.

`auto` is CUDA if a card is there with enough free memory, else the processor. The device is no parameter of a result:
outputs of both agree within the tolerances of docs/devices.md, and only timings and logs name it.

torch is imported only if a card is there or CUDA is asked for by name, so that stages without torch stay without it.
"""

import ctypes
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import numpy as np

from adshift.errors import AdshiftError, warn
from adshift.runtime.parallel import HELPER

VARIABLE = "ADSHIFT_DEVICE"
LEAST = 2 * 2**30  # bytes of a card's memory that must be free
AT_ONCE = 2  # threads that use the card: one computes while the other copies
CARD = f"{HELPER}-card"  # prefix of their names

Part = TypeVar("Part")

_used: set[str] = set()


def wanted() -> str:
    """The value of ADSHIFT_DEVICE, `auto` if it is not set.

    Raises:
        AdshiftError: it names no device.
    """
    value = os.environ.get(VARIABLE, "auto") or "auto"
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", value):
        raise AdshiftError(f"{VARIABLE}={value!r} is no device", "auto, cpu, cuda or cuda:N")
    return value


def choose() -> str:
    """The device: `cpu` or `cuda:N`.

    Raises:
        AdshiftError: ADSHIFT_DEVICE names no device, or a card that is not there or has too little free memory.
    """
    return _choose(wanted())


@cache
def _choose(value: str) -> str:
    if value == "cpu":
        return "cpu"
    named = value != "auto"
    if not named and not cards():
        return "cpu"
    index = int(value.partition(":")[2] or 0)
    if problem := _problem(index):
        if named:
            raise AdshiftError(f"{VARIABLE}={value}: {problem}", "ADSHIFT_DEVICE=auto, or cpu")
        warn(f"the processor is used: {problem}")
        return "cpu"
    _prepare()
    return f"cuda:{index}"


@cache
def cards() -> int:
    """Number of CUDA devices that the driver shows this process; 0 without a driver. Imports no torch."""
    try:
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0)
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
            return 0
    except (AttributeError, OSError):
        return 0
    return count.value


def _problem(index: int) -> str:
    """Why the card cannot be used; empty if it can."""
    import torch

    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device (no card, no driver, or a driver older than torch's CUDA)"
    if index >= torch.cuda.device_count():
        return f"no card has number {index}, only {torch.cuda.device_count()} are visible"
    free, total = torch.cuda.mem_get_info(index)
    if free < LEAST:
        return f"cuda:{index} has {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, {LEAST / 2**30:.0f} are needed"
    return ""


def _prepare() -> None:
    """float32 is float32: no TF32. The algorithms of cuBLAS are those that give equal bytes in every run."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def check() -> None:
    """Refuse a card that is asked for by name and not there, as `choose` does; `auto` and `cpu` cost nothing."""
    if wanted().startswith("cuda"):
        choose()


def on_card() -> bool:
    """Whether the device is a card."""
    return choose() != "cpu"


def free_memory() -> float:
    """Bytes that are free on the card; no limit on the processor."""
    if not on_card():
        return float("inf")
    import torch

    return float(torch.cuda.mem_get_info(choose())[0])


def used() -> str:
    """The device that this process has computed on, for timings and logs: `cpu`, or the names of cards."""
    return ", ".join(sorted(_used)) or "cpu"


def to_device(value: Any) -> Any:
    """A tensor or a network on the device; itself on the processor."""
    device = choose()
    if device == "cpu":
        return value
    import torch

    _used.add(torch.cuda.get_device_name(device))
    return value.to(device)


def synchronize() -> None:
    """Wait until the card has done what it was given, for timing."""
    if on_card():
        import torch

        torch.cuda.synchronize(choose())


@contextmanager
def explained(what: str, remedy: str = "ADSHIFT_DEVICE=cpu uses the processor") -> Iterator[None]:
    """Within: a lack of memory on the card is an AdshiftError that names `what` needs it.

    Raises:
        AdshiftError: the card's memory is full.
    """
    if not on_card():
        yield
        return
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise AdshiftError(f"{what}: {choose()} has too little memory ({str(error).splitlines()[0]})", remedy) from None


def run(work: Callable[[], Part]) -> Part:
    """The result of `work`, computed without gradients: by one of the card's threads, or by this one on the processor.

    The card has `AT_ONCE` threads, each with a stream of its own. They live as long as the process, since cuDNN plans
    every layer anew in every thread: a thread for each batch would spend its time on that.
    """
    import torch

    if not on_card() or threading.current_thread().name.startswith(CARD):
        with torch.inference_mode():
            return work()
    torch.cuda.current_stream(choose()).synchronize()  # such as weights, which this thread has sent in its own stream
    return _threads().submit(_run_there, work).result()


def _run_there(work: Callable[[], Part]) -> Part:
    import torch

    with torch.inference_mode():
        result = work()
        torch.cuda.current_stream().synchronize()
        return result


@cache
def _threads() -> ThreadPoolExecutor:
    import torch

    def begin() -> None:
        torch.cuda.set_device(choose())
        torch.cuda.set_stream(torch.cuda.Stream(choose()))

    return ThreadPoolExecutor(AT_ONCE, CARD, begin)


def sent(value: Any) -> Any:
    """A tensor of the processor on the device, in this thread's stream, by way of pinned memory."""
    return value.pin_memory().to(choose(), non_blocking=True) if on_card() else value


def received(tensors: list[Any]) -> list[np.ndarray]:
    """Tensors of the device as arrays, copied in this thread's stream into pinned memory."""
    if not on_card():
        return [tensor.numpy() for tensor in tensors]
    import torch

    hosts = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
    for host, tensor in zip(hosts, tensors, strict=True):
        host.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream().synchronize()
    return [host.numpy() for host in hosts]


class Batches:
    """Runs work on batches, on smaller ones after the card ran out of memory.

    Attributes:
        what: is computed, for messages.
        most: items of a batch that fit, None as long as all did.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.most: int | None = None
        self._lock = threading.Lock()

    def run(self, work: Callable[[slice], Part], count: int) -> list[Part]:
        """`work` of slices that cover `count` items in order: one slice, unless that is too much for the memory.

        Raises:
            AdshiftError: a single item is too much.
        """
        import torch

        parts: list[Part] = []
        start = 0
        while start < count:
            size = min(self.most or count, count - start)
            try:
                parts.append(work(slice(start, start + size)))
                start += size
            except torch.OutOfMemoryError as error:
                reason = (str(error).splitlines() or ["out of memory"])[0]
                if size == 1:
                    message = f"{self.what}: one image is too much for the memory of {choose()} ({reason})"
                    raise AdshiftError(
                        message, "free the card, set a smaller features.resize, or ADSHIFT_DEVICE=cpu"
                    ) from None
                self._halve(size, reason)
        return parts

    def _halve(self, size: int, reason: str) -> None:
        with self._lock:
            first, self.most = self.most is None, min(self.most or size, size // 2)
        if on_card():
            import torch

            torch.cuda.empty_cache()
        if first:
            warn(f"{self.what}: out of memory, batches are halved from {size} images on ({reason})")
