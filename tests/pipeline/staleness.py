"""Which stages a change of a parameter or of code re-runs, as DVC sees it, without running any.

Outputs are placeholders.

`python tests/pipeline/staleness.py` rewrites docs/staleness.md from what DVC says.
"""

import ast
import copy
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

from ruamel.yaml import YAML

from adshift.detectors import registry
from adshift.project import params, paths, sources
from adshift.runtime import versions
from adshift.runtime.files import write_json

ROOT = Path(__file__).parents[2]
DOC = ROOT / "docs" / "staleness.md"
CHECKS = {"check", "check_network"}  # their outputs never change, but for the settings that check writes
COPIED = (
    "dvc.yaml", "pipeline", "params.yaml", "requirements.txt",
    "stages", "src", "reference", ".dvcignore", ".dvc/plots",
)  # fmt: skip
Sets = tuple[set[str], set[str]]  # stages that are stale at once, and that may follow
STORED = (*params.STORED, *registry.REGISTRY)  # sections of those settings
HEAD = """\
# What a change re-runs

Stages that `dvc status` calls stale after one change, and what hangs on their outputs. A stage further down runs only
if an output above it really comes out different: DVC compares contents. All detectors are taken to be in use here,
whatever `methods` says.

Written by `python tests/pipeline/staleness.py`, compared with DVC by `tests/pipeline/test_staleness.py`.

## A parameter

One row for the leaves of a section of `params.yaml` that re-run the same. `check` looks at every parameter. It writes
the sections of the features, the shift and the methods into files, these in two halves: what follows depends on the
file that changed. Beside that its output never changes, nor does that of `check_network`, which looks at the features'
parameters. A new class makes `prepare` run again, but every other class's manifest keeps its bytes, so its items stay
fresh (tests/pipeline/test_pipeline.py sees that in a run). With `features.store: needed`, `methods`,
`ablation.ratios` and the `layers` of a method in use can also change the features' file: `embed`, `harden`, `normalise`
and all that follows from them then run, if other layers are needed than before.

| parameters | stale at once | may follow |
| --- | --- | --- |
"""
CODE = """
## Code and packages

`sources` runs at every change of a file of `src/adshift` or `stages`, for a second. It hashes syntax trees without
docstrings, so a comment, a docstring or a formatter re-runs nothing else; files that are no Python, such as templates,
it hashes by their bytes. It follows import statements from the script of a stage, and from each detector, data set and
family of backbones, which are imported by name. Modules that change no output (`sources.PLUMBING`) are left out.

The family of backbones in use concerns `embed` by what `check_network` writes: its output changes if
`features.backbone` names a network of that family, and stays the same otherwise.

A package is one of those that compute: {packages}. What is installed DVC does not see. `sources` records the versions,
and runs when `requirements.txt` changes. After an installation by hand `adshift repro` (and so `make repro`) notices
the difference and runs `sources` first; a stage that a plain `dvc repro` starts refuses to compute with another version
than is recorded. `ADSHIFT_IGNORE_VERSIONS=1 adshift repro` says that the versions are the same: nothing is stale but
`package` and `report`, which write into the model cards and the page what differs.

| change | in | stale at once | may follow |
| --- | --- | --- | --- |
"""


# Another value of lists whose first entry is a part of a path, and of an empty one.
OTHER = {"graph.normalised": ["features/clean"], "graph.calibrated": ["test"], "graph.paste": ["pasted"]}


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted leaves of params.yaml; a list is one leaf."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def other(key: str, value: Any) -> Any:
    """Another value for a leaf, such that dvc.yaml still resolves."""
    if key == "methods" or key.startswith("graph."):
        return OTHER.get(key, [*value[:-1]])
    if key == "classes":
        return [*value, "extra"]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, value[-1] if value else "other"]
    return "other" if value is None else f"{value}x"


def _comment(text: str) -> str:
    return f"# first\n{text}\n# last\n"


def _docstring(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body[0] = ast.Expr(ast.Constant("Another docstring."))
    return ast.unparse(tree)


def _layout(text: str) -> str:
    return ast.unparse(ast.parse(text))


def _last_function(tree: ast.Module) -> ast.FunctionDef:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)][-1]


def _local(text: str) -> str:
    """Rename the first variable that a function assigns."""
    tree = ast.parse(text)
    nodes = [node for node in ast.walk(_last_function(tree)) if isinstance(node, ast.Name)]
    name = next(node.id for node in nodes if isinstance(node.ctx, ast.Store))
    for node in nodes:
        if node.id == name:
            node.id = f"{name}_renamed"
    return ast.unparse(tree)


def _constant(text: str) -> str:
    """Another value for the first number."""
    tree = ast.parse(text)
    number = next(n for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) in (int, float))
    number.value += 1  # type: ignore[operator]
    return ast.unparse(tree)


def _body(text: str) -> str:
    """One statement more in a function."""
    tree = ast.parse(text)
    _last_function(tree).body.append(ast.parse("print()").body[0])
    return ast.unparse(tree)


# {kind of change: what it makes of a file's text}
CHANGES: dict[str, Callable[[str], str]] = {
    "comment": _comment,
    "docstring": _docstring,
    "layout": _layout,
    "renamed local": _local,
    "constant": _constant,
    "function body": _body,
    "template": lambda text: f"{text}<!-- changed -->",
}
VERSION = "version"  # the other kind: of an installed package
SOURCE = "src/adshift"
EDITS = (
    ("comment", f"{SOURCE}/runtime/seeding.py"),
    ("comment", f"{SOURCE}/data/splits.py"),
    ("comment", "stages/fit.py"),
    ("docstring", f"{SOURCE}/data/images.py"),
    ("layout", f"{SOURCE}/search/kernels.py"),
    ("function body", f"{SOURCE}/project/params.py"),
    ("function body", f"{SOURCE}/runtime/seeding.py"),
    ("function body", f"{SOURCE}/data/images.py"),
    ("renamed local", f"{SOURCE}/search/kernels.py"),
    ("function body", f"{SOURCE}/data/datasets/sample.py"),
    ("function body", f"{SOURCE}/data/splits.py"),
    ("renamed local", f"{SOURCE}/data/split_file.py"),
    ("constant", f"{SOURCE}/features/store.py"),
    ("function body", f"{SOURCE}/features/backbones/folding.py"),
    ("function body", f"{SOURCE}/features/backbones/edge/mcunet.py"),
    ("constant", f"{SOURCE}/search/coreset.py"),
    ("function body", f"{SOURCE}/detectors/padim.py"),
    ("renamed local", f"{SOURCE}/detectors/components/training.py"),
    ("function body", f"{SOURCE}/evaluation/scenarios.py"),
    ("function body", f"{SOURCE}/evaluation/calibration.py"),
    ("constant", f"{SOURCE}/evaluation/metrics/pro.py"),
    ("function body", f"{SOURCE}/evaluation/intervals.py"),
    ("renamed local", f"{SOURCE}/report/page.py"),
    ("template", f"{SOURCE}/report/page.html"),
    ("function body", f"{SOURCE}/deploy/package.py"),
    ("function body", "stages/score.py"),
    (VERSION, "torch"),
    (VERSION, "timm"),
    (VERSION, "numpy"),
    (VERSION, "faiss-gpu"),
    (VERSION, "anomalib"),
    (VERSION, "scipy"),
    (VERSION, "scikit-image"),
    (VERSION, "pillow"),
)


def placeholder(path: Path) -> None:
    if path.exists():
        return
    if path.suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))
    else:
        path.mkdir(parents=True)
        (path / "content").write_text(str(path))


def _parse_once() -> None:
    """Let DVC parse an unchanged YAML text once: it parses params.yaml for every stage, 60 times a status."""
    from dvc.utils import strictyaml
    from dvc.utils.serialize import _yaml

    parse: Any = _yaml.parse_yaml
    if hasattr(parse, "seen"):
        return
    seen: dict[tuple[str, str], Any] = {}

    def remembered(text: str, path: str, typ: str = "safe") -> Any:
        if (text, typ) not in seen:
            seen[text, typ] = parse(text, path, typ)
        return copy.deepcopy(seen[text, typ])

    remembered.seen = seen  # type: ignore[attr-defined]
    _yaml.parse_yaml = strictyaml.parse_yaml = remembered


def _is_file(entry: Any) -> bool:
    from dvc.dependency.param import ParamsDependency

    return not isinstance(entry, ParamsDependency) and str(entry) != "params.yaml"


def _files(stage: Any) -> set[str]:
    """What a stage reads and writes but parameters."""
    return {str(entry) for entry in [*stage.deps, *stage.outs] if _is_file(entry)}


def _related(one: str, other: str) -> bool:
    """Whether two keys are one, or one is above the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _concerns(dep: Any, key: str) -> bool:
    """Whether a stage's dependency is on a parameter at, above or below `key`, or on params.yaml as a file."""
    from dvc.dependency.param import ParamsDependency

    if isinstance(dep, ParamsDependency):
        return not dep.params or any(_related(key, name) for name in dep.params)
    return bool(dep.def_path == "params.yaml")


class Pipeline:
    """A copy of the pipeline in `folder`, all stages fresh over placeholder outputs.

    A stage is called by its name alone, in whichever dvc.yaml it is.
    """

    def __init__(self, folder: Path) -> None:
        _parse_once()
        from dvc.repo import Repo
        from dvc.stage.serialize import to_single_stage_lockfile

        Repo.init(str(folder), no_scm=True)
        (folder / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(
                    source,
                    folder / name,
                    dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "dvc.lock"),
                )
            elif source.exists():
                shutil.copy(source, folder / name)
        self.params = folder / "params.yaml"
        self.values = YAML(typ="safe").load(self.params.read_text())
        self.values["methods"] = list(registry.REGISTRY)  # every detector's knobs, in use by default or not
        with self.params.open("w") as file:
            YAML().dump(self.values, file)
        self.text = self.params.read_text()
        os.chdir(folder)
        self.repo = Repo(".")
        stages = list(self.repo.index.stages)
        self.paths = {stage.path for stage in stages}
        self.files = {stage.name: _files(stage) for stage in stages}
        self.deps = {stage.name: {str(dep) for dep in stage.deps if _is_file(dep)} for stage in stages}
        self.restore_settings()
        self.sources = sources.contents()
        sources.write(paths.SOURCES)
        # Files first: a folder that holds another path needs no content of its own.
        for outputs in ([d for s in stages for d in s.deps], [o for s in stages for o in s.outs]):
            for path in sorted((Path(str(p)) for p in outputs if p.protocol == "local"), key=lambda p: -len(p.parts)):
                if path.parts[0] in ("data", "models", "timings", "metrics", "plots", "report"):
                    placeholder(path)
        locks: dict[Path, dict[str, Any]] = {}
        with self.repo.lock:
            for stage in stages:  # what `dvc commit` does, but one write of each dvc.lock, not one a stage
                stage.save()
                stage.commit()
                locks.setdefault(Path(stage.path).with_suffix(".lock"), {})[stage.name] = to_single_stage_lockfile(
                    stage
                )
        for path, entries in locks.items():
            with path.open("w") as file:
                YAML().dump({"schema": "2.0", "stages": entries}, file)

    def store_settings(self, section: str, every: dict[str, Any]) -> set[str]:
        """Write what the stage `check` writes, unchecked: any other value will do. Returns the changed files."""
        stored = params.stored_values(every)  # one section may have a say in another's file
        files = {paths.SETTINGS / f"{name}.json": values for name, values in stored.items()}
        if section in registry.REGISTRY:
            halves = registry.halves(section, every[section])
            files = {paths.settings_path(section, part): half for part, half in halves.items()}
        changed = set()
        for path, content in files.items():
            before = path.read_text() if path.exists() else ""
            write_json(path, content)
            changed |= {str(path)} if path.read_text() != before else set()
        return changed

    def restore_settings(self) -> None:
        for section in STORED:
            self.store_settings(section, self.values)

    def names(self) -> set[str]:
        return set(self.files)  # with params.yaml as it is; DVC's index may be that of the last change tried

    def stale(self) -> set[str]:
        """Stages that DVC calls stale now."""
        from fsspec.implementations.memory import MemoryFileSystem

        MemoryFileSystem.store.clear()  # DVC keeps each listing of a folder there and looks through all of them
        self.repo._reset()
        with self.repo.lock:
            return {stage.name for stage in self.repo.index.stages if stage.status()}

    @cached_property
    def interpolated(self) -> set[str]:
        """Keys of params.yaml that the two dvc.yaml are filled from."""
        return {key for path in set(self.paths) for key in re.findall(r"\$\{([\w.]+)", Path(path).read_text())}

    def fills(self, key: str) -> bool:
        """Whether the stages are built from this key, or from one above or below it."""
        return any(_related(key, other) for other in self.interpolated)

    def stale_params(self, key: str) -> set[str]:
        """The same where nothing but this key of params.yaml has changed.

        DVC is asked about parameters at, above and below the key. Stages are built again only if dvc.yaml is filled
        from it, and hashed only if their files are others then.
        """
        rebuilt = self.fills(key)
        if rebuilt:
            self.repo._reset()
        with self.repo.lock:
            return {
                stage.name
                for stage in self.repo.index.stages
                if (rebuilt and _files(stage) != self.files.get(stage.name) and stage.status())
                or any(dep.status() for dep in stage.deps if _concerns(dep, key))
                or (rebuilt and stage.changed_stage())
            }

    def after(self, key: str, value: Any) -> tuple[set[str], set[str]]:
        """Stages that are stale when `key` alone has another value, and those that then may follow."""
        changed = copy.deepcopy(self.values)
        place = changed
        *parents, last = key.split(".")
        for part in parents:
            place = place[part]
        place[last] = value
        with self.params.open("w") as file:
            YAML().dump(changed, file)
        section = parents[0] if parents else key
        try:
            direct = self.stale_params(key)
            if section not in STORED:
                return direct, self.downstream(direct)
            files = self.store_settings(section, changed)
            places = {str(place) for file in files for place in (file, *Path(file).parents)}
            then = {name for name, paths in self.files.items() if paths & places} - CHECKS
            return direct, (then | self.downstream(then | direct)) - direct
        finally:
            self.params.write_text(self.text)
            self.restore_settings()
            if self.fills(key):
                self.repo._reset()

    def changed_files(self, kind: str, what: str) -> set[Path]:
        """Files that differ after an edit, which is undone: that of the code, and those that `sources` would write."""
        edited: set[Path] = set()
        if kind == VERSION:
            installed = versions.installed
            with mock.patch.object(versions, "installed", lambda name: "0" if name == what else installed(name)):
                found = sources.contents()
        else:
            path = Path(what)
            before = path.read_text()
            after = CHANGES[kind](before)
            assert after != before
            path.write_text(after)
            try:
                found = sources.contents()
            finally:
                path.write_text(before)
            edited = {path}
        names = {name for name in found.keys() | self.sources if found.get(name) != self.sources.get(name)}
        return edited | {paths.SOURCES / f"{name}.json" for name in names}

    def reading(self, files: set[Path]) -> set[str]:
        """Stages that depend on one of these files, by itself or in a folder."""
        places = {str(place) for file in files for place in (file, *file.parents)}
        return {name for name, deps in self.deps.items() if deps & places}

    def after_edit(self, kind: str, what: str) -> tuple[set[str], set[str]]:
        """Stages that are stale after an edit of code or a change of a package, and those that then may follow."""
        direct = self.reading(self.changed_files(kind, what))
        return direct, self.downstream(direct - {"sources"}) - direct

    @cached_property
    def dependants(self) -> dict[str, set[str]]:
        """{stage: all that depend on its outputs, directly or not}, for params.yaml as it is."""
        import networkx

        self.repo._reset()
        graph = self.repo.index.graph
        return {one.name: {other.name for other in networkx.ancestors(graph, one)} for one in graph}

    def downstream(self, names: set[str]) -> set[str]:
        """Stages that depend, directly or not, on outputs of `names`, left out; check's output never changes."""
        return set[str]().union(*(self.dependants.get(name, set()) for name in names - CHECKS)) - names


def collapse(names: set[str], every: set[str]) -> str:
    """Stage names for a reader: a group's name alone where all its items are meant."""
    words = []
    for group in dict.fromkeys(name.split("@")[0] for name in sorted(every)):
        items = {name for name in every if name.split("@")[0] == group}
        chosen = items & names
        if not chosen:
            continue
        if chosen == items:
            words.append(group)
            continue
        parts = {part for name in chosen for part in name.split("@")[1].split("-")}
        by_part = {part: {name for name in items if part in name.split("@")[1].split("-")} for part in parts}
        left = set(chosen)
        common = []
        for part in sorted(parts, key=lambda part: (-len(by_part[part]), part)):
            if by_part[part] <= chosen and by_part[part] & left:
                common.append(f"{group}@{part}")
                left -= by_part[part]
        words.extend(sorted(chosen) if left else sorted(common))
    return ", ".join(words) or "nothing"


def table(pipeline: Pipeline) -> dict[str, tuple[set[str], set[str]]]:
    """{leaf: (stale at once, may follow)}."""
    result = {}
    for key, value in leaves(pipeline.values):
        result[key] = pipeline.after(key, other(key, value))
    return result


def code_table(pipeline: Pipeline) -> dict[tuple[str, str], tuple[set[str], set[str]]]:
    """{edit: (stale at once, may follow)}."""
    return {edit: pipeline.after_edit(*edit) for edit in EDITS}


def together(found: dict[str, Sets]) -> Iterator[tuple[str, Sets]]:
    """Rows of the parameters' table: the leaves of a section that re-run the same, by as few names as possible."""
    sections: dict[str, list[str]] = {}
    for key in found:
        sections.setdefault(key.split(".")[0], []).append(key)
    for keys in sections.values():
        left = list(keys)
        while left:
            alike = [key for key in left if found[key] == found[left[0]]]
            yield ", ".join(f"`{name}`" for name in _names(alike, keys)), found[left[0]]
            left = [key for key in left if key not in alike]


def _names(chosen: list[str], every: list[str], depth: int = 1) -> list[str]:
    """The chosen of all leaves of a section, a section or part of it by its name alone where all its leaves are."""
    names = []
    for prefix in dict.fromkeys(".".join(key.split(".")[:depth]) for key in chosen):
        leaves = [key for key in every if key == prefix or key.startswith(f"{prefix}.")]
        here = [key for key in chosen if key in leaves]
        names += [prefix] if here == leaves else _names(here, leaves, depth + 1)
    return names


def document(pipeline: Pipeline, found: dict[str, Sets], code: dict[tuple[str, str], Sets]) -> str:
    every = pipeline.names()
    rows = [f"| {names} | {collapse(a & every, every)} | {collapse(b, every)} |\n" for names, (a, b) in together(found)]
    edits = [
        f"| {kind} | `{what.removeprefix(SOURCE + '/')}` | {collapse(a, every)} | {collapse(b, every)} |\n"
        for (kind, what), (a, b) in code.items()
    ]
    packages = ", ".join(sorted(versions.COMPUTING.values()))
    return HEAD + "".join(rows) + CODE.format(packages=packages) + "".join(edits)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        pipeline = Pipeline(Path(name))
        stale = pipeline.stale()
        text = document(pipeline, table(pipeline), code_table(pipeline))
        os.chdir(ROOT)
    if stale:
        sys.exit(f"stale before any change: {stale}")
    DOC.write_text(text)
