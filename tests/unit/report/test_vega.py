"""Drawing in another process: what it makes, what it refuses, and how it ends."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adshift.report import vega
from adshift.runtime import signals

SPEC = {
    "data": {"values": [{"a": 1, "b": 2}, {"a": 2, "b": 4}]},
    "mark": "bar",
    "encoding": {"x": {"field": "a", "type": "ordinal"}, "y": {"field": "b", "type": "quantitative"}},
    "title": "Words 漢",  # the second one in none of the fonts inside vl-convert
}


LIBRARY = """
import json, sys, vl_convert
spec = json.load(sys.stdin)
print(json.dumps([vl_convert.vegalite_to_svg(spec), vl_convert.vegalite_to_png(spec, scale=2.0).hex()]))
"""
OURS = """
import json, sys
from adshift.report import vega
spec = json.load(sys.stdin)
print(json.dumps([vega.svg(spec), vega.png(spec, 2.0).hex()]))
"""


def drawn(program: str, **environment: str) -> list[str]:
    """SVG and PNG of `SPEC` from a process of its own."""
    source = str(Path(vega.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(SPEC), capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": source, **environment},
    )  # fmt: skip
    found: list[str] = json.loads(done.stdout)
    return found


def test_it_makes_what_the_library_makes() -> None:
    assert [vega.svg(SPEC), vega.png(SPEC, 2.0).hex()] == drawn(LIBRARY, **vega.FONTS)


def test_fonts_of_the_machine_change_no_byte(tmp_path: Path) -> None:
    """Against a user's font of another design, under the names that charts and vl-convert ask for."""
    import matplotlib
    from fontTools.ttLib import TTFont

    fonts = tmp_path / "fonts"
    fonts.mkdir()
    for family in ("Arial", "Helvetica", "Liberation Sans"):
        font = TTFont(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSerif.ttf")
        for record in font["name"].names:
            if record.nameID in (1, 4, 16):
                record.string = family
        font.save(fonts / f"{family}.ttf")
    config = tmp_path / ".config" / "fontconfig" / "fonts.conf"
    config.parent.mkdir(parents=True)
    config.write_text(f"<?xml version='1.0'?><fontconfig><dir>{fonts}</dir></fontconfig>")
    user = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(config.parents[1])}
    here = [vega.svg(SPEC), vega.png(SPEC, 2.0).hex()]
    assert drawn(OURS, **user) == here
    assert drawn(OURS, FONTCONFIG_FILE=str(config)) == here
    theirs = drawn(LIBRARY, **user)
    assert theirs[0] != here[0], "the user's font changes no text's width: this test shows nothing"
    assert theirs[1] != here[1]


def test_a_refusal_is_told_and_the_next_chart_is_drawn() -> None:
    with pytest.raises(ValueError, match=r"(?i)vega"):
        vega.svg({"mark": 7})
    assert vega.svg(SPEC).startswith("<svg")


def test_it_ends_with_the_one_who_asks() -> None:
    code = f"import sys; sys.path.insert(0, {str(Path(vega.__file__).parents[2])!r})\n" + (
        "from adshift.report import vega; vega.png({'mark': 'bar'}, 1.0); print(vega._process().pid)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    until = time.monotonic() + 60
    while signals.alive(int(done.stdout)):
        assert time.monotonic() < until
        time.sleep(0.01)
