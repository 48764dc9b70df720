"""Work spread over threads so that the thread count changes no byte.

Every item is computed by one thread with single-threaded libraries below it, and results keep the items' order.
"""

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import islice
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController
from tqdm import tqdm

from adshift.errors import AdshiftError

THREADED = {"faiss", "numba", "numpy", "scipy", "scipy.linalg", "sklearn", "torch"}  # they bring such libraries

SECONDS_PER_LINE = 30.0  # of `progress` outside of a terminal
HELPER = "adshift-helper"  # begins the names of the threads that are kept

Item = TypeVar("Item")
Result = TypeVar("Result")


# Of glibc's mallopt: blocks up to this size come from the heap, so much of its free end is kept, and grown by; all
# threads share one heap.
_KEPT = {
    "M_MMAP_THRESHOLD": (-3, 2**30),
    "M_TRIM_THRESHOLD": (-1, 2**30),
    "M_TOP_PAD": (-2, 2**26),
    "M_ARENA_MAX": (-8, 1),
}


@cache
def keep_memory() -> None:
    """Let this process keep what it frees: a network's maps, made anew for every batch, are otherwise fresh pages each
    time, and to get those from the kernel takes longer than to compute what is written to them.

    Does nothing where the allocator is not glibc's.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for option, value in _KEPT.values():
        mallopt(option, value)


def thread_count() -> int:
    """Threads to use: ADSHIFT_THREADS, else the processors this process may run on.

    Raises:
        AdshiftError: ADSHIFT_THREADS is no whole number.
    """
    wanted = os.environ.get("ADSHIFT_THREADS", "0")
    try:
        return max(1, int(wanted) or len(os.sched_getaffinity(0)))
    except ValueError:
        raise AdshiftError(f"ADSHIFT_THREADS={wanted!r} is no whole number", "set it to the threads to use") from None


def one_thread_below() -> Any:
    """A context in which BLAS and its like use one thread, since parallelism lies above them."""
    return _controller(frozenset(name for name in THREADED if name in sys.modules)).limit(limits=1)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch on so many threads; then again on as many as the caller had."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _controller(_loaded: frozenset[str]) -> ThreadpoolController:
    """Finding the libraries takes 1.5 ms, so they are looked for again only when one may have been loaded."""
    return ThreadpoolController()


_silent = ContextVar("_silent", default=False)


@contextmanager
def silent() -> Iterator[None]:
    """No progress bars within: for a library's caller, who has a screen of their own."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def progress(items: Iterable[Item], *, what: str, total: int | None = None, unit: str = "image") -> Iterable[Item]:
    """`items` behind a progress bar on a terminal; elsewhere a line every 30 s."""
    if _silent.get():
        return items
    if sys.stderr.isatty():
        return tqdm(items, desc=what, total=total, unit=unit, file=sys.stderr, leave=False)
    return _lines(items, what, total, unit)


def _lines(items: Iterable[Item], what: str, total: int | None, unit: str) -> Iterator[Item]:
    last = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - last >= SECONDS_PER_LINE:
            last = time.monotonic()
            print(f"{what}: {number}{f' of {total}' if total else ''} {unit}s", file=sys.stderr, flush=True)
        yield item


def map_ordered(
    work: Callable[[Item], Result], items: Sequence[Item], *, what: str, unit: str = "image"
) -> list[Result]:
    """`[work(item) for item in items]` on `thread_count()` threads, behind a progress bar."""
    return list(progress(_results(work, items), what=what, total=len(items), unit=unit))


def share(items: int) -> int:
    """Threads for each of some items that are worked on side by side: more than one if they are fewer than threads."""
    return max(thread_count() // max(items, 1), 1)


def in_slices(work: Callable[[slice], None], count: int, threads: int, run: int = 1) -> None:
    """`work` on `threads` slices of `count` rows, side by side, each but the last of whole runs of rows."""
    if threads == 1 or count < threads:
        return work(slice(0, count))
    step = -(-count // (threads * run)) * run
    first, *others = (slice(low, low + step) for low in range(0, count, step))
    running = [_helpers(thread_count()).submit(work, part) for part in others]
    try:
        work(first)
    finally:
        wait(running)  # no part outlives the call
    for part in running:
        part.result()


@cache
def _helpers(threads: int) -> ThreadPoolExecutor:
    """Kept, since a thread's first touch of memory costs about as much as one image's search."""
    return ThreadPoolExecutor(threads, HELPER)


def _results(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    threads = thread_count()
    if len(items) == 1:  # in this thread, whose memory and cache are warm
        with one_thread_below():
            yield work(items[0])
        return
    with one_thread_below(), ThreadPoolExecutor(threads) as pool:
        # A bounded window of pending items: results may be large, and the consumer may be slower than the workers.
        rest = iter(items)
        pending = [pool.submit(work, item) for item in islice(rest, 2 * threads)]
        while pending:
            result = pending.pop(0).result()
            pending.extend(pool.submit(work, item) for item in islice(rest, 1))
            yield result
