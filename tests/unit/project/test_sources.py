"""The source files that a stage runs, as its imports say."""

import ast
import json
from pathlib import Path

import pytest

from adshift.data import datasets
from adshift.data.images import sha256
from adshift.detectors import registry
from adshift.errors import AdshiftError
from adshift.project import sources
from tiny import ROOT

NEAREST = {"detectors/nearest.py", "deep.py", "alone.py"}
PACK = {"pack/__init__.py", "pack/inner.py", "pack/page.html"}
DEEPER = {"pack/deeper/__init__.py", "pack/deeper/leaf.py"}
FAMILY = {"detectors/family/__init__.py", "detectors/family/base.py", "detectors/family/other.py"}
FOLDER = {"data/datasets/__init__.py", "data/datasets/folder.py", "data/datasets/other.py"}


METHODS = ("nearest", "beside", "above", "names", "far")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree of scripts and modules that import one another in every way there is."""
    monkeypatch.chdir(tmp_path)
    files = {
        "stages/one.py": "import numpy\nfrom adshift import alone\nfrom adshift.project import params, stage",
        "stages/two.py": "def main():\n    from adshift.pack.inner import thing",
        "src/adshift/__init__.py": "",
        "src/adshift/project/params.py": "import adshift.unseen",
        "src/adshift/project/stage.py": "",
        "src/adshift/unseen.py": "",
        "src/adshift/alone.py": "import adshift.deep as d",
        "src/adshift/deep.py": "from adshift import alone",
        "src/adshift/pack/__init__.py": "",
        "src/adshift/pack/inner.py": "",
        "src/adshift/pack/page.html": "",
        "src/adshift/data/datasets/__init__.py": "",
        "src/adshift/data/datasets/folder.py": "from adshift.data.datasets import other",
        "src/adshift/data/datasets/other.py": "",
        "src/adshift/detectors/registry.py": "import adshift.unseen",
        "src/adshift/detectors/nearest.py": "from adshift.detectors import registry; from adshift import deep",
        "src/adshift/detectors/beside.py": "from .nearest import thing",
        "src/adshift/detectors/above.py": (
            "def fit():\n    from ..pack import inner as i\n    from ..alone import thing"
        ),
        "src/adshift/detectors/names.py": "from . import nearest\nfrom .. import pack",
        "src/adshift/pack/deeper/__init__.py": "from .leaf import thing\nfrom ..inner import thing",
        "src/adshift/pack/deeper/leaf.py": "from ...detectors.family.base import thing",
        "src/adshift/detectors/family/__init__.py": "",
        "src/adshift/detectors/family/base.py": "from . import other\nfrom .. import nearest",
        "src/adshift/detectors/family/other.py": "",
        "src/adshift/detectors/far.py": "from ..pack.deeper import thing",
        "src/adshift/detectors/helper.py": "",
    }
    monkeypatch.setattr(sources, "REGISTRIES", {
        "datasets": {"folder": "adshift.data.datasets.folder"},
        "methods": {name: f"adshift.detectors.{name}:Class" for name in METHODS},
    })  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def written(name: str) -> set[str]:
    sources.write(Path("out"))
    return {path.removeprefix("src/adshift/") for path in json.loads(Path(f"out/{name}.json").read_text())["files"]}


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("stages/one", {"stages/one.py", "alone.py", "deep.py"}),  # a cycle; plumbing is left out, and what it imports
        ("stages/two", {"stages/two.py", "pack/__init__.py", "pack/inner.py", "pack/page.html"}),
        ("datasets/folder", FOLDER),
        ("methods/nearest", {"detectors/nearest.py", "deep.py", "alone.py"}),
        ("methods/beside", {"detectors/beside.py", *NEAREST}),
        ("methods/above", {"detectors/above.py", *PACK, "alone.py", "deep.py"}),
        ("methods/names", {"detectors/names.py", *NEAREST, "pack/__init__.py", "pack/page.html"}),
        ("methods/far", {"detectors/far.py", *PACK, *DEEPER, *FAMILY, *NEAREST}),
    ],
)
def test_imports_are_followed(project: Path, name: str, files: set[str]) -> None:
    assert written(name) == files


def test_a_change_shows_in_what_imports_the_file_and_nowhere_else(project: Path) -> None:
    sources.write(Path("before"))
    (project / "src/adshift/deep.py").write_text("from adshift import alone\nx = 1\n")
    sources.write(Path("after"))
    changed = {
        str(path.relative_to("after").with_suffix(""))
        for path in Path("after").rglob("*.json")
        if path.read_bytes() != (Path("before") / path.relative_to("after")).read_bytes()
    }
    assert changed == {"stages/one", *(f"methods/{name}" for name in ("nearest", "beside", "above", "names", "far"))}


def test_only_what_a_registry_names_is_a_root(project: Path) -> None:
    """Not a module that some of them share."""
    roots = {"stages/one", "stages/two", "datasets/folder", *(f"methods/{name}" for name in METHODS)}
    assert set(sources.roots()) == roots


def test_a_template_belongs_to_the_module_of_its_name(project: Path) -> None:
    (project / "src/adshift/pack/other.html").touch()
    (project / "src/adshift/pack/other.py").touch()
    assert written("stages/two") == {"stages/two.py", "pack/__init__.py", "pack/inner.py", "pack/page.html"}


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


SCRIPTS = sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("stages/**/*.py")])
LOADERS = ("importlib", "runpy", "pkgutil", "imp", "zipimport")
RUNNERS = ("__import__", "exec", "eval", "compile")
DATA = ("importlib.metadata", "importlib.resources")  # they run nothing
# A registry's modules are roots of their own; a package of weights is none of ours; the last two resolve names alone.
DYNAMIC = {
    "detectors/registry.py", "data/datasets/__init__.py", "features/backbones/families.py",
    "features/backbones/weights.py", "evaluation/levers/__init__.py", "project/forks.py", "project/sources.py",
    "runtime/extras.py",
}  # fmt: skip


def dynamic(tree: ast.AST) -> list[str]:
    """Ways of running code that no import statement names."""
    found = []
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in modules if name.split(".")[0] in LOADERS and name not in DATA]
        found += [node.id] if isinstance(node, ast.Name) and node.id in RUNNERS else []
    return found


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
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
    assert all(place.split(":")[0] == f"adshift.detectors.{name}" for name, place in registry.REGISTRY.items())
    files = {name: place.removeprefix("adshift.data.datasets.") for name, place in datasets.REGISTRY.items()}
    assert files == {name: name for name in files} | {"list": "csv_list"}  # `list` would hide Python's in the package


CODE = '''"""Doc."""
from adshift import alone

class A(B, key=None):
    """Doc."""
    x: int = 0x10

def f(a, *, b=None, **c):
    """Doc."""
    async def g():
        "Doc."
    return {**c, "k": [a, b]}, f"{a!r:>{b}}", 1.5, b"\\xe9", "\u00e9" "\U0001fae8", (yield)
'''


def hashed(folder: Path, text: str) -> str:
    (folder / "code.py").write_text(text, encoding="utf-8")
    return sources.digest(folder / "code.py")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Doc."""', '"""Another."""'),
        ('    """Doc."""\n    x', "    x"),
        ("class A", "# why\n\n\nclass A"),
        ("(a, *, b=None, **c)", "(\n    a, *,\n    b = None,\n    **c,\n)"),
        ("0x10", "16"),
        ('"k"', "'k'"),
        ("1.5, ", "1.50, "),
    ],
)
def test_comments_docstrings_and_layout_are_not_hashed(tmp_path: Path, old: str, new: str) -> None:
    assert old in CODE
    assert hashed(tmp_path, CODE.replace(old, new)) == hashed(tmp_path, CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("key=None", "key=False"),
        ("b=None", "b=()"),
        ("0x10", "0x11"),
        ("0x10", "True"),
        ("1.5", "2"),
        ("(yield)", "(yield None)"),
        ("{**c, ", "{None: c, "),
        ('b"', '"'),
        ("!r", "!s"),
        ("f(a, ", "f(a, /, "),
        ("    x: int", '    "first"; "second"; x: int'),
        ("async ", ""),
        ("alone", "deep"),
        ("key=", "name="),
    ],
)
def test_all_else_is_hashed(tmp_path: Path, old: str, new: str) -> None:
    assert old in CODE
    assert hashed(tmp_path, CODE.replace(old, new)) != hashed(tmp_path, CODE)


def test_every_version_of_python_hashes_alike(tmp_path: Path) -> None:
    """The number is what Python 3.11 found; tests run on the others too."""
    assert hashed(tmp_path, CODE) == "93a6d1857f5afe0b995a3a5193739f0dc093d693b0f3d143cae21cc399657f9d"


def test_fields_that_a_later_python_adds_are_not_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = hashed(tmp_path, CODE)
    monkeypatch.setattr(ast.FunctionDef, "_fields", (*ast.FunctionDef._fields, "later"))
    monkeypatch.setattr(ast.FunctionDef, "later", [], raising=False)
    sources._parsed.cache_clear()
    assert hashed(tmp_path, CODE) == before


def test_data_is_hashed_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<!-- a comment -->")
    assert sources.digest(tmp_path / "page.html") == sha256(tmp_path / "page.html")


def test_the_roots_of_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    sources.write(tmp_path)
    listed = json.loads((tmp_path / "stages/fit.json").read_text())["files"]
    assert listed["stages/fit.py"] == sources.digest(Path("stages/fit.py"))
    assert "src/adshift/features/store.py" in listed
    assert "src/adshift/search/coreset.py" in json.loads((tmp_path / "methods/patchcore.json").read_text())["files"]
    written = {path.stem for path in (tmp_path / "methods").iterdir()}
    assert written == set(registry.REGISTRY)
    assert json.loads((tmp_path / "stages/sources.json").read_text())["packages"] == {}  # else it could refuse to run


def test_models_of_anomalib_have_a_record_if_they_are_in_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    sources.write(tmp_path, ["patchcore", "anomalib_dfm", "anomalib_other"])
    written = {path.stem for path in (tmp_path / "methods").iterdir()}
    assert written == {*registry.REGISTRY, "anomalib_dfm", "anomalib_other"}
    record = json.loads((tmp_path / "methods/anomalib_dfm.json").read_text())
    assert "src/adshift/detectors/anomalib_bridge.py" in record["files"]
    assert {"anomalib", "lightning", "timm", "torch"} <= record["packages"].keys()
