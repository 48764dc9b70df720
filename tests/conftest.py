from pathlib import Path

import pytest

import fake_run
import trained

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A folder with every output before aggregation, and the repository's templates and reference figures, as cwd."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "plots").symlink_to(ROOT / ".dvc" / "plots")
    (tmp_path / "reference").symlink_to(ROOT / "reference")
    fake_run.make()
    return tmp_path


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """A project with packaged models, made by the stages; read it, change nothing."""
    return trained.make(tmp_path_factory.mktemp("study"))
