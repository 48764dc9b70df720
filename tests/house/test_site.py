"""The documentation site: `make docs` is strict, needs no network to be read, and its generated pages are complete."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import adshift
from adshift.cli import parser

pytest.importorskip("mkdocs")
ROOT = Path(__file__).parents[2]

import site_pages  # noqa: E402

LOADED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?(https?:)?//[^>]*>")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does, elsewhere."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder], cwd=ROOT,
                          check=False, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "NO_MKDOCS_2_WARNING": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_no_page_loads_anything_from_elsewhere(built: Path) -> None:
    pages = list(built.rglob("*.html"))
    assert len(pages) > 30
    found = {page.name: [one[0] for one in LOADED.finditer(page.read_text(encoding="utf-8"))] for page in pages}
    assert {name: tags for name, tags in found.items() if tags} == {}
    styles = [path.read_text(encoding="utf-8") for path in built.rglob("*.css")]
    assert styles
    assert not any(re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", text) for text in styles)


def test_what_is_loaded_from_elsewhere_is_noticed() -> None:
    for tag in ('<script src="https://a.b/c.js"></script>', '<link href="//fonts.example/css" rel="stylesheet">'):
        assert LOADED.search(tag), tag
    assert not LOADED.search('<script src="assets/a.js"></script> <a href="https://dvc.org">DVC</a>')


def test_every_parameter_is_listed_with_its_default() -> None:
    text = (ROOT / "params.yaml").read_text()
    found = {key: value for key, value, _ in site_pages.leaves(text)}
    expected: dict[str, object] = {}

    def walk(values: dict, above: str = "") -> None:
        for key, value in values.items():
            if value and isinstance(value, dict):
                walk(value, f"{above}{key}.")
            else:
                expected[above + key] = value

    walk(YAML(typ="safe").load(text))
    assert found.keys() == expected.keys()
    assert {key: YAML(typ="safe").load(value) if value else None for key, value in found.items()} == expected


def test_every_verb_has_its_help() -> None:
    page = site_pages.command_line()
    names = [name for name, _ in site_pages.verbs(parser())]
    listed = re.findall(r"^    ([a-z-]+) ", parser().format_help(), re.MULTILINE)
    assert len(listed) > 10
    assert [name for name in listed if not any(f"{one} ".startswith(f"adshift {name} ") for one in names)] == []
    assert {"adshift study list", "adshift study run"} <= set(names)
    assert [name for name in names if f"\n## {name}\n" not in page or f"usage: {name} " not in page] == []


def test_every_module_is_on_a_page() -> None:
    pages = site_pages.public_api() + "".join(site_pages.package_page(name) for name in site_pages.packages())
    names = [
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "src/adshift").rglob("*.py")
        if path.read_text().strip()
    ]
    assert len(names) > 50
    assert [name for name in names if name != "adshift" and f"`{name}`" not in pages] == []


def test_the_public_names_are_documented(built: Path) -> None:
    page = (built / "api/index.html").read_text(encoding="utf-8")
    assert set(site_pages.PUBLIC) == set(adshift.__all__) - {"__version__"}
    assert [name for name in site_pages.PUBLIC if f'<h2 id="adshift.{name}"' not in page] == []


def test_links_between_docs_and_what_lies_outside_work_in_both_directions(built: Path) -> None:
    assert 'href="docs/' not in (built / "contributing.html").read_text(encoding="utf-8")
    assert 'href="architecture.html"' in (built / "contributing.html").read_text(encoding="utf-8")
    assert 'href="reference/shift_study.csv"' in (built / "deviations.html").read_text(encoding="utf-8")
    assert (built / "reference/shift_study.csv").read_bytes() == (ROOT / "reference/shift_study.csv").read_bytes()
