"""Draw Vega-Lite specifications with vl-convert, in a child process that runs this file.

vl-convert holds the interpreter's lock while it draws; in a child process it does not stop threads that make pictures.
Only the fonts inside vl-convert are used: the machine's fonts have other widths and shapes and would change the bytes.
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

FONTS = {"FONTCONFIG_FILE": str(Path(__file__).with_name("fonts.conf"))}  # variables added to the environment

_lock = Lock()


def svg(spec: Mapping[str, Any]) -> str:
    """An SVG element."""
    return _asked({"call": "vegalite_to_svg", "spec": spec}).decode()


def png(spec: Mapping[str, Any], scale: float) -> bytes:
    """A PNG file with `scale` pixels per pixel of the specification."""
    return _asked({"call": "vegalite_to_png", "spec": spec, "options": {"scale": scale}})


def _asked(request: Mapping[str, Any]) -> bytes:
    """The file that vl-convert makes for a request.

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
    """The child process. It starts once, which takes half a second, and ends when this process closes the pipe."""
    command, environment = [sys.executable, "-I", __file__], {**os.environ, **FONTS}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _serve() -> None:
    import vl_convert

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C; its end closes the pipe
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            made = getattr(vl_convert, request["call"])(request["spec"], **request.get("options", {}))
            answer = {"made": base64.b64encode(made.encode() if isinstance(made, str) else made).decode()}
        except Exception as error:  # the parent raises it
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
