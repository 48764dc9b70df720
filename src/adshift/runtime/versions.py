"""Versions of the packages with influence on results. DVC does not track them, so the stage `sources` records them.

`data/sources/NAME.json` names the packages that a root imports, with their versions: a stage depends on that file, so
another version makes exactly the stages stale whose code imports the package. DVC reads the file, not the
installed packages: `adshift repro` compares the two and runs `sources` again, and a stage compares them when it starts.

With ADSHIFT_IGNORE_VERSIONS=1 `sources` keeps the recorded versions, so nothing is stale, and writes the installed ones
into `data/sources/ignored.json`. Only model cards and the report depend on that file, and repeat its content.
"""

import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adshift.errors import AdshiftError
from adshift.project.paths import SOURCES

# {name in an import statement: name of the package}
COMPUTING = {
    "PIL": "pillow",
    "anomalib": "anomalib",
    "faiss": "faiss-gpu",
    "lightning": "lightning",
    "numba": "numba",
    "numpy": "numpy",
    "scipy": "scipy",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "timm": "timm",
    "torch": "torch",
    "torchvision": "torchvision",
}

RECORDED = SOURCES / "versions.json"  # {package: version} of every root
IGNORED = SOURCES / "ignored.json"  # {package: "recorded VERSION, installed VERSION"}


def installed(package: str) -> str:
    """Version of an installed package, without importing it; `none` if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def choose(packages: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The versions that `sources` records, and the ignored differences from the installed ones.

    Returns:
        {package: version}, {package: "recorded VERSION, installed VERSION"}.
    """
    present = {package: installed(package) for package in sorted(packages)}
    kept = _read(RECORDED) if os.environ.get("ADSHIFT_IGNORE_VERSIONS") == "1" else {}
    recorded = {package: kept.get(package, version) for package, version in present.items()}
    return recorded, _differences(recorded)


def changes() -> list[str]:
    """Differences between the recorded and the installed versions, one line per package; none before `sources` has run.

    Raises:
        AdshiftError: a file of `sources` is damaged.
    """
    before = _read(RECORDED)
    recorded, ignored = choose(before)
    lines = [f"{package}: recorded {before[package]}, installed {version}; what computes with it runs again"
             for package, version in recorded.items() if version != before[package]]  # fmt: skip
    if ignored != _read(IGNORED):
        lines += [
            f"{package}: {versions}; ignored, as ADSHIFT_IGNORE_VERSIONS=1 asks"
            for package, versions in ignored.items()
        ]
        lines += [f"{package}: no longer ignored" for package in _read(IGNORED).keys() - ignored]
    return lines


def check(root: str) -> None:
    """Refuse to compute with other versions than recorded for `root`, such as `stages/fit`, unless that is ignored.

    Raises:
        AdshiftError: naming both versions.
    """
    different = _differences(_read(SOURCES / f"{root}.json").get("packages", {}))
    if different and different.items() - _read(IGNORED).items():
        differences = "; ".join(f"{package}: {versions}" for package, versions in different.items())
        raise AdshiftError(
            f"{differences}: nothing is computed with other versions than data/sources/{root}.json records",
            "`adshift repro` records the installed ones and re-runs the stages that import them; "
            "`ADSHIFT_IGNORE_VERSIONS=1 adshift repro` keeps the results and notes the difference in the model cards",
        )


def _differences(recorded: Mapping[str, str]) -> dict[str, str]:
    present = {package: installed(package) for package in recorded}
    return {
        package: f"recorded {version}, installed {present[package]}"
        for package, version in recorded.items()
        if version != present[package]
    }


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as error:
        remedy = "run `dvc repro --force --single-item sources`"
        raise AdshiftError(f"{path}: not readable ({error})", remedy) from None
    return content
