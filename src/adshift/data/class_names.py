"""Two names of a class: its folder's name, for people, and a name made from it for paths, stages and params.yaml.

Folders have names such as `metal-nut`, `v1.2` or `größe`, the last in either of Unicode's normal forms. DVC makes stage
names and commands from the entries of `classes`, so these hold only ASCII letters, digits and `_`.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable

RESERVED = "unified"  # the name of the model of all classes
LONGEST = 100  # characters


def same(name: str) -> str:
    """The name in Unicode's normal form NFC, in which names are compared."""
    return unicodedata.normalize("NFC", name)


def slug(name: str) -> str:
    """The name for paths. A name of ASCII letters, digits and `_` is unchanged."""
    if re.fullmatch(r"\w+", name, re.ASCII) and name != RESERVED and len(name) <= LONGEST:
        return name
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
    made = re.sub(r"[^A-Za-z0-9_]+", "_", re.sub(r"[\u0300-\u036f]", "", plain)).strip("_")[:LONGEST]
    digest = hashlib.sha256(same(name).encode(errors="surrogateescape")).hexdigest()
    return made if made not in ("", RESERVED) else f"{made or 'class'}_{digest[:8]}"


def by_slug(names: Iterable[str]) -> dict[str, list[str]]:
    """{name for paths: folders' names that become it}, sorted. More than one folder for a name is a mistake."""
    originals: dict[str, list[str]] = {}
    for name in sorted(names):
        originals.setdefault(slug(name), []).append(name)
    return dict(sorted(originals.items()))
