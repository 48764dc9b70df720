"""The `adshift` command, with the verbs that DVC does not have. One file per group of verbs."""

import argparse
import io
import os
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from adshift import __version__
from adshift.errors import shown
from adshift.project.stage import run
from adshift.runtime import device
from adshift.runtime.extras import installed, needs

NETWORKS = ("repro", "predict", "recalibrate", "adapt", "drift", "blindness", "backbones")  # they run a network
UNFORESEEN = 2  # exit code; 1 is a result of some verbs, and bad input of the others


class _Parser(argparse.ArgumentParser):
    """A command's parser, and those of its commands: all know --debug."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS,
            help="show the traceback of an unexpected error; so does ADSHIFT_DEBUG=1",
        )  # fmt: skip


def main() -> None:
    """Entry point. An unforeseen error ends with `UNFORESEEN`, never with the exit code of a result."""
    _escape_unwritable()
    try:
        try:
            run(_main, watched=False)
        finally:
            sys.stdout.flush()  # now, when a failure can still be reported
    except BrokenPipeError:  # the reader of the pipe has exited
        _drop_output()
        sys.exit(UNFORESEEN)
    except Exception as error:
        if "--debug" in sys.argv or os.environ.get("ADSHIFT_DEBUG", "0") not in ("", "0"):
            traceback.print_exc()
        message = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        with suppress(BrokenPipeError):
            print(f"error: not foreseen: {shown(message)}; please report it, with what --debug shows", file=sys.stderr)
        _drop_output()
        sys.exit(UNFORESEEN)


def _escape_unwritable() -> None:
    """Print escapes for characters that the encoding of the terminal or pipe lacks, such as cp1252."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Discard unwritten output that cannot be delivered: Python would try again, and end with code 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _main() -> None:
    args = parser(sys.argv[1] if len(sys.argv) > 1 else None).parse_args()
    if getattr(args, "device", None):
        os.environ[device.VARIABLE] = args.device
        device.wanted()
    args.work(args)


def parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The parser of every verb; the site's page on the command line is made from it.

    Args:
        verb: the only one that will be used: verbs of other groups, whose modules take time to load, are left out.
    """
    from adshift.cli import line, model, project, study

    about = "Industrial anomaly detection as a DVC pipeline: commands that DVC does not have."
    command = _Parser(prog="adshift", description=about)
    command.add_argument("--version", action="version", version=f"adshift {__version__}")
    commands = command.add_subparsers(required=True, metavar="COMMAND")
    groups = (project, model, line, study)
    for group in [one for one in groups if verb in one.VERBS] or groups:
        if group is model:
            model.add(commands, verb if verb in model.VERBS else None)
        elif group is line or installed("dvc"):
            group.add(commands)
        else:
            _add_absent(commands, group.VERBS)
    for name in filter(commands.choices.get, NETWORKS):
        commands.choices[name].add_argument(
            "--device", metavar="DEVICE", help="auto (default), cpu, cuda or cuda:N; sets ADSHIFT_DEVICE"
        )
    _describe(commands)
    return command


def _add_absent(commands: Any, verbs: Iterable[str]) -> None:
    """Add verbs of the pipeline that say which extra they need, in a small install."""
    for name in verbs:
        absent = commands.add_parser(name, help="needs the pipeline, adshift[study]", add_help=False)
        absent.add_argument("rest", nargs=argparse.REMAINDER)
        absent.set_defaults(
            work=lambda _, name=name: needs("dvc", extra="study", what=f"adshift {name} runs the pipeline")
        )


def _describe(commands: Any) -> None:
    """Let `adshift COMMAND --help` begin with what the list of commands says of it."""
    for listed in commands._choices_actions:
        one = commands.choices[listed.dest]
        one.description = one.description or f"{listed.help[0].upper()}{listed.help[1:]}."
        for action in one._actions:
            if isinstance(action, argparse._SubParsersAction):
                _describe(action)
