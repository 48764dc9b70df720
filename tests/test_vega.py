"""Drawing in another process: what it makes, what it refuses, and how it ends."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from adshift import guard
from adshift.report import vega

SPEC = {
    "data": {"values": [{"a": 1, "b": 2}, {"a": 2, "b": 4}]},
    "mark": "bar",
    "encoding": {"x": {"field": "a", "type": "ordinal"}, "y": {"field": "b", "type": "quantitative"}},
}


def test_it_makes_what_the_library_makes() -> None:
    import vl_convert

    assert vega.svg(SPEC) == vl_convert.vegalite_to_svg(SPEC)
    assert vega.png(SPEC, 2.0) == vl_convert.vegalite_to_png(SPEC, scale=2.0)


def test_a_refusal_is_told_and_the_next_chart_is_drawn() -> None:
    with pytest.raises(ValueError, match=r"(?i)vega"):
        vega.svg({"mark": 7})
    assert vega.svg(SPEC).startswith("<svg")


def test_it_ends_with_the_one_who_asks() -> None:
    code = f"import sys; sys.path.insert(0, {str(Path(vega.__file__).parents[2])!r})\n" + (
        "from adshift.report import vega; vega.png({'mark': 'bar'}, 1.0); print(vega._process().pid)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    until = time.monotonic() + 10
    while guard.alive(int(done.stdout)):
        assert time.monotonic() < until
        time.sleep(0.01)
