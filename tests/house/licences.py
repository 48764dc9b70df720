"""The licences of what is pinned and of the weights, as their packages declare them: writes docs/licences.md.

From importlib.metadata alone: `License-Expression`, else the classifiers, else the first line of `License`, else what a
licence file of the package begins with. Run it again after requirements.txt changes: `python tests/house/licences.py`.
"""

# ruff: noqa: E501

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/licences.md"
COPYLEFT = re.compile(
    r"\bA?L?GPL|General Public|\bMPL\b|Mozilla|\bEPL\b|Eclipse|EUPL|CDDL|CC[ -]BY-(NC|SA|ND)|NonCommercial", re.I
)
PROPRIETARY = re.compile(r"NVIDIA|proprietary|EULA", re.I)

OTHERS = ("MCUNet, MicroNet, PhiNet", "files of their authors", "see [backbones.md](backbones.md)", "their releases")


def pinned(text: str) -> list[tuple[str, str]]:
    """(package, version) of requirements.txt; a package may stand there twice, for two versions of Python."""
    return sorted(re.findall(r"(?m)^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", text))


def weights() -> list[tuple[str, str, str, str]]:
    """(weights, where from, licence, by whose word) of the backbones that have usual layers."""
    import timm

    from adshift.features.backbones import PACKAGED, STRIDES_4_8_16

    found = []
    for name in STRIDES_4_8_16:
        told: Any = timm.get_pretrained_cfg(name)
        ours = f"package {PACKAGED[name][0].replace('_', '-')}" if name in PACKAGED else "timm's hub"
        try:
            declared = licence(ours.removeprefix("package ")) if name in PACKAGED else told.license
        except PackageNotFoundError:
            declared = "not installed here"
        whose = f"its package; timm gives {told.license} for its own file" if name in PACKAGED else "timm"
        found.append((name, ours, declared, whose))
    return [*found, OTHERS]


def licence(name: str) -> str:
    """What an installed package declares.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    found = distribution(name)
    if expression := found.metadata.get("License-Expression"):
        return str(expression)
    classifiers = [
        one.split(" :: ")[-1] for one in found.metadata.get_all("Classifier") or [] if one.startswith("License")
    ]
    if named := [one for one in classifiers if one != "OSI Approved"]:
        return "; ".join(sorted(named))
    told = (found.metadata.get("License") or "").strip().splitlines()
    if told and told[0].strip() and told[0].strip().upper() != "UNKNOWN":
        return told[0].strip()[:80]
    for file in found.files or []:
        if (
            re.match(r"(licen[cs]e|copying)", file.name, re.I)
            and (path := Path(str(found.locate_file(file)))).is_file()
        ):
            lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
            if first := next(filter(None, lines), ""):
                return f"{first[:70]} ({file.name})"
    return "none declared"


def remark(declared: str) -> str:
    if COPYLEFT.search(declared):
        return "**copyleft**"
    if PROPRIETARY.search(declared):
        return "proprietary"
    return "**ask**" if declared == "none declared" else ""


def rows(text: str) -> list[tuple[str, str, str, str]]:
    """(package, version, licence, remark) of every pinned package that is installed."""
    found = []
    for name, version in pinned(text):
        try:
            declared = licence(name)
            declared += "" if distribution(name).version == version else " (by another version)"
        except PackageNotFoundError:
            declared = "not installed on this platform"
        found.append((name, version, declared.replace("|", "/"), remark(declared)))
    return found


def page() -> str:
    """docs/licences.md."""
    found = rows((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    flagged = {
        kind: [name for name, *_, said in found if said.strip("*") == kind]
        for kind in ("copyleft", "proprietary", "ask")
    }
    lines = [
        "# Licences", "",
        "Written by `python tests/house/licences.py` from what the installed packages declare. It is a list, not legal advice.",
        "adshift itself ships no one else's code: everything here is installed beside it.", "",
        f"{len(found)} packages are pinned.",
        f"Copyleft in some way ({len(flagged['copyleft'])}): {', '.join(flagged['copyleft']) or 'none'}.",
        f"Proprietary ({len(flagged['proprietary'])}; PyTorch brings them for GPUs): "
        f"{', '.join(flagged['proprietary']) or 'none'}.",
        f"Without a declared licence ({len(flagged['ask'])}): {', '.join(flagged['ask']) or 'none'}.", "",
        "MPL-2.0 asks for changes of its own files alone; LGPL allows use as a library. A GPL package in this list runs as",
        "a program of its own or is used by DVC: look at it before you ship a product that bundles it.", "",
        "## Weights", "", "| weights | from | licence | by whose word |", "| --- | --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in weights()), "",
        "## Packages", "", "| package | version | licence | |", "| --- | --- | --- | --- |",
        *(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in found), "",
    ]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} written")
