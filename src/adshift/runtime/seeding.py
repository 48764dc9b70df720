"""Random generators derived from the seed and a stable name.

A name (class, image, ...) rather than a position: adding a class or an image changes no other draw.
"""

import hashlib

import numpy as np


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on `seed` and `names` alone, the same on every machine."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype="<u4").tolist()])
