"""The file of a split, read by every later stage: one CSV per class, with name, role and domain.

It is separate from `adshift.data.splits`, which decides the roles: stages that only read them do not depend on it.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from adshift.errors import AdshiftError
from adshift.project.paths import DOMAINS
from adshift.runtime import checksums

COLUMNS = ("name", "role", "domain")
ROLES = ("train", "val", "test", "unused")
OFFICIAL = "official"
BOTH = "both"


def write(path: Path, domains: Mapping[str, Mapping[str, str]]) -> None:
    """Write {domain: {name: role}}, sorted by name."""
    rows = sorted((name, role, domain) for domain, roles in domains.items() for name, role in roles.items())
    checksums.write_table(path, COLUMNS, rows)


def read(path: Path, domain: str) -> dict[str, str]:
    """The role of every image of a domain, by name, sorted. Errors as for `read_all`."""
    domains = read_all(path)
    return dict(sorted((domains.get(domain, {}) | domains.get(BOTH, {})).items()))


def read_all(path: Path) -> dict[str, dict[str, str]]:
    """{domain, or `both`: {name: role}}, sorted.

    Raises:
        AdshiftError: the file is missing or damaged, holds an unknown role, or an image twice.
    """
    try:
        header, rows = checksums.read_table(path)
        domains: dict[str, dict[str, str]] = {}
        for name, role, domain in sorted(rows):
            domains.setdefault(domain, {})[name] = role
        names, roles, known_domains = map(set, zip(*rows, strict=True))
        if (
            header != list(COLUMNS)
            or len(names) < len(rows)
            or not (roles <= set(ROLES) and known_domains <= {*DOMAINS, BOTH})
        ):
            raise ValueError(f"expected columns {', '.join(COLUMNS)}, each name once, roles {', '.join(ROLES)}")
    except (OSError, ValueError, csv.Error) as error:
        raise AdshiftError(f"{path}: not a readable split ({error})", checksums.REMEDY) from None
    return dict(sorted(domains.items()))


def images_of(roles: dict[str, str], part: Literal["train", "val", "test"]) -> tuple[str, ...]:
    """Names of the images of a part, sorted. Without validation images, the test images replace them."""
    names = names_of(roles, part)
    return names_of(roles, "test") if part == "val" and not names else names


def calibrated_on(protocol: str) -> Literal["val", "test"]:
    """The part on which a protocol chooses its thresholds."""
    return "test" if protocol == OFFICIAL else "val"


def names_of(roles: dict[str, str], *wanted: str) -> tuple[str, ...]:
    """Names of the images that have one of these roles, sorted."""
    return tuple(sorted(name for name, role in roles.items() if role in wanted))
