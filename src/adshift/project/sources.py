"""Which source files a piece of the pipeline runs, so that DVC re-runs what a change of code affects and nothing else.

DVC follows no imports. A stage that named every module it imports would need a dozen dependencies, forgotten easily and
hashed, locked and written by DVC at every stage. So one file a root says them all: for a stage script and what it
imports, and for each detector, data set and family of backbones, which stages find by name. A stage depends on the
files of the roots that it runs. Each is

    {"files": {path: sha256}, "packages": {package that computes: version}}

What is hashed of a module is its syntax tree without docstrings, so that a comment, a docstring or a formatter changes
no hash. Of any other file it is the bytes.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from adshift.data.registry import DATASETS, FAMILIES
from adshift.detectors.registry import REGISTRY
from adshift.errors import AdshiftError
from adshift.runtime.files import write_json
from adshift.runtime.versions import COMPUTING, IGNORED, RECORDED, choose

PACKAGE = Path("src/adshift")

# Imported by name, so that no import statement leads there: {folder in data/sources: {name: module, or module:class}}.
REGISTRIES = {"datasets": DATASETS, "methods": REGISTRY, "backbones": FAMILIES}

# No output depends on these, so that a better error message re-runs nothing. What registries and paths say beside,
# dvc.yaml, params.yaml and data/checked_network.json say too.
PLUMBING = {
    PACKAGE / f"{name}.py"
    for name in (
        "__init__", "errors", "runtime/checksums", "runtime/files", "runtime/parallel", "runtime/settings",
        "runtime/signals", "runtime/versions", "data/registry", "data/settings", "features/settings",
        "features/backbones/families", "detectors/registry", "evaluation/settings",
        "project/graph", "project/params", "project/paths", "project/stage", "report/settings",
        # Packages whose own file says nothing but what they are for.
        "runtime/__init__", "data/__init__", "data/shift/__init__", "features/__init__",
        "features/backbones/edge/__init__", "search/__init__", "detectors/__init__", "detectors/components/__init__",
        "evaluation/__init__", "evaluation/metrics/__init__", "report/__init__", "deploy/__init__", "project/__init__",
    )
}  # fmt: skip


def roots() -> dict[str, Path]:
    """{name of the written file, without suffix: the source file that it starts from}, relative to the project."""
    scripts = {f"stages/{path.stem}": path for path in sorted(Path("stages").glob("*.py"))}
    named = {
        f"{folder}/{name}": list(_files(module.split(":")[0]))[-1]
        for folder, modules in REGISTRIES.items()
        for name, module in modules.items()
    }
    return scripts | named


def closure(root: Path, direct: dict[Path, set[Path]] | None = None) -> set[Path]:
    """`root` and every file of this package that it imports, directly or not, anywhere in its text; data beside them.

    Imports by a name that is known at run time alone are not seen; a test allows them to the registries only.

    Args:
        root: a Python file, relative to the project.
        direct: {module: what it imports itself, and data beside it} as far as known; completed here. The closures of
            one tree may share it.

    Raises:
        AdshiftError: a file is no Python, or imports relatively to what is no package.
    """
    direct = {} if direct is None else direct
    reached: set[Path] = set()
    waiting = {root}
    while waiting:
        path = waiting.pop()
        reached.add(path)
        if path.suffix == ".py":
            if path not in direct:
                direct[path] = {*_imports(path), *_data(path)} - PLUMBING
            waiting |= direct[path] - reached
    return reached


def packages(files: set[Path]) -> set[str]:
    """The packages that compute which these files import."""
    names = {name.split(".")[0] for path in files if path.suffix == ".py" for name in _imported(path)}
    return {COMPUTING[name] for name in names & COMPUTING.keys()}


def write(folder: Path) -> None:
    """Write what `contents` says into `folder`."""
    for name, content in contents().items():
        write_json(folder / f"{name}.json", content)


def contents() -> dict[str, Any]:
    """{name of the file, without suffix: what it holds}, of every root, and of the versions of all packages in use."""
    direct: dict[Path, set[Path]] = {}
    files = {name: closure(root, direct) for name, root in roots().items()}
    used = {name: packages(paths) for name, paths in files.items()}
    recorded, ignored = choose(set().union(*used.values()))
    described = {
        name: {
            "files": {path.as_posix(): digest(path) for path in paths},
            "packages": {package: recorded[package] for package in used[name]},
        }
        for name, paths in files.items()
    }
    return {**described, RECORDED.stem: recorded, IGNORED.stem: ignored}


def digest(path: Path) -> str:
    """SHA-256 of what a file does: of a module's syntax tree without docstrings, of the bytes of any other file."""
    if path.suffix == ".py":
        return _parsed(path, path.read_bytes())[1]
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _parsed(path: Path, content: bytes) -> tuple[tuple[ast.Import | ast.ImportFrom, ...], str]:
    """A module's import statements and its hash."""
    try:
        tree = ast.parse(content, str(path))
    except SyntaxError as error:
        raise AdshiftError(f"{path}: line {error.lineno}: {error.msg}", "correct it") from None
    statements = tuple(node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    return statements, hashlib.sha256(_dump(tree).encode()).hexdigest()


def _dump(node: object) -> str:
    """A syntax tree as text that is the same under every version of Python: ast.dump's is not.

    Left out: docstrings, positions, and fields that are empty, since new versions of Python bring new ones.
    """
    if isinstance(node, list):
        return f"[{','.join(map(_dump, node))}]"
    if not isinstance(node, ast.AST):
        return ascii(node)  # repr depends on the version of Unicode
    fields = {name: value for name, value in ast.iter_fields(node) if name not in ("kind", "type_comment")}
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _has_docstring(node):
        fields["body"] = node.body[1:]
    parts = [f"{name}={_dump(fields[name])}" for name in sorted(fields) if fields[name] not in (None, [])]
    return f"{type(node).__name__}({','.join(parts)})"


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return ast.get_docstring(node, clean=False) is not None


def _imported(path: Path) -> Iterator[str]:
    """Dotted names that a module imports; of `from a import b` both a and a.b, which may be a module."""
    statements, _ = _parsed(path, path.read_bytes())
    package = ".".join(path.relative_to(PACKAGE.parent).parent.parts) if PACKAGE in path.parents else ""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            continue
        try:
            module = resolve_name("." * node.level + (node.module or ""), package)
        except ImportError as error:
            raise AdshiftError(f"{path}: line {node.lineno}: {error}", "import by the full name") from None
        yield from (module, *(f"{module}.{alias.name}" for alias in node.names))


def _imports(path: Path) -> Iterator[Path]:
    for name in _imported(path):
        yield from _files(name)


def _files(name: str) -> Iterator[Path]:
    """Files of this package that importing a dotted name runs: the module's, and those of the packages around it."""
    first, *parts = name.split(".")
    if first != PACKAGE.name:
        return
    for depth in range(1, len(parts) + 1):
        module = PACKAGE.joinpath(*parts[:depth])
        for path in (module.with_suffix(".py"), module / "__init__.py"):
            if path.is_file():
                yield path


def _data(path: Path) -> Iterator[Path]:
    """Templates and the like beside a module: those called as it is, and those called as no module there."""
    if path.parent != PACKAGE and PACKAGE in path.parents:
        for entry in path.parent.iterdir():
            own = entry.stem == path.stem or not entry.with_suffix(".py").is_file()
            if own and entry.is_file() and entry.suffix != ".py":
                yield entry
