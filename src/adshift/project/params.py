"""params.yaml as typed, validated objects. Unknown keys, wrong types and values out of range are errors.

A stage asks for the keys that it declares in dvc.yaml and gets an object that holds no other, so it cannot read a
parameter that DVC does not know about.
"""

import re
import reprlib
import sys
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML

from adshift.data.settings import Dataset, Harden, Normalise, Shift, Split
from adshift.detectors import registry
from adshift.errors import AdshiftError
from adshift.evaluation.registry import LEVERS
from adshift.evaluation.settings import Ablation, Adapt, Align, Calibrate, Evaluate
from adshift.features.settings import Declared
from adshift.project.graph import Graph, ScenarioName
from adshift.report.settings import Report
from adshift.runtime.files import write_json
from adshift.runtime.settings import Several

FILE = Path("params.yaml")
STORED = ("features", "shift", *LEVERS)  # sections that the stage `check` writes as files
PROJECT = ("params.yaml", "dvc.yaml")  # the files by which a folder is a project
CONFIGS = (".dvc/config", ".dvc/config.local")

# No study comes near these limits. They keep a malicious file from exhausting memory or the stack.
MOST_BYTES = 1_000_000
MOST_VALUES, DEEPEST = 10_000, 20  # with every alias unfolded
LONGEST_TEXT, LARGEST_WHOLE = 1000, 2**53
SHOWN = 10  # problems of a section in one message
PLAIN = (str, int, float, bool, type(None))

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 80


def _name(value: str) -> str:
    if len(value) > 100:  # it becomes the name of folders and files
        raise ValueError(f"{len(value)} characters, at most 100")
    if value == registry.UNIFIED or not value.replace("_", "").isalnum():
        raise ValueError(f"{value!r}: letters, digits and _ only, and not {registry.UNIFIED!r}, which is reserved")
    return value


Name = Annotated[str, AfterValidator(_name)]


def _method(value: str) -> str:
    if not registry.exists(value):
        known = ", ".join(registry.REGISTRY)
        raise ValueError(f"{value!r} is no method: {known}, or {registry.BRIDGED}NAME for a model of anomalib")
    return value


Method = Annotated[str, AfterValidator(_method)]

SECTIONS: dict[str, Any] = {
    "seed": Annotated[int, Field(ge=0, lt=2**32)],
    "dataset": Dataset,
    "classes": Several(Name, 1000),
    "methods": Several(Method),
    "split": Split,
    "shift": Shift,
    "features": Declared,
    "calibrate": Calibrate,
    "evaluate": Evaluate,
    "unified": bool,
    "scenarios": Literal["all"] | Several(ScenarioName),
    "harden": Harden,
    "normalise": Normalise,
    "align": Align,
    "adapt": Adapt,
    "ablation": Ablation,
    "graph": Graph,
    "report": Report,
}


def _schema(section: str) -> Any:
    return registry.schema(section) if registry.exists(section) else SECTIONS[section]


def check_folder() -> None:
    """Refuse to work outside of a project.

    Raises:
        AdshiftError: with the folder to run in as remedy.
    """
    if not FILE.exists():
        above = next((one for one in Path.cwd().parents if all((one / name).is_file() for name in PROJECT)), None)
        remedy = f"run it in {above}" if above else "run it in the folder of a project, which holds params.yaml"
        raise AdshiftError(f"{Path.cwd()}: no {FILE} here", remedy)


def check_git() -> None:
    """Refuse to call DVC without a git repository.

    Raises:
        AdshiftError: with the command that makes one as remedy.
    """
    check_folder()
    configs = [path.read_text(encoding="utf-8") for path in map(Path, CONFIGS) if path.is_file()]
    if any((one / ".git").exists() for one in (Path.cwd(), *Path.cwd().parents)) or "no_scm" in "".join(configs):
        return
    raise AdshiftError(
        f"{Path.cwd()}: no git repository, and DVC keeps its records in one",
        "clone the project with git; or here: git init, git add -A, git commit -m start",
    )


def read(path: Path = FILE) -> dict[str, Any]:
    """params.yaml as plain values, read as YAML 1.2 like DVC does.

    Raises:
        AdshiftError: it is missing, no YAML, no mapping, or holds a value that is not plain or is too large.
    """
    if path == FILE:
        check_folder()
    try:
        values = deepcopy(_parsed(_text(path)))
    except Exception as error:  # ruamel.yaml raises many kinds of errors, such as for the month 13
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise AdshiftError(f"{path}: cannot be read: {reason}", "correct it, or `git checkout params.yaml`") from None
    if not isinstance(values, dict):
        raise AdshiftError(f"{path}: expected sections, found {type(values).__name__}", "`git checkout params.yaml`")
    _check_plain(values, path)
    return values


@lru_cache(maxsize=2)
def _parsed(text: str) -> Any:
    """Cached: a command looks at params.yaml several times, and parsing it takes 20 ms."""
    return YAML(typ="safe", pure=True).load(text)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES} bytes")
    text = content.decode("utf-8")
    brackets = accumulate(1 if one in "[{" else -1 for one in re.findall(r"[][{}]", text))
    if max(brackets, default=0) > 5 * DEEPEST:  # the parser would take seconds
        raise ValueError("nested too deep")
    if re.search("^%", text, re.MULTILINE):
        raise ValueError("a line begins with %: YAML's directives could change what the numbers mean")
    return text


def _check_plain(values: dict[Any, Any], path: Path) -> None:
    """Refuse values that no parameter has: sets, dates, bytes, huge numbers and texts, trees made of few aliases."""
    pending: list[tuple[str, Any, int]] = [(str(key), value, 1) for key, value in values.items()]
    seen, problem = 0, ""
    while pending and not problem:
        key, value, depth = pending.pop()
        seen += 1
        if seen > MOST_VALUES or depth > DEEPEST:
            problem = f"more than {MOST_VALUES} values or {DEEPEST} levels, aliases unfolded"
        elif isinstance(value, dict):
            pending += [(f"{key}.{name}", inner, depth + 1) for name, inner in value.items()]
        elif isinstance(value, list):
            pending += [(f"{key}.{index}", inner, depth + 1) for index, inner in enumerate(value)]
        elif type(value) not in PLAIN:
            problem = (
                f"a {type(value).__name__} ({_brief.repr(value)}) is no number, text, truth value, list or mapping"
            )
        elif isinstance(value, str) and len(value) > LONGEST_TEXT:
            problem = f"a text of {len(value)} characters, at most {LONGEST_TEXT}"
        elif type(value) is int and abs(value) > LARGEST_WHOLE:
            problem = f"{_brief.repr(value)} is too large a number"
    if problem:
        raise AdshiftError(f"{path}: {key[:200]}: {problem}", f"correct {path}; its comments say what is allowed")


def _validate(section: str, value: Any, path: Path, schema: Any = None) -> Any:
    try:
        # Lists of the YAML file are the tuples of the schema; strict mode would refuse them.
        return TypeAdapter(schema or _schema(section)).validate_python(_tuples(value), strict=True)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            key = ".".join([section, *(str(part) for part in problem["loc"])])
            actual = "" if problem["type"] == "missing" else f" (found {_brief.repr(problem['input'])})"
            problems.append(f"{key}: {problem['msg'][0].lower()}{problem['msg'][1:]}{actual}")
        if len(problems) > SHOWN:
            problems[SHOWN:] = [f"and {len(problems) - SHOWN} more"]
        raise AdshiftError(
            f"{path}: " + "; ".join(problems), f"correct {path}; its comments say what is allowed"
        ) from None


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(entry) for key, entry in value.items()}
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value


def load(*keys: str, path: Path = FILE) -> Any:
    """The parameters `keys` (dotted for a leaf) and no others, validated.

    Raises:
        AdshiftError: naming every key that is missing, unknown, of a wrong type or out of range.
    """
    sys.audit("adshift.project.params", keys)
    return _pick(read(path), keys, path)


def _pick(values: Mapping[str, Any], keys: Iterable[str], path: Path) -> Any:
    result = SimpleNamespace()
    for key in keys:
        section, *leaf = key.split(".")
        if section not in values:
            raise AdshiftError(f"{path}: the key {section} is missing", f"compare with `git show HEAD:{path}`")
        value, node = _validate(section, values[section], path), result
        for name in [section, *leaf][:-1]:
            if not hasattr(node, name):
                setattr(node, name, SimpleNamespace())
            node = getattr(node, name)
        for name in leaf:
            value = getattr(value, name)
        setattr(node, [section, *leaf][-1], value)
    return result


def store(settings: Any, folder: Path) -> None:
    """Write the sections of `STORED` into a folder. Stages with many items depend on one file; otherwise each item
    would repeat the section in dvc.lock, which DVC reads and writes whole at every stage.
    """
    used = dict.fromkeys((*STORED, "ablation", "patchcore", *settings.methods))
    named = {section: getattr(settings, section).model_dump(mode="json") for section in used}
    for section, values in stored_values({**named, "methods": settings.methods}).items():
        write_json(folder / f"{section}.json", values, checksum=True)


def stored_values(sections: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The contents of the files of `STORED`: the sections; for the shift also the size that images are shrunk to, for
    the features the levels that are stored in place of what `store` says.

    Args:
        sections: of `STORED`, `methods`, the section of each method, and those of the ablation, of PatchCore.
    """
    methods = [*sections["methods"], *(["patchcore"] if sections["ablation"]["ratios"] else [])]
    features = {key: value for key, value in sections["features"].items() if key != "store"}
    needed = sections["features"]["store"] == "needed"
    used = {level for method in methods for level in registry.levels(sections[method])}
    resize = features["resize"]
    size = list(resize) if isinstance(resize, list | tuple) else [resize, resize]
    shrunk = size if sections["shift"]["resolution"] == "input" else None
    return {
        **{section: sections[section] for section in STORED},
        "features": {**features, "levels": (sorted(used) or None) if needed else None},  # a store holds some level
        "shift": {**sections["shift"], "input": shrunk},
    }


def load_all(path: Path = FILE) -> Any:
    """All parameters, validated; unknown sections are refused."""
    values = read(path)
    sys.audit("adshift.project.params", tuple(_sections(values)))
    return validate(values, path)


def validate(values: Mapping[str, Any], path: Path) -> Any:
    """As `load_all`, from the plain values of `read`; `path` is named in errors."""
    known = _sections(values)
    unknown = [str(key)[:80] for key in values if key not in known][:SHOWN]
    if unknown:
        raise AdshiftError(f"{path}: unknown: {', '.join(unknown)}", f"known are {', '.join(sorted(known))}")
    return _pick(values, known, path)


def _sections(values: Mapping[str, Any]) -> set[str]:
    """Names of all sections: those of every project, and those of the models of anomalib, in the file or in use."""
    methods = values.get("methods")
    used = methods if isinstance(methods, list) else []
    bridged = {one for one in [*values, *used] if isinstance(one, str) and registry.is_bridged(one)}
    return {*SECTIONS, *registry.REGISTRY, *bridged}
