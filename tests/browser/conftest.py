"""Pages in a real browser (`tests/support/chromium.py`), and the page of a run that never happened."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import fake_run
from adshift.evaluation.scenarios import SCENARIOS
from adshift.report import page, pictures
from adshift.report.results import Results, collect

ROOT = Path(__file__).parents[2]


@dataclass
class Visit:
    """A page in the browser, and everything that it complained of or asked for."""

    tab: object
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def visit(browser) -> Iterator[Callable[..., Visit]]:
    contexts = []

    def open_page(path: Path, **how: object) -> Visit:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **how})
        contexts.append(context)
        found = Visit(context.new_page())
        found.tab.set_default_timeout(20_000)
        found.tab.on("console", lambda message: found.complaints.append(f"{message.type}: {message.text}"))
        found.tab.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.tab.on("dialog", lambda dialog: (found.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        found.tab.on("request", lambda request: found.requests.append(request.url))
        found.tab.goto(path.as_uri())
        return found

    yield open_page
    for context in contexts:
        context.close()


@dataclass(frozen=True)
class Built:
    """A page and the run that it was built from; paths of the run are relative to its folder."""

    path: Path
    results: Results
    album: pictures.Album


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Built:
    """A run of two classes and two methods, with file names that try to become markup."""
    folder = tmp_path_factory.mktemp("browser")
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "plots").symlink_to(ROOT / ".dvc" / "plots")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fake_run.make(20, 21, more=fake_run.HOSTILE)
        results = collect("sample", fake_run.CLASSES, fake_run.METHODS, fake_run.RATIOS)
        album = pictures.Album("sample", 32, None, results.thresholds())
        html = page.build(
            "sample", results, album, backbone="b", drift="synthetic", count=30, required=0.8,
            shown=pictures.choose("sample", fake_run.CLASSES, 4), reference=ROOT / "reference",
        )  # fmt: skip
        for name in fake_run.CLASSES:  # read what a test may ask for, while this is the current folder
            for scenario in SCENARIOS:
                for method in fake_run.METHODS:
                    found = album.predictions(method, name, scenario, scenario.test)
                    for image in found.names[:3]:
                        album.overlay(method, name, scenario, image)
    path = folder / "report" / "index.html"
    path.parent.mkdir()
    path.write_text(html, encoding="utf-8")
    return Built(path, results, album)
