"""README's file tree is the repository's."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNLISTED = {".gitignore", ".dvcignore", ".pre-commit-config.yaml", "README.md", ".dvc/config", ".dvc/.gitignore"}
WHOLE = ("benchmarks/", "reference/", "docs/", "tests/", "studies/", ".dvc/plots/")  # listed as folders


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


def tracked() -> set[str]:
    found = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return {path for path in found if not path.endswith("__init__.py") and not path.startswith(WHOLE)} - UNLISTED


def test_the_tree_lists_every_file() -> None:
    assert {path for path in listed() if not path.endswith("/")} == tracked()


def test_the_tree_lists_no_folder_that_is_not_there() -> None:
    folders = {path for path in listed() if path.endswith("/")}
    assert folders
    assert [path for path in sorted(folders) if not (ROOT / path).is_dir()] == []


def test_the_stages_are_those_of_dvc() -> None:
    scripts = {path.name for path in (ROOT / "stages").glob("*.py")}
    lines = [line for path in ("dvc.yaml", "detectors/dvc.yaml") for line in (ROOT / path).read_text().splitlines()]
    assert scripts == {line.split("stages/")[1].split()[0] for line in lines
                       if line.strip().startswith(("cmd: python", "python stages/"))}  # fmt: skip
