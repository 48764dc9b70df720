"""What the package says of itself, and what its wheel holds beside modules."""

import subprocess
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import adshift
from adshift.cli import main

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def test_the_command_says_its_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["adshift", "--version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"adshift {adshift.__version__}\n"


def test_the_version_is_written_once() -> None:
    """pyproject.toml reads it from the package; the citation has a copy, since its format has no reference."""
    assert "version" not in PROJECT
    assert PYPROJECT["tool"]["setuptools"]["dynamic"] == {"version": {"attr": "adshift.__version__"}}
    assert YAML(typ="safe").load((ROOT / "CITATION.cff").read_text())["version"] == adshift.__version__


def test_the_licence_is_named_and_its_text_is_there() -> None:
    assert (PROJECT["license"], PROJECT["license-files"]) == ("Apache-2.0", ["LICENSE"])
    assert YAML(typ="safe").load((ROOT / "CITATION.cff").read_text())["license"] == PROJECT["license"]
    text = (ROOT / "LICENSE").read_text()
    assert text.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_wheel_holds_every_file_of_the_package() -> None:
    package = ROOT / "src" / "adshift"
    tracked = subprocess.run(["git", "ls-files", package], cwd=ROOT, check=True, capture_output=True,
                             text=True).stdout.split()  # fmt: skip
    others = {ROOT / path for path in tracked if not path.endswith(".py")}
    packed = {path for pattern in PYPROJECT["tool"]["setuptools"]["package-data"]["adshift"]
              for path in package.glob(pattern)}  # fmt: skip
    assert package / "py.typed" in others
    assert others <= packed


def test_the_public_names_are_those_of_the_modules_they_come_from() -> None:
    for name in adshift.__all__:
        assert getattr(adshift, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = adshift.nonsense
