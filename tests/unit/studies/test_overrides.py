"""Values of a study's experiments arrive in params.yaml as they are, through DVC's own reader of overrides."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from adshift.studies import queue

VALUES = [
    r"2020-(\d\d)", r"part(\d+)_", "größe", "it's", r"a\'b", "ends in \\", 'say "yes"', "a,b: [c] {d}", "", " padded ",
    "null", "true", "12", "1e3", "09", 12, 0.05, 1.0e-5, True, None, ["09", 9, None], [], [[224, 544], "x"],
    {"pad_type": "same"}, {},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_arrives_as_it_is(tmp_path: Path, value: Any) -> None:
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    path.write_text("shift:\n  pattern: before\n", encoding="utf-8")
    apply_overrides(path, [f"shift.pattern={queue._override(value)}"])
    written = YAML(typ="safe").load(path.read_text(encoding="utf-8"))["shift"]["pattern"]
    assert written == value
    assert type(written) is type(value)
