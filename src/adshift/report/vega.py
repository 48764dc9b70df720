"""Vega-Lite specifications drawn by vl-convert, in a process of its own: it holds the interpreter's lock meanwhile.

So threads that call it work side by side with those that make pictures. This file is that process's program, too.
It uses the fonts inside vl-convert and none of the machine's, whose widths and shapes would change a chart's bytes.
"""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

FONTS = {"FONTCONFIG_FILE": str(Path(__file__).with_name("fonts.conf"))}  # part of the environment

_lock = Lock()


def svg(spec: Mapping[str, Any]) -> str:
    """An SVG element."""
    return _asked({"call": "vegalite_to_svg", "spec": spec}).decode()


def png(spec: Mapping[str, Any], scale: float) -> bytes:
    """A PNG file, `scale` pixels for each of the specification's."""
    return _asked({"call": "vegalite_to_png", "spec": spec, "options": {"scale": scale}})


def _asked(request: Mapping[str, Any]) -> bytes:
    """What vl-convert makes of a request.

    Raises:
        ValueError: it refuses the specification.
    """
    with _lock:
        process = _process()
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline() or '{"error": "vl-convert ended"}')
    if "error" in answer:
        raise ValueError(answer["error"])
    return base64.b64decode(answer["made"])


@cache
def _process() -> Any:
    """Started once, since its JavaScript takes half a second to start; it ends with the pipe, so with this process."""
    command, environment = [sys.executable, "-I", __file__], {**os.environ, **FONTS}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _serve() -> None:
    import vl_convert

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that asks, whose end closes the pipe
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            made = getattr(vl_convert, request["call"])(request["spec"], **request.get("options", {}))
            answer = {"made": base64.b64encode(made.encode() if isinstance(made, str) else made).decode()}
        except Exception as error:  # whatever it is, the other side tells it
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
