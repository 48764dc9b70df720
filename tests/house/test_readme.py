"""README is short, its file tree is the repository's, and the links of all pages lead somewhere."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNLISTED = {".gitignore", ".dvcignore", ".pre-commit-config.yaml", "README.md"}
LINES = 150


def listed() -> set[str]:
    """Paths of the tree in README, from the indentation."""
    lines = (ROOT / "README.md").read_text().split("<!-- tree")[1].split("```")[1].strip("\n").splitlines()
    paths, folders = set(), [""]
    for line in lines:
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth + 1 :] = [folders[depth] + name]
        paths.add(folders[depth] + name)
    return paths


def whole() -> tuple[str, ...]:
    """Folders of the tree of which nothing is listed: they stand for all that lies in them."""
    paths = listed()
    return tuple(path for path in paths if path.endswith("/") and sum(other.startswith(path) for other in paths) == 1)


def tracked() -> set[str]:
    found = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return {path for path in found if not path.endswith("__init__.py") and not path.startswith(whole())} - UNLISTED


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= LINES


def test_the_tree_lists_every_file() -> None:
    assert {path for path in listed() if not path.endswith("/")} == tracked()


def test_the_tree_lists_no_folder_that_is_not_there() -> None:
    folders = {path for path in listed() if path.endswith("/")}
    assert folders
    assert [path for path in sorted(folders) if not (ROOT / path).is_dir()] == []


def test_every_package_of_the_library_is_listed() -> None:
    packages = {f"src/adshift/{path.parent.name}/" for path in (ROOT / "src/adshift").glob("*/__init__.py")}
    assert packages
    assert packages <= listed()


def test_the_stages_are_those_of_dvc() -> None:
    scripts = {path.name for path in (ROOT / "stages").glob("*.py")}
    files = subprocess.run(["git", "ls-files", "dvc.yaml", "*/dvc.yaml"], cwd=ROOT, check=True, capture_output=True,
                           text=True).stdout.split()  # fmt: skip
    lines = [line for path in files for line in (ROOT / path).read_text().splitlines()]
    assert len(files) == 2
    assert scripts == {line.split("stages/")[1].split()[0] for line in lines
                       if line.strip().startswith(("cmd: python", "python stages/"))}  # fmt: skip


def test_links_lead_to_files() -> None:
    """Also on a git host, where the pages are read as they stand."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    links = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#\s:]+)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8"))
    ]
    site = ROOT / "docs/index.md"  # the one page that links to generated ones; `make docs` checks it
    assert len(links) > 50
    assert [f"{page.relative_to(ROOT)}: {target}" for page, target in links
            if not (page.parent / target).exists() and page != site] == []  # fmt: skip
