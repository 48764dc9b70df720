"""Versions of the packages that compute: recorded, compared with what is installed, taken up or ignored."""

import shutil
import sys
from pathlib import Path

import pytest

from adshift.errors import AdshiftError
from adshift.project import paths, sources
from adshift.project.stage import run
from adshift.runtime import versions
from adshift.runtime.files import read_json
from tiny import ROOT, Project


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """{package: version}, in place of what is installed, in a project of two scripts for which `sources` has run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADSHIFT_IGNORE_VERSIONS", raising=False)
    monkeypatch.setattr(sources, "REGISTRIES", {"methods": {"nearest": "adshift.detectors.nearest:Nearest"}})
    files = {
        "stages/fit.py": "import adshift.bottom",
        "stages/table.py": "import csv",
        "src/adshift/bottom.py": "def f():\n    from numpy.linalg import norm",
        "src/adshift/detectors/nearest.py": "import faiss.contrib, os",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = {"numpy": "1.0", "faiss-gpu": "2.0", "torch": "3.0"}
    monkeypatch.setattr(versions, "installed", found.__getitem__)
    sources.write(paths.SOURCES)
    return found


def recorded() -> dict[str, dict[str, str]]:
    """{root: {package: version}}."""
    return {root: read_json(paths.SOURCES / f"{root}.json")["packages"] for root in sources.roots()}


def test_a_root_names_the_packages_that_its_files_import(installed: dict[str, str]) -> None:
    assert recorded() == {
        "stages/fit": {"numpy": "1.0"},
        "stages/table": {},
        "methods/nearest": {"faiss-gpu": "2.0"},
    }
    assert read_json(versions.RECORDED) == {"faiss-gpu": "2.0", "numpy": "1.0"}
    assert versions.changes() == []


def test_another_version_is_taken_up(installed: dict[str, str]) -> None:
    installed |= {"numpy": "1.1", "torch": "3.1"}  # which no file imports
    assert versions.changes() == ["numpy: recorded 1.0, installed 1.1; what computes with it runs again"]
    before = recorded()
    sources.write(paths.SOURCES)
    assert recorded() == {**before, "stages/fit": {"numpy": "1.1"}}
    assert versions.changes() == []


def test_nothing_is_computed_with_another_version(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed["numpy"] = "1.1"
    ran = []
    for script, refused in (("fit", True), ("table", False), ("adshift", False)):
        monkeypatch.setattr(sys, "argv", [f"stages/{script}.py"])
        if not refused:
            run(lambda script=script: ran.append(script), watched=False)
            continue
        with pytest.raises(
            SystemExit, match=r"numpy: recorded 1.0, installed 1.1(?s:.)*`adshift repro` records the installed"
        ):
            run(lambda: ran.append("fit"), watched=False)
    assert ran == ["table", "adshift"]
    versions.check("methods/nearest")
    installed["faiss-gpu"] = "none"
    with pytest.raises(AdshiftError, match=r"faiss-gpu: recorded 2\.0, installed none"):
        versions.check("methods/nearest")


def test_ignored_versions_change_no_record_and_are_written_down(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = recorded()
    installed["numpy"] = "1.1"
    monkeypatch.setenv("ADSHIFT_IGNORE_VERSIONS", "1")
    assert versions.changes() == ["numpy: recorded 1.0, installed 1.1; ignored, as ADSHIFT_IGNORE_VERSIONS=1 asks"]
    with pytest.raises(AdshiftError):  # not before it is written down
        versions.check("stages/fit")
    sources.write(paths.SOURCES)
    assert recorded() == before
    assert read_json(versions.IGNORED) == {"numpy": "recorded 1.0, installed 1.1"}
    assert versions.changes() == []
    versions.check("stages/fit")

    installed["numpy"] = "1.2"  # another one than was ignored
    with pytest.raises(AdshiftError, match=r"recorded 1\.0, installed 1\.2"):
        versions.check("stages/fit")
    installed["numpy"] = "1.0"
    assert versions.changes() == ["numpy: no longer ignored"]
    sources.write(paths.SOURCES)
    assert read_json(versions.IGNORED) == {}


def test_without_the_wish_an_ignored_version_is_taken_up(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed["numpy"] = "1.1"
    monkeypatch.setenv("ADSHIFT_IGNORE_VERSIONS", "1")
    sources.write(paths.SOURCES)
    monkeypatch.delenv("ADSHIFT_IGNORE_VERSIONS")
    assert versions.changes() == [
        "numpy: recorded 1.0, installed 1.1; what computes with it runs again",
        "numpy: no longer ignored",
    ]
    sources.write(paths.SOURCES)
    assert recorded()["stages/fit"] == {"numpy": "1.1"}


def test_a_damaged_record_is_told(installed: dict[str, str]) -> None:
    for content in (b"[]", b"{", b"\xff"):
        versions.RECORDED.write_bytes(content)
        with pytest.raises(AdshiftError, match=r"versions\.json: not readable(?s:.)*--single-item sources"):
            versions.changes()


def test_every_package_is_installed_under_its_name() -> None:
    assert {package: versions.installed(package) for package in versions.COMPUTING.values()} == {
        package: version
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        for package, _, version in [line.split(" ")[0].partition("==")]
        if package in versions.COMPUTING.values() and versions.installed(package) == version
    }


PIPELINE = """
stages:
  sources:
    cmd: python stages/sources.py
    deps: [src/adshift, stages, requirements.txt]
    outs:
      - data/sources: {persist: true}
  fit:
    cmd: python stages/fit.py
    deps: [data/sources/stages/fit.json]
    outs: [fitted.txt]
  package:
    cmd: python stages/package.py
    deps: [fitted.txt, data/sources/ignored.json, data/sources/stages/package.json]
    outs: [card.txt]
"""
FIT = """
from pathlib import Path
import numpy
from adshift.project.stage import run
if __name__ == "__main__":
    run(lambda: Path("fitted.txt").write_text(numpy.__name__))
"""
PACKAGE = FIT.replace("fitted", "card").replace("import numpy", "").replace("numpy.__name__", "'card'")


def test_repro_takes_up_what_was_installed_by_hand_or_keeps_the_results(tmp_path: Path) -> None:
    project = Project(tmp_path)
    for name in ("params.yaml", "requirements.txt", "stages/sources.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "src", tmp_path / "src")
    for name, text in {"dvc.yaml": PIPELINE, "stages/fit.py": FIT, "stages/package.py": PACKAGE}.items():
        (tmp_path / name).write_text(text)
    project.dvc("init", "--no-scm", "-q")
    assert project.ran(project.run("adshift", "repro").stdout) == {"sources", "fit", "package"}

    (tmp_path / "site/numpy-9.9.dist-info").mkdir(parents=True)
    (tmp_path / "site/numpy-9.9.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 9.9\n")
    project.environment = {"PYTHONPATH": f"{tmp_path / 'site'}:{tmp_path / 'src'}"}
    assert project.ran(project.dvc("repro")) == set()  # DVC does not see it
    again = ("repro", "--force", "--single-item", "fit")
    assert "installed 9.9: nothing is computed with other versions" in project.dvc(*again, ok=False)

    project.environment["ADSHIFT_IGNORE_VERSIONS"] = "1"
    done = project.run("adshift", "repro")
    assert project.ran(done.stdout) == {"sources", "package"}
    assert "installed 9.9; ignored" in done.stderr
    del project.environment["ADSHIFT_IGNORE_VERSIONS"]
    assert "fit" in project.ran(project.dvc(*again))  # as was written down

    done = project.run("adshift", "repro")
    assert project.ran(done.stdout) == {"sources", "fit"}  # the card is as it was at first: DVC has kept it
    assert "installed 9.9; what computes with it runs again" in done.stderr
    assert project.ran(project.run("adshift", "repro").stdout) == set()
