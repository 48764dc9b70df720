"""Commands outside a project's folder, and without git: the message says where to run, and what is missing."""

import shutil
from pathlib import Path

import pytest

from adshift.cli import parser
from adshift.errors import AdshiftError
from tiny import ROOT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "src/adshift").mkdir(parents=True)
    return tmp_path


COMMANDS = [("check",), ("repro",), ("summary",), ("preset", "sample"), ("preset", "mvtec", "--data-root", "raw")]


def adshift(*words: str) -> None:
    args = parser().parse_args(words)
    args.work(args)


@pytest.mark.parametrize("words", COMMANDS)
def test_a_subfolder_is_told_where_to_run(
    words: tuple[str, ...], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / "src/adshift")
    with pytest.raises(AdshiftError, match=r"src/adshift: no params.yaml here") as error:
        adshift(*words)
    assert error.value.remedy == f"run it in {project}"


@pytest.mark.parametrize("words", COMMANDS)
def test_no_project_at_all(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AdshiftError, match=r"no params.yaml here") as error:
        adshift(*words)
    assert "in the folder of a project" in error.value.remedy


@pytest.mark.parametrize("words", [("repro",), ("summary",)])
def test_without_git_the_remedy_is_told(words: tuple[str, ...], project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    (project / "metrics").mkdir()
    (project / "metrics/summary.json").write_text("{}")
    with pytest.raises(AdshiftError, match=r"no git repository") as error:
        adshift(*words)
    assert "git init" in error.value.remedy
