"""What a class is called: its folder's name for people, and a name for paths, stages and params.yaml made from it.

Folders are called `metal-nut`, `v1.2` or `größe`, the last in either of Unicode's normal forms. DVC makes stage names
and commands of the entries of `classes`, so these hold ASCII letters, digits and _ alone.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

RESERVED = "unified"  # called so is the model of all classes
LONGEST = 100  # characters


def same(name: str) -> str:
    """The name in the one normal form (NFC) in which names are compared."""
    return unicodedata.normalize("NFC", name)


def slug(name: str) -> str:
    """The name for paths; a name of ASCII letters, digits and _ is its own."""
    if re.fullmatch(r"\w+", name, re.ASCII) and name != RESERVED and len(name) <= LONGEST:
        return name
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
    made = re.sub(r"[^A-Za-z0-9_]+", "_", re.sub(r"[\u0300-\u036f]", "", plain)).strip("_")[:LONGEST]
    digest = hashlib.sha256(same(name).encode(errors="surrogateescape")).hexdigest()
    return made if made not in ("", RESERVED) else f"{made or 'class'}_{digest[:8]}"


def by_slug(names: Iterable[str]) -> dict[str, list[str]]:
    """{name for paths: the names that become it}, sorted; more than one cannot be told apart."""
    originals: dict[str, list[str]] = {}
    for name in sorted(names):
        originals.setdefault(slug(name), []).append(name)
    return dict(sorted(originals.items()))
