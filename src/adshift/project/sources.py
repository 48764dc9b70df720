"""Records of the source files that each stage runs, so that a change of code re-runs the affected stages only.

DVC does not follow imports. If a stage listed every module that it imports, it would have a dozen dependencies, easily
forgotten, which DVC would hash, lock and write at every stage. So one file per root lists them: a root is a stage
script, or a detector, data set or family of backbones, which stages import by name. A stage depends on the files of the
roots that it runs. A file holds

    {"files": {path: sha256}, "packages": {package that computes: version}}

The hash of a module is that of its syntax tree without docstrings, so that comments, docstrings and formatting change
no hash. The hash of any other file is that of its bytes.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from adshift.data.registry import DATASETS, FAMILIES
from adshift.detectors.registry import REGISTRY, is_bridged, module_name
from adshift.errors import AdshiftError
from adshift.evaluation.registry import LEVERS
from adshift.runtime.files import write_json
from adshift.runtime.versions import COMPUTING, IGNORED, RECORDED, choose

PACKAGE = Path("src/adshift")

# Imported by name, without an import statement: {folder in data/sources: {name: module, or module:class}}.
REGISTRIES = {"datasets": DATASETS, "methods": REGISTRY, "backbones": FAMILIES, "levers": LEVERS}

# No output depends on these, so that a better error message re-runs nothing. The other contents of registries and paths
# are also in dvc.yaml, params.yaml and data/checked_network.json.
PLUMBING = {
    PACKAGE / f"{name}.py"
    for name in (
        "__init__", "errors", "runtime/checksums", "runtime/device", "runtime/files", "runtime/parallel",
        "runtime/settings", "runtime/signals", "runtime/versions", "data/registry", "data/settings",
        "features/settings", "features/backbones/families", "detectors/registry", "evaluation/settings",
        "evaluation/registry", "project/cluster/handover", "project/graph", "project/params", "project/paths",
        "project/stage", "report/settings",
        "search/products",  # exact search on a card, the same results as on the processor within docs/devices.md
        # Packages whose own file holds only a docstring.
        "runtime/__init__", "data/__init__", "data/shift/__init__", "features/__init__",
        "features/backbones/edge/__init__", "search/__init__", "detectors/__init__", "detectors/components/__init__",
        "evaluation/__init__", "evaluation/metrics/__init__", "report/__init__", "deploy/__init__", "project/__init__",
        "project/cluster/__init__",
    )
}  # fmt: skip


def roots(methods: Iterable[str] = ()) -> dict[str, Path]:
    """{name of the written file, without suffix: source file of the root}, relative to the project.

    `methods` are those in use: models of anomalib are methods by name alone, and have one root in common.
    """
    scripts = {f"stages/{path.stem}": path for path in sorted(Path("stages").glob("*.py"))}
    named = {
        f"{folder}/{name}": list(_files(module.split(":")[0]))[-1]
        for folder, modules in REGISTRIES.items()
        for name, module in modules.items()
    }
    bridged = {f"methods/{name}": list(_files(module_name(name)))[-1] for name in methods if is_bridged(name)}
    return scripts | named | bridged


def closure(root: Path, direct: dict[Path, set[Path]] | None = None) -> set[Path]:
    """`root`, all files of this package that it imports directly or indirectly, and the data files beside them.

    Imports by names that are only known at run time are not found; a test allows them in the registries only.

    Args:
        root: a Python file, relative to the project.
        direct: {module: its own imports, and data beside it}, as far as known; completed here. Closures of one tree may
            share it.

    Raises:
        AdshiftError: a file is no Python, or has a relative import outside of a package.
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
    """The packages with influence on results that these files import."""
    names = {name.split(".")[0] for path in files if path.suffix == ".py" for name in _imported(path)}
    return {COMPUTING[name] for name in names & COMPUTING.keys()}


def write(folder: Path, methods: Iterable[str] = ()) -> None:
    """Write the `contents` into `folder`."""
    for name, content in contents(methods).items():
        write_json(folder / f"{name}.json", content)


def contents(methods: Iterable[str] = ()) -> dict[str, Any]:
    """{name of the file, without suffix: its content} of every root, and of the versions of all packages in use."""
    direct: dict[Path, set[Path]] = {}
    files = {name: closure(root, direct) for name, root in roots(methods).items()}
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
    """SHA-256 of a module's syntax tree without docstrings, or of the bytes of any other file."""
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

    Docstrings and positions are left out, and empty fields, since new versions of Python add some.
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
    """Files of this package that an import of a dotted name runs: the module and the packages around it."""
    first, *parts = name.split(".")
    if first != PACKAGE.name:
        return
    for depth in range(1, len(parts) + 1):
        module = PACKAGE.joinpath(*parts[:depth])
        for path in (module.with_suffix(".py"), module / "__init__.py"):
            if path.is_file():
                yield path


def _data(path: Path) -> Iterator[Path]:
    """Data files beside a module, such as templates: those with its name, and those without a module's name."""
    if path.parent != PACKAGE and PACKAGE in path.parents:
        for entry in path.parent.iterdir():
            own = entry.stem == path.stem or not entry.with_suffix(".py").is_file()
            if own and entry.is_file() and entry.suffix != ".py":
                yield entry
