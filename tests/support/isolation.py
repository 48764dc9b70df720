"""What a test, or a fixture, must leave as it found it: the state of this process that other tests can see.

Not seen: files, the inside of nested containers, and processes that are no longer children of this one, because the one
that started them has ended.
"""

import contextlib
import gc
import locale
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from adshift.runtime import parallel

PATIENCE = 5.0  # seconds that a thread or process which is about to end may take
SIGNALS = {one.name: int(one) for one in signal.Signals if one not in (signal.SIGKILL, signal.SIGSTOP)}
LIMITS = {name: number for name, number in vars(resource).items() if name.startswith("RLIMIT_")}
CONTAINERS = (list, dict, set)

# Threads that are started once and kept, by the start of their names.
KEPT_THREADS = (
    parallel.HELPER,  # they wait for work; their number is part of the cache's key
    "execnet",  # pytest-xdist's
)

# Variables that pytest changes, or that a library sets when it is imported, for good.
KEPT_VARIABLES = {
    "PYTEST_CURRENT_TEST",
    "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK",  # sklearn
    "LD_LIBRARY_PATH", "QT_QPA_FONTDIR", "QT_QPA_PLATFORM_PLUGIN_PATH",  # OpenCV
    "PYTORCH_NVML_BASED_CUDA_CHECK",  # lightning
    "TORCHINDUCTOR_CACHE_DIR", "CUBLAS_WORKSPACE_CONFIG",  # torch
    "MPLCONFIGDIR",  # matplotlib
}  # fmt: skip

State = dict[str, dict[str, Any]]


def snapshot() -> State:
    """{kind of state: {name: value}}: a third of a millisecond."""
    state: State = {
        "process": _process(),
        "thread": {f"{one.name} ({one.ident})": one.ident for one in threading.enumerate() if not _is_kept(one)},
        "child process": {str(child): child for child in _children()},
        "environment variable": {key: value for key, value in os.environ.items() if key not in KEPT_VARIABLES},
        "handler of": {name: signal.getsignal(number) for name, number in SIGNALS.items()},
        "limit": {name: resource.getrlimit(number) for name, number in LIMITS.items()},
        "library": _libraries(),
    }
    for module, containers in _ours(len(sys.modules)):
        # A list, dictionary or set is copied, since it may change in place. What functools caches is not compared: it
        # depends on the arguments alone.
        values = vars(module).copy()
        values.update((key, values[key].copy()) for key in containers if type(values.get(key)) in CONTAINERS)
        state[module.__name__] = values
    return state


def leftovers(before: State) -> list[str]:
    """What differs from `before`, once what is about to end has ended."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = _differences(before, snapshot())
        ending = any(text.startswith(("thread", "child process")) for text in found)
        if not ending or time.monotonic() > deadline:
            return found
        gc.collect()  # a process's object waits for it when it is collected
        time.sleep(0.02)


def check() -> Iterator[None]:
    """The body of a fixture that fails the test whose leftovers it finds."""
    before = snapshot()
    yield
    found = leftovers(before)
    assert not found, "left behind: " + "; ".join(found)


def _differences(before: State, after: State) -> list[str]:
    found = []
    for kind, new in after.items():
        old = before.get(kind)
        if old is None or _equal(old, new):
            continue  # a module of ours that was imported meanwhile
        for key in sorted(old.keys() | new.keys()):
            if key not in old and (
                kind == "library" or (kind.startswith("adshift") and isinstance(new[key], ModuleType))
            ):
                continue  # imported meanwhile
            if key not in new and kind in ("thread", "child process"):
                continue  # ended meanwhile
            if key not in old or key not in new or not _equal(old[key], new[key]):
                was, now = (repr(state[key])[:80] if key in state else "nothing" for state in (old, new))
                found.append(f"{kind} {key}: {was} became {now}")
    return found


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one is other or one == other)
    except ValueError:  # arrays, not the same ones
        return False


def _process() -> dict[str, Any]:
    try:
        directory = str(Path.cwd())
    except FileNotFoundError:
        directory = "removed"
    state = {
        "working directory": directory,
        "arguments": list(sys.argv),
        # Packages add folders of their own when they are imported, for good: onnxruntime's quantization does.
        # Not their order: pytest puts the root of a package of tests (`faults`) in front again when it sets it up.
        "path": sorted({entry for entry in sys.path if "site-packages" not in entry}),
        "recursion limit": sys.getrecursionlimit(),
        "locale": locale.setlocale(locale.LC_ALL),
        "NumPy's error handling": np.geterr(),
        "timers": [signal.getitimer(timer)[0] > 0 for timer in (signal.ITIMER_REAL, signal.ITIMER_PROF)],
    }
    if threading.current_thread() is threading.main_thread():
        descriptor = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(descriptor)
        state["wakeup descriptor"] = descriptor
    return state


def _is_kept(thread: threading.Thread) -> bool:
    monitor = type(thread).__module__ == "tqdm._monitor"  # one for all progress bars, started with the first
    return monitor or thread.name.startswith(KEPT_THREADS)


def _children() -> set[int]:
    """Ids of child processes but those that are kept."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()  # the usual case, at the cost of one call
    listed = [Path(f"/proc/self/task/{task}/children") for task in os.listdir("/proc/self/task")]  # noqa: PTH208
    found: set[int] = set()
    for path in listed:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            found |= {int(child) for child in path.read_text().split()}
    vega = sys.modules.get("adshift.report.vega")
    if vega and vega._process.cache_info().currsize:
        # Draws all charts, takes half a second to start, has no state, and ends with its pipe.
        found.discard(vega._process().pid)
    return found


def _libraries() -> dict[str, Any]:
    """Threads and modes of numerical libraries, as far as these are loaded."""
    loaded = frozenset(name for name in parallel.THREADED if name in sys.modules)
    state = {f"threads of {one.filepath}": one.num_threads for one in parallel._controller(loaded).lib_controllers}
    torch = sys.modules.get("torch")
    if torch and hasattr(torch, "get_num_threads"):
        state["torch's threads"] = torch.get_num_threads()
        state["torch's gradients"] = torch.is_grad_enabled()
        state["torch's default type"] = torch.get_default_dtype()
        state["torch's deterministic algorithms"] = torch.are_deterministic_algorithms_enabled()
    return state


@cache
def _ours(_modules: int) -> list[tuple[ModuleType, list[str]]]:
    """Our modules, and the names in each that are lists, dictionaries or sets; looked for when another is imported."""
    found = [module for name, module in sys.modules.copy().items() if name.split(".")[0] == "adshift"]
    return [
        (module, [key for key, value in vars(module).items() if type(value) in CONTAINERS and not key.startswith("__")])
        for module in found
    ]
