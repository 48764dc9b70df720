"""Which source files a piece of the pipeline runs, so that DVC re-runs what a change of code affects and nothing else.

DVC follows no imports. A stage that named every module it imports would need a dozen dependencies, forgotten easily and
hashed, locked and written by DVC at every stage. So one file a root says them all, {path: sha256}: for a stage script
and what it imports, and for each detector and data set, which stages find by name. A stage depends on those it runs.
"""

import ast
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

from adshift.errors import AdshiftError
from adshift.images import sha256
from adshift.stage import write_json

PACKAGE = Path("src/adshift")

# Named by params.yaml: a stage depends on the one that it uses.
REGISTRIES = ("datasets", "methods")

# No output depends on these, so that a better error message re-runs nothing.
PLUMBING = {
    *(
        PACKAGE / f"{name}.py"
        for name in ("__init__", "checksums", "errors", "guard", "parallel", "params", "registry", "stage")
    ),
    PACKAGE / "methods/__init__.py",
}


def roots() -> dict[str, Path]:
    """{name of the written file, without suffix: the source file that it starts from}, relative to the project."""
    scripts = {f"stages/{path.stem}": path for path in sorted(Path("stages").glob("*.py"))}
    named = {
        f"{registry}/{path.stem}": path
        for registry in REGISTRIES
        for path in sorted((PACKAGE / registry).glob("*.py"))
        if path.stem != "__init__"
    }
    return scripts | named


def closure(root: Path) -> set[Path]:
    """`root` and every file of this package that it imports, directly or not, anywhere in its text; data beside them.

    What is imported by a name that only a run knows is not seen; tests/test_sources.py allows it to the registries.

    Raises:
        AdshiftError: a file is no Python, or imports relatively to what is no package.
    """
    found: set[Path] = set()
    waiting = {root}
    while waiting:
        path = waiting.pop()
        found.add(path)
        if path.suffix == ".py":
            waiting |= {*_imports(path), *_data(path)} - found - PLUMBING
    return found


def write(folder: Path) -> None:
    """Write `NAME.json`, {path: sha256}, of every root into `folder`."""
    for name, root in roots().items():
        write_json(folder / f"{name}.json", {path.as_posix(): sha256(path) for path in closure(root)})


def _imports(path: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except SyntaxError as error:
        raise AdshiftError(f"{path}: line {error.lineno}: {error.msg}", "mend it") from None
    inside = PACKAGE in path.parents
    package = ".".join(path.relative_to(PACKAGE.parent).parent.parts) if inside else ""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            try:
                module = resolve_name("." * node.level + (node.module or ""), package)
            except ImportError as error:
                raise AdshiftError(f"{path}: line {node.lineno}: {error}", "import by the full name") from None
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            yield from _files(name)


def _files(name: str) -> Iterator[Path]:
    """Files of this package that importing a dotted name runs: the module's, and those of the packages around it."""
    first, *parts = name.split(".")
    if first != PACKAGE.name:
        return
    for depth in range(1, len(parts) + 1):
        place = PACKAGE.joinpath(*parts[:depth])
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                yield path


def _data(path: Path) -> Iterator[Path]:
    """Templates and the like: what lies beside a module and is no Python."""
    if path.parent != PACKAGE and PACKAGE in path.parents:
        yield from (entry for entry in path.parent.iterdir() if entry.is_file() and entry.suffix != ".py")
