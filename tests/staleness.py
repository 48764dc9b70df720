"""Which stages a changed parameter re-runs, as DVC sees it, without running any: outputs are placeholders.

`python tests/staleness.py` rewrites docs/staleness.md from what DVC says.
"""

import copy
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from adshift import methods, params
from adshift.stage import write_json

ROOT = Path(__file__).parents[1]
DOC = ROOT / "docs" / "staleness.md"
CHECKS = {"check", "check_network"}  # their outputs never change, but for the settings that check writes
STORED = (*params.STORED, *methods.REGISTRY)  # sections of those settings
HEAD = """\
# What a change re-runs

For every leaf of `params.yaml`: the stages that `dvc status` calls stale when it alone is changed, and what hangs on
their outputs. A stage further down runs only if an output above it really comes out different: DVC compares contents.
`check` looks at every parameter. It writes the sections of the features, the shift and the methods into files, these in
two halves: what follows depends on the file that changed. Beside that its output never changes, nor does that of
`check_network`, which looks at the features' parameters.
All detectors are taken to be in use here, whatever `methods` says.
A new class makes `prepare` run again, but every other class's manifest keeps its bytes, so its items stay fresh
(tests/test_pipeline.py sees that in a run).

Written by `python tests/staleness.py`, compared with DVC by `tests/test_staleness.py`.

| parameter | stale at once | may follow |
| --- | --- | --- |
"""


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted leaves of params.yaml; a list is one leaf."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def other(key: str, value: Any) -> Any:
    """Another value for a leaf, such that dvc.yaml still resolves."""
    if key == "methods":
        return [*value[:-1]]
    if key == "classes":
        return [*value, "extra"]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, value[-1]]
    return "other" if value is None else f"{value}x"


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
        for name in ("dvc.yaml", "detectors", "params.yaml", "stages", "src", "reference", ".dvcignore", ".dvc/plots"):
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
        self.values["methods"] = list(methods.REGISTRY)  # every detector's knobs, in use by default or not
        with self.params.open("w") as file:
            YAML().dump(self.values, file)
        self.text = self.params.read_text()
        os.chdir(folder)
        self.repo = Repo(".")
        stages = list(self.repo.index.stages)
        self.files = {stage.name: _files(stage) for stage in stages}
        self.restore_settings()
        # Files first: a folder that holds another path needs no content of its own.
        for paths in ([d for s in stages for d in s.deps], [o for s in stages for o in s.outs]):
            for path in sorted((Path(str(p)) for p in paths if p.protocol == "local"), key=lambda p: -len(p.parts)):
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

    def store_settings(self, section: str, values: dict[str, Any]) -> set[str]:
        """Write what the stage `check` writes, unchecked: any other value will do. Returns the changed files."""
        files = {params.SETTINGS / f"{section}.json": values}
        if section in methods.REGISTRY:
            halves = methods.halves(section, values)
            files = {methods.settings_path(section, part): half for part, half in halves.items()}
        changed = set()
        for path, content in files.items():
            before = path.read_text() if path.exists() else ""
            write_json(path, content)
            changed |= {str(path)} if path.read_text() != before else set()
        return changed

    def restore_settings(self) -> None:
        for section in STORED:
            self.store_settings(section, self.values[section])

    def names(self) -> set[str]:
        return {stage.name for stage in self.repo.index.stages}

    def stale(self) -> set[str]:
        """Stages that DVC calls stale now."""
        self.repo._reset()
        with self.repo.lock:
            return {stage.name for stage in self.repo.index.stages if stage.status()}

    def stale_params(self) -> set[str]:
        """The same where nothing but params.yaml has changed: a stage of the same files as before is not hashed."""
        self.repo._reset()
        with self.repo.lock:
            return {
                stage.name
                for stage in self.repo.index.stages
                if (_files(stage) != self.files.get(stage.name) and stage.status())
                or any(dep.status() for dep in stage.deps if not _is_file(dep))
                or stage.changed_stage()
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
            direct = self.stale_params()
            if section not in STORED:
                return direct, self.downstream(direct)
            files = self.store_settings(section, changed[section])
            places = {str(place) for file in files for place in (file, *Path(file).parents)}
            then = {name for name, paths in self.files.items() if paths & places} - CHECKS
            return direct, (then | self.downstream(then | direct)) - direct
        finally:
            self.params.write_text(self.text)
            self.restore_settings()

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
        parts = [name.split("@")[1].split("-") for name in chosen]
        for common in sorted({part for item in parts for part in item}):
            if {name for name in items if common in name.split("@")[1].split("-")} == chosen:
                words.append(f"{group}@{common}")
                break
        else:
            words.extend(sorted(chosen))
    return ", ".join(words) or "nothing"


def table(pipeline: Pipeline) -> dict[str, tuple[set[str], set[str]]]:
    """{leaf: (stale at once, may follow)}."""
    result = {}
    for key, value in leaves(pipeline.values):
        result[key] = pipeline.after(key, other(key, value))
    return result


def document(pipeline: Pipeline, found: dict[str, tuple[set[str], set[str]]]) -> str:
    every = pipeline.names()
    rows = [f"| `{key}` | {collapse(a & every, every)} | {collapse(b, every)} |" for key, (a, b) in found.items()]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        pipeline = Pipeline(Path(name))
        stale = pipeline.stale()
        text = document(pipeline, table(pipeline))
        os.chdir(ROOT)
    if stale:
        sys.exit(f"stale before any change: {stale}")
    DOC.write_text(text)
