"""The source files that a stage runs, as its imports say."""

import ast
import json
from pathlib import Path

import pytest

from adshift import methods, sources
from adshift.errors import AdshiftError
from adshift.images import sha256
from tiny import ROOT


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
        "src/adshift/methods/helper.py": "",
    }
    monkeypatch.setattr(sources, "REGISTRIES", {
        "datasets": {"folder": "adshift.datasets.folder"}, "methods": {"nearest": "adshift.methods.nearest:Nearest"},
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
        ("datasets/folder", {"datasets/__init__.py", "datasets/folder.py", "datasets/other.py"}),
        ("methods/nearest", {"methods/nearest.py", "deep.py", "alone.py"}),
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
    assert changed == {"stages/one", "methods/nearest"}


def test_only_what_a_registry_names_is_a_root(project: Path) -> None:
    """Not a module that some of them share."""
    assert set(sources.roots()) == {"stages/one", "stages/two", "datasets/folder", "methods/nearest"}


def test_a_template_belongs_to_the_module_of_its_name(project: Path) -> None:
    (project / "src/adshift/pack/other.html").touch()
    (project / "src/adshift/pack/other.py").touch()
    assert written("stages/two") == {"stages/two.py", "pack/__init__.py", "pack/inner.py", "pack/page.html"}


def test_no_python_is_told(project: Path) -> None:
    (project / "src/adshift/deep.py").write_text("def :")
    with pytest.raises(AdshiftError, match=r"deep\.py: line 1"):
        sources.write(Path("out"))


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
    assert "src/adshift/features.py" in listed
    assert "src/adshift/coreset.py" in json.loads((tmp_path / "methods/patchcore.json").read_text())["files"]
    written = {path.stem for path in (tmp_path / "methods").iterdir()}
    assert written == set(methods.REGISTRY)
    assert json.loads((tmp_path / "stages/sources.json").read_text())["packages"] == {}  # else it could refuse to run
