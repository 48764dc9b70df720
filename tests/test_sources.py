"""The source files that a stage runs, as its imports say."""

import json
from pathlib import Path

import pytest

from adshift import sources
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
    assert changed == {"stages/one", "methods/nearest"}


def test_no_python_is_told(project: Path) -> None:
    (project / "src/adshift/deep.py").write_text("def :")
    with pytest.raises(AdshiftError, match=r"deep\.py: line 1"):
        sources.write(Path("out"))


def test_hashes_are_those_of_the_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    sources.write(tmp_path)
    listed = json.loads((tmp_path / "stages/fit.json").read_text())
    assert listed["stages/fit.py"] == sha256(Path("stages/fit.py"))
    assert "src/adshift/features.py" in listed
    assert "src/adshift/coreset.py" in json.loads((tmp_path / "methods/patchcore.json").read_text())
