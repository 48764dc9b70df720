"""The verb of the inspection line: serve."""

import argparse
import os
from pathlib import Path
from typing import Any

from adshift.errors import AdshiftError

VERBS = ("serve",)
PACKAGES = (
    "fastapi",
    "httpx",
    "multipart",
    "paho",
    "prometheus_client",
    "scipy",
    "swagger_ui_bundle",
    "uvicorn",
    "watchfiles",
)


def add(commands: Any) -> None:
    """Add the verb to the command."""
    serve = commands.add_parser(
        "serve", help="serve models: HTTP, a watched folder, MQTT, and a live page",
        epilog="See docs/line.md. ADSHIFT_TOKEN is the secret that requests must carry.",
    )  # fmt: skip
    serve.add_argument("models", metavar="[NAME=]MODEL", nargs="+", help="exported FILE.onnx, or model directory")
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to bind to (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8765, metavar="N", help="port (default: 8765)")
    serve.add_argument(
        "--state", type=Path, metavar="DIR", help="folder of the journal (default: below ~/.local/state)"
    )
    serve.add_argument("--drift", type=int, default=100, metavar="N",
                       help="images of a window of the drift verdict; 0 for none (default: 100)")  # fmt: skip
    _add_inputs(serve)
    _add_outputs(serve)
    _add_limits(serve)
    serve.set_defaults(work=_serve)


def _add_inputs(serve: Any) -> None:
    inputs = serve.add_argument_group("inputs, beside HTTP")
    inputs.add_argument("--watch", metavar="DIR", type=Path, help="folder whose images the first model judges")
    inputs.add_argument("--watch-leave", action="store_true", help="leave images there; else they go to done or failed")
    inputs.add_argument("--mqtt", metavar="URL", help="mqtt://[USER:PASSWORD@]HOST[:PORT]/PREFIX: images from "
                        "PREFIX/MODEL/image, verdicts to PREFIX/MODEL/verdict")  # fmt: skip


def _add_outputs(serve: Any) -> None:
    outputs = serve.add_argument_group("outputs, beside answers")
    outputs.add_argument("--webhook", metavar="URL", help="POST each verdict there")
    outputs.add_argument("--jsonl", metavar="FILE", type=Path, help="write each verdict as a line")
    outputs.add_argument("--jsonl-mib", type=int, default=64, metavar="N", help="size of that file (default: 64)")
    outputs.add_argument("--jsonl-files", type=int, default=10, metavar="N", help="such files to keep (default: 10)")
    outputs.add_argument("--rejects", metavar="DIR", type=Path, help="keep images of rejected parts")
    outputs.add_argument("--rejects-kept", type=int, default=1000, metavar="N", help="at most N (default: 1000)")
    outputs.add_argument(
        "--rejects-days", type=float, default=30.0, metavar="N", help="at most N days old (default: 30)"
    )


def _add_limits(serve: Any) -> None:
    limits = serve.add_argument_group("limits")
    limits.add_argument("--max-mib", type=int, default=64, metavar="N", help="size of a request (default: 64)")
    limits.add_argument("--max-megapixels", type=float, default=50.0, metavar="N", help="of an image (default: 50)")
    limits.add_argument("--queue", type=int, default=64, metavar="N", help="images in flight (default: 64)")
    limits.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="for a request (default: 30)")
    limits.add_argument("--spool", type=int, default=100_000, metavar="N",
                        help="verdicts that may wait for a sink (default: 100000)")  # fmt: skip
    limits.add_argument("--kept", type=int, default=10_000, metavar="N", help="verdicts to keep (default: 10000)")


def _serve(args: argparse.Namespace) -> None:
    from adshift.deploy.loading import check
    from adshift.deploy.serve import settings
    from adshift.runtime.extras import needs

    models = settings.named(args.models)
    for path in models.values():
        check(path)
    _check(args)
    token = settings.token(args.host)
    needs(*PACKAGES, extra="serve", what="adshift serve is a web service")
    from adshift.deploy.serve.service import run

    limits = settings.Limits(
        body=args.max_mib * settings.MIB, pixels=int(args.max_megapixels * 1e6), queue=args.queue,
        images=args.queue, seconds=args.timeout, spool=args.spool, kept=args.kept,
    )  # fmt: skip
    outputs = settings.Outputs(
        args.webhook, args.jsonl, args.jsonl_mib * settings.MIB, args.jsonl_files, args.mqtt, args.rejects,
        args.rejects_kept, args.rejects_days,
    )  # fmt: skip
    watch = settings.Watch(args.watch, move=not args.watch_leave) if args.watch else None
    state = args.state or _state(args.port)
    run(settings.Settings(models, state, args.host, args.port, token, limits, watch, outputs, args.drift))


def _check(args: argparse.Namespace) -> None:
    bounds = {
        "port": (1, 65535), "drift": (0, 100_000), "jsonl_mib": (1, 10**6), "jsonl_files": (1, 10**4),
        "rejects_kept": (1, 10**7), "rejects_days": (0.001, 10**5), "max_mib": (1, 1024),
        "max_megapixels": (0.001, 100), "queue": (1, 10_000), "timeout": (0.1, 3600),
        "spool": (1, 10**8), "kept": (1, 10**7),
    }  # fmt: skip
    for name, (least, most) in bounds.items():
        if not least <= (value := getattr(args, name)) <= most:
            raise AdshiftError(f"--{name.replace('_', '-')} {value}", f"give {least} to {most}")


def _state(port: int) -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    return Path(home, "adshift", f"serve-{port}")
