"""params.yaml: what is accepted, what is refused, and in which words."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from adshift.detectors import registry
from adshift.errors import AdshiftError
from adshift.project import params

SHIPPED = Path(__file__).parents[3] / "params.yaml"


def changed(tmp_path: Path, key: str, value: object) -> Path:
    """The shipped params.yaml with one key set (or removed, for ...)."""
    document = YAML(typ="safe").load(SHIPPED.read_text())
    place = document
    *parents, last = key.split(".")
    for part in parents:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    path = tmp_path / "params.yaml"
    with path.open("w") as file:
        YAML().dump(document, file)
    return path


def test_what_is_shipped_is_valid() -> None:
    assert params.load_all(SHIPPED).patchcore.coreset == 0.05


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("patchcore.corset", 0.1, "patchcore.corset: extra"),
        ("patchcore.coreset", 0.0, "patchcore.coreset: input should be greater than 0"),
        ("patchcore.coreset", 1.5, "patchcore.coreset: input should be less than or equal to 1"),
        ("patchcore.coreset", "5%", "patchcore.coreset: input should be a valid number"),
        ("patchcore.coreset", True, "patchcore.coreset"),
        ("patchcore.coreset", float("nan"), "patchcore.coreset: value error, must be finite"),
        ("patchcore.coreset", ..., "patchcore.coreset: field required"),
        ("patchcore.neighbours", 9.5, "patchcore.neighbours"),
        ("patchcore.pool", 4, "patchcore.pool"),
        ("patchcore.metric", "manhattan", "patchcore.metric"),
        ("padim.n_features", 0, "padim.n_features"),
        ("padim", ..., "padim is missing"),
        ("patchcor", {"coreset": 0.1}, "unknown: patchcor"),
        ("seed", -1, "seed"),
        ("classes", [], "classes"),
        ("classes", ["a", "a"], "stands twice"),
        ("classes", ["unified"], "reserved"),
        ("classes", ["a-b"], "letters, digits"),
        ("classes", [1], "classes.0"),
        ("methods", ["patchcor"], "methods.0"),
        ("split.protocol", "both", "split.protocol"),
        ("split.train_fraction", 1.0, "split.train_fraction"),
        ("shift.geometry.rotation", [10, -10], "the lower end 10.0 lies above"),
        ("shift.geometry.rotation", [1], "shift.geometry.rotation"),
        ("shift.color.brightness", [0.0, 1.3], "shift.color.brightness"),
        ("shift.blur.kernels", [4], "shift.blur.kernels"),
        ("shift.illumination.kinds", ["spiral"], "shift.illumination.kinds"),
        ("features.resize", 8, "features.resize"),
        ("features.std", [0.2, 0.2, 0], "features.std"),
        ("calibrate.rule", "best", "calibrate.rule"),
        ("calibrate.steps", 1, "calibrate.steps"),
        ("ablation.ratios", [0.1, 2], "ablation.ratios"),
        ("calibrate.steps", 9007199254740991, "calibrate.steps: input should be less than or equal to 1000000"),
        ("padim.smoothing", 1.0e9, "padim.smoothing: input should be less than or equal to 100"),
        ("shift.geometry.scale", [1e-300, 1.0], "shift.geometry.scale.0: input should be greater than or equal to"),
        ("ablation.ratios", [place / 1000 for place in range(1, 102)], "ablation.ratios: tuple should have at most"),
        ("dataset.name", "imagenet", "dataset.name"),
    ],
)
def test_what_is_refused_and_why(tmp_path: Path, key: str, value: object, words: str) -> None:
    with pytest.raises(AdshiftError) as caught:
        params.load_all(changed(tmp_path, key, value))
    assert words in str(caught.value)
    assert caught.value.remedy


def test_no_yaml_at_all(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    for text in ("a: [", "- 1\n", "\x00"):
        path.write_text(text)
        with pytest.raises(AdshiftError, match=r"params\.yaml"):
            params.load_all(path)
    with pytest.raises(AdshiftError, match="cannot be read"):
        params.load_all(tmp_path / "none.yaml")


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    """YAML 1.2: 1e-3 is a float, where YAML 1.1 sees a string."""
    path = tmp_path / "params.yaml"
    path.write_text(SHIPPED.read_text().replace("coreset: 0.05 ", "coreset: 5e-2 "))
    assert params.load("patchcore", path=path).patchcore.coreset == 0.05


def test_only_what_was_asked_for_is_there() -> None:
    loaded = params.load("seed", "evaluate.pro_limit", "features.resize", "features.crop", path=SHIPPED)
    assert (loaded.seed, loaded.evaluate.pro_limit, loaded.features.resize) == (42, 0.3, 224)
    assert not hasattr(loaded, "classes")
    assert not hasattr(loaded.features, "backbone")


# Behind a validator of ours pydantic leaves its own names of the bounds.
LOWER, UPPER = ("minimum", "exclusiveMinimum", "ge", "gt"), ("maximum", "exclusiveMaximum", "le", "lt")


def numbers(schema: Any, definitions: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, JSON schema) of every number and every list of any length in a schema."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].split("/")[-1]]
    for key, inner in schema.get("properties", {}).items():
        yield from numbers(inner, definitions, f"{path}.{key}")
    for inner in [*schema.get("anyOf", []), *schema.get("prefixItems", [])]:
        yield from numbers(inner, definitions, path)
    if isinstance(schema.get("items"), dict):
        yield from numbers(schema["items"], definitions, path)
    if schema.get("type") in ("integer", "number", "array"):
        yield path, schema


def all_numbers() -> list[tuple[str, Mapping[str, Any]]]:
    found = []
    for section in (*params.SECTIONS, *registry.REGISTRY):
        kind = registry.schema(section) if section in registry.REGISTRY else params.SECTIONS[section]
        schema = TypeAdapter(kind).json_schema()
        found += list(numbers(schema, schema.get("$defs", {}), section))
    return found


@pytest.mark.parametrize(("path", "schema"), [pytest.param(*one, id=one[0]) for one in all_numbers()])
def test_every_number_has_both_bounds_and_every_list_a_longest(path: str, schema: Mapping[str, Any]) -> None:
    if schema["type"] == "array":
        assert schema["minItems"] <= schema["maxItems"] <= 1000
    else:
        assert {*LOWER} & {*schema} and {*UPPER} & {*schema}


def test_the_walk_sees_every_number_of_the_shipped_file() -> None:
    def leaves(value: object, path: str) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from leaves(inner, f"{path}.{key}".lstrip("."))
        elif isinstance(value, list):
            yield path
            for inner in value:
                yield from leaves(inner, path)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield path

    assert {*leaves(YAML(typ="safe").load(SHIPPED.read_text()), "")} <= {path for path, _ in all_numbers()}
