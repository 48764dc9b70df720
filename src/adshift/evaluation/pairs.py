"""Pairs of domains: which model scores which images. Several scenarios can share a pair."""

from collections.abc import Iterable


def pair(model: str, images: str) -> str:
    """Name of the scores of the model of one domain on the images of another."""
    return f"{model}-on-{images}"


def pairs(domains: Iterable[str]) -> tuple[str, ...]:
    """The pairs of `PAIRS` whose model and images are of these domains."""
    there = set(domains)
    return tuple(one for one in PAIRS if set(one.split("-on-")) <= there)


PAIRS = (pair("clean", "clean"), pair("clean", "shift"), pair("shift", "shift"), pair("shift", "clean"))
