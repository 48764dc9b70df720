"""Promises of so many seconds, tested where other work may keep the processors busy."""

from collections.abc import Callable

ATTEMPTS = 5
END = 60  # seconds after which a process that should have ended long ago never will


def fastest(attempt: Callable[[], float], limit: float) -> float:
    """Seconds of the first attempt below the limit, else of the fastest: load delays some, a fault delays all."""
    seconds = float("inf")
    for _ in range(ATTEMPTS):
        seconds = min(seconds, attempt())
        if seconds < limit:
            break
    return seconds
