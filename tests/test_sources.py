"""The source files that a stage runs, as its imports say."""

import ast
import json
from pathlib import Path

import pytest

from adshift import datasets, methods, sources
from adshift.errors import AdshiftError
from adshift.images import sha256
from tiny import ROOT

NEAREST = {"methods/nearest.py", "deep.py", "alone.py"}
PACK = {"pack/__init__.py", "pack/inner.py", "pack/page.html"}
DEEPER = {"pack/deeper/__init__.py", "pack/deeper/leaf.py"}
FAMILY = {"methods/family/__init__.py", "methods/family/base.py", "methods/family/other.py"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree of scripts and modules that import one another in every way there is."""
    monkeypatch.chdir(tmp_path)
    files = {
        "stages/one.py": "import numpy\nfrom adshift import alone, params\nfrom adshift.stage import run",
        "stages/two.py": "def main():\n    from adshift.pack.inner import thing",
        "src/adshift/__init__.py": "",
        "src/adshift/params.py": "import adshift.unseen",
        "src/adshift/stage.py": "",
        "src/adshift/unseen.py": "",
        "src/adshift/alone.py": "import adshift.deep as d",
        "src/adshift/deep.py": "from adshift import alone",
        "src/adshift/pack/__init__.py": "",
        "src/adshift/pack/inner.py": "",
        "src/adshift/pack/page.html": "",
        "src/adshift/datasets/__init__.py": "",
        "src/adshift/datasets/folder.py": "from adshift.datasets import other",
        "src/adshift/datasets/other.py": "",
        "src/adshift/methods/__init__.py": "import adshift.unseen",
        "src/adshift/methods/nearest.py": "from adshift import methods, deep",
        "src/adshift/methods/beside.py": "from .nearest import thing",
        "src/adshift/methods/above.py": "def fit():\n    from ..pack import inner as i\n    from ..alone import thing",
        "src/adshift/methods/names.py": "from . import nearest\nfrom .. import pack",
        "src/adshift/pack/deeper/__init__.py": "from .leaf import thing\nfrom ..inner import thing",
        "src/adshift/pack/deeper/leaf.py": "from ...methods.family.base import thing",
        "src/adshift/methods/family/__init__.py": "",
        "src/adshift/methods/family/base.py": "from . import other\nfrom .. import nearest",
        "src/adshift/methods/family/other.py": "",
        "src/adshift/methods/far.py": "from ..pack.deeper import thing",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def written(name: str) -> set[str]:
    sources.write(Path("out"))
    return {path.removeprefix("src/adshift/") for path in json.loads(Path(f"out/{name}.json").read_text())}


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("stages/one", {"stages/one.py", "alone.py", "deep.py"}),  # a cycle; plumbing is left out, and what it imports
        ("stages/two", {"stages/two.py", "pack/__init__.py", "pack/inner.py", "pack/page.html"}),
        ("datasets/folder", {"datasets/__init__.py", "datasets/folder.py", "datasets/other.py"}),
        ("methods/nearest", {"methods/nearest.py", "deep.py", "alone.py"}),
        ("methods/beside", {"methods/beside.py", *NEAREST}),
        ("methods/above", {"methods/above.py", *PACK, "alone.py", "deep.py"}),
        ("methods/names", {"methods/names.py", *NEAREST, "pack/__init__.py", "pack/page.html"}),
        ("methods/far", {"methods/far.py", *PACK, *DEEPER, *FAMILY, *NEAREST}),
    ],
)
def test_imports_are_followed(project: Path, name: str, files: set[str]) -> None:
    assert written(name) == files


def test_a_change_shows_in_what_imports_the_file_and_nowhere_else(project: Path) -> None:
    sources.write(Path("before"))
    (project / "src/adshift/deep.py").write_text("from adshift import alone\n")
    sources.write(Path("after"))
    changed = {
        str(path.relative_to("after").with_suffix(""))
        for path in Path("after").rglob("*.json")
        if path.read_bytes() != (Path("before") / path.relative_to("after")).read_bytes()
    }
    assert changed == {"stages/one", *(f"methods/{name}" for name in ("nearest", "beside", "above", "names", "far"))}


def test_no_python_is_told(project: Path) -> None:
    (project / "src/adshift/deep.py").write_text("def :")
    with pytest.raises(AdshiftError, match=r"deep\.py: line 1"):
        sources.write(Path("out"))


@pytest.mark.parametrize(
    ("path", "text"), [("stages/one.py", "from . import two"), ("src/adshift/deep.py", "\nfrom ..alone import thing")]
)
def test_a_relative_import_that_leads_out_of_the_package_is_told(project: Path, path: str, text: str) -> None:
    (project / path).write_text(text)
    with pytest.raises(AdshiftError, match=rf"{path}: line \d: "):
        sources.write(Path("out"))


CODE = sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("stages/**/*.py")])
LOADERS = ("importlib", "runpy", "pkgutil", "imp", "zipimport")
RUNNERS = ("__import__", "exec", "eval", "compile")
# A registry's modules are roots of their own; a package of weights is none of ours; the last one resolves names.
DYNAMIC = {"methods/__init__.py", "datasets/__init__.py", "backbones/weights.py", "sources.py"}


def dynamic(tree: ast.AST) -> list[str]:
    """Ways of running code that no import statement names."""
    found = []
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in modules if name.split(".")[0] in LOADERS and name != "importlib.metadata"]
        found += [node.id] if isinstance(node, ast.Name) and node.id in RUNNERS else []
    return found


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_import_can_be_followed(path: Path) -> None:
    tree = ast.parse(path.read_bytes())
    allowed = path.relative_to(ROOT).as_posix().removeprefix("src/adshift/") in DYNAMIC
    assert bool(dynamic(tree)) == allowed
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    beside = {*(entry.stem for entry in ROOT.iterdir()), *(entry.stem for entry in path.parent.iterdir())}
    if path.parent.name == "stages":  # a script's folder is on its path: nobody follows what it imports from there
        assert not {name.split(".")[0] for name in imported} & beside


@pytest.mark.parametrize(
    "text",
    ["import importlib", "from importlib import import_module as f", "import importlib.util", "__import__('os')",
     "exec('import os')", "import runpy", "f = eval", "def f():\n    from pkgutil import walk_packages"],
)  # fmt: skip
def test_what_cannot_be_followed_is_seen(text: str) -> None:
    assert dynamic(ast.parse(text))


def test_what_runs_nothing_is_none() -> None:
    assert not dynamic(ast.parse("import re\nfrom importlib.metadata import version\nre.compile('a')\nnet.eval()"))


def test_a_registry_names_its_own_files() -> None:
    """Which `sources` takes for roots."""
    assert all(place.split(":")[0] == f"adshift.methods.{name}" for name, place in methods.REGISTRY.items())
    assert all(place == f"adshift.datasets.{name}" for name, place in datasets.REGISTRY.items())


def test_hashes_are_those_of_the_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    sources.write(tmp_path)
    listed = json.loads((tmp_path / "stages/fit.json").read_text())
    assert listed["stages/fit.py"] == sha256(Path("stages/fit.py"))
    assert "src/adshift/features.py" in listed
    assert "src/adshift/coreset.py" in json.loads((tmp_path / "methods/patchcore.json").read_text())
