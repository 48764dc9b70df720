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

# Packages with multi-threaded libraries.
THREADED = {"faiss", "numba", "numpy", "scipy", "scipy.linalg", "sklearn", "torch"}

SECONDS_PER_LINE = 30.0  # of `progress` outside of a terminal
HELPER = "adshift-helper"  # prefix of the names of helper threads

Item = TypeVar("Item")
Result = TypeVar("Result")


# Options of glibc's mallopt: blocks up to this size come from the heap, its free end is kept up to this size and grows
# by this size; all threads share one heap.
_KEPT = {
    "M_MMAP_THRESHOLD": (-3, 2**30),
    "M_TRIM_THRESHOLD": (-1, 2**30),
    "M_TOP_PAD": (-2, 2**26),
    "M_ARENA_MAX": (-8, 1),
}


@cache
def keep_memory() -> None:
    """Let this process keep freed memory. A network allocates its maps again for every batch; to get new pages from the
    kernel each time would take longer than to compute the maps.

    Does nothing if the allocator is not glibc's.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for option, value in _KEPT.values():
        mallopt(option, value)


def thread_count() -> int:
    """Number of threads to use: ADSHIFT_THREADS, else the processors that this process may run on.

    Raises:
        AdshiftError: ADSHIFT_THREADS is no whole number.
    """
    wanted = os.environ.get("ADSHIFT_THREADS", "0")
    try:
        return max(1, int(wanted) or len(os.sched_getaffinity(0)))
    except ValueError:
        raise AdshiftError(f"ADSHIFT_THREADS={wanted!r} is no whole number", "set it to the threads to use") from None


def one_thread_below() -> Any:
    """Within: BLAS and OpenMP use one thread, since the pool of threads already uses all processors."""
    return _controller(frozenset(name for name in THREADED if name in sys.modules)).limit(limits=1)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Within: torch uses `count` threads. The caller's number is restored after."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _controller(_loaded: frozenset[str]) -> ThreadpoolController:
    """A controller of the loaded libraries, cached, since finding them takes 1.5 ms."""
    return ThreadpoolController()


_silent = ContextVar("_silent", default=False)


@contextmanager
def silent() -> Iterator[None]:
    """Within: no progress bars, for callers of the library."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def progress(items: Iterable[Item], *, what: str, total: int | None = None, unit: str = "image") -> Iterable[Item]:
    """Iterate over `items` with a progress bar on a terminal, or elsewhere with a line every 30 s."""
    if _silent.get():
        return items
    if sys.stderr.isatty():
        return tqdm(items, desc=what, total=total, unit=unit, file=sys.stderr, leave=False)
    return _lines(items, what, total, unit)


def _lines(items: Iterable[Item], what: str, total: int | None, unit: str) -> Iterator[Item]:
    last, plural = time.monotonic(), unit + ("es" if unit.endswith("ch") else "s")
    for number, item in enumerate(items):
        if time.monotonic() - last >= SECONDS_PER_LINE:
            last = time.monotonic()
            print(f"{what}: {number}{f' of {total}' if total else ''} {plural}", file=sys.stderr, flush=True)
        yield item


def map_ordered(
    work: Callable[[Item], Result], items: Sequence[Item], *, what: str, unit: str = "image", threads: int | None = None
) -> list[Result]:
    """`[work(item) for item in items]` on `thread_count()` threads, or `threads` of them, with a progress bar."""
    results = _results(work, items, threads or thread_count())
    return list(progress(results, what=what, total=len(items), unit=unit))


def share(items: int) -> int:
    """Number of threads for each of `items` items processed at the same time: above 1 if there are more threads."""
    return max(thread_count() // max(items, 1), 1)


def in_slices(work: Callable[[slice], None], count: int, threads: int, run: int = 1) -> None:
    """Run `work` on `threads` slices of `count` rows in parallel; slices but the last hold whole runs of `run` rows."""
    if threads == 1 or count < threads:
        return work(slice(0, count))
    step = -(-count // (threads * run)) * run
    first, *others = (slice(low, low + step) for low in range(0, count, step))
    running = [_helpers(thread_count()).submit(work, part) for part in others]
    try:
        work(first)
    finally:
        wait(running)  # no slice is running when the call returns
    for part in running:
        part.result()


@cache
def _helpers(threads: int) -> ThreadPoolExecutor:
    """A cached pool: first access to memory in a new thread costs about as much as the search of one image."""
    return ThreadPoolExecutor(threads, HELPER)


def _results(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> Iterator[Result]:
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
