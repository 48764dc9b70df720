"""Pairs of domains: which model scores which images. Apart from the scenarios, several of which share one."""


def pair(model: str, images: str) -> str:
    """Name of the scores of a model of one domain on images of another."""
    return f"{model}-on-{images}"


PAIRS = (pair("clean", "clean"), pair("clean", "shift"), pair("shift", "shift"), pair("shift", "clean"))
