"""Verbs of the project: preset, fetch, check, repro, summary, repair, offline-plots."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from adshift.errors import AdshiftError

VERBS = ("preset", "fetch", "repro", "check", "repair", "summary", "offline-plots")
SHOWN = 5  # changes that an error names


def add(commands: Any) -> None:
    """Add these verbs to the command."""
    from adshift.data.download import SOURCES
    from adshift.project.presets import PRESETS

    preset = commands.add_parser(
        "preset", help="set params.yaml for a data set or a study; comments stay",
        epilog="For your own images: folder, list or mvtec (docs/own-images.md). Data sets: docs/datasets.md.",
    )  # fmt: skip
    preset.add_argument("name", choices=PRESETS)
    preset.add_argument("--data-root", metavar="PATH", help="folder of the images; for `list`, its CSV file")
    preset.add_argument("--classes", metavar="A,B", help="use these classes only")
    own = preset.add_argument_group("for the preset `folder`: images in any folders")
    several = {"nargs": "+", "action": "extend", "default": [], "metavar": "DIR"}
    own.add_argument("--normal", **several, help="folders of normal images, flat or nested")
    own.add_argument("--defective", **several, help="folders of defective images")
    own.add_argument("--masks", metavar="DIR", help="folder of their masks, named like the images")
    own.add_argument("--class", metavar="NAME", dest="class_name", help="name of the class: what the images show")
    own.add_argument(
        "--classes-under", metavar="DIR", help="DIR has a folder for each class; --normal and others are in these"
    )
    preset.set_defaults(work=_preset)

    fetch = commands.add_parser("fetch", help="download a data set, or tell how to get it, and check its files")
    fetch.add_argument("name", choices=SOURCES)
    fetch.add_argument("--to", metavar="DIR", type=Path, help="folder to put it in (default: raw/NAME)")
    fetch.set_defaults(work=_fetch)

    repro = commands.add_parser("repro", help="run the pipeline: as dvc repro, with one line for each stage")
    repro.add_argument(
        "stages", nargs="*", metavar="STAGE", help="fit@padim-nut-clean, or fit for all its items (default: all stages)"
    )
    repro.add_argument("--jobs", type=int, default=1, metavar="N", help="run up to N stages at once (default: 1)")
    repro.add_argument(
        "--cluster", default="", metavar="WHERE", help="run heavy stages on a Dask cluster: docs/cluster.md"
    )
    repro.set_defaults(work=_repro)

    check = commands.add_parser("check", help="check params.yaml, the data and the weights; bring `graph` up to date")
    check.set_defaults(work=_check)
    repair = commands.add_parser("repair", help="remove outputs and cache objects that are not what dvc.lock says")
    repair.set_defaults(work=_repair)

    summary = commands.add_parser(
        "summary", help="print metrics/summary.json as a table",
        epilog="Exit code: 1, without figures, if parameters or data have changed since. Code is not compared.",
    )  # fmt: skip
    summary.set_defaults(work=_summary)
    offline = commands.add_parser("offline-plots", help="let `dvc plots show` work offline")
    offline.set_defaults(work=_offline)


def _preset(args: argparse.Namespace) -> None:
    from adshift.project.own_images import Folders
    from adshift.project.presets import apply

    folders = Folders(args.normal, args.defective, args.masks, args.class_name, args.classes_under)
    if args.name != "folder" and folders != Folders([], []):
        raise AdshiftError(f"preset {args.name}: --normal and the like say where images lie of the preset folder alone",
                           "give --data-root, or adshift preset folder")  # fmt: skip
    classes = [one.strip() for one in args.classes.split(",")] if args.classes else []
    lines = apply(args.name, args.data_root, classes=classes, folders=folders if args.name == "folder" else None)
    print(*lines, "params.yaml rewritten; now: dvc repro", sep="\n")


def _fetch(args: argparse.Namespace) -> None:
    from adshift.data.download import fetch, report

    root = fetch(args.name, args.to)
    for line in report(args.name, root):
        print(line)


def _repro(args: argparse.Namespace) -> None:
    from adshift.project.jobs import repro

    if code := repro(args.jobs, args.stages, args.cluster):
        sys.exit(code)


def _check(args: argparse.Namespace) -> None:
    from adshift.project.checks import check
    from adshift.project.presets import derive
    from adshift.runtime import versions

    print(*derive(), *check().lines(), sep="\n")
    if lines := versions.changes():
        print(*lines, "`adshift repro` takes it up", sep="\n")
    print("params.yaml, data set and weights: fine")


def _repair(args: argparse.Namespace) -> None:
    from adshift.project.repair import repair

    for line in repair() or ["nothing is damaged"]:
        print(line)


def _summary(args: argparse.Namespace) -> None:
    from adshift.project.params import check_folder, check_git
    from adshift.project.paths import SUMMARY

    check_folder()
    if not SUMMARY.is_file():
        raise AdshiftError(f"{SUMMARY}: not there", "run `dvc repro` first")
    from adshift.project.changes import changed_since

    check_git()
    if changed := changed_since("aggregate"):
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        message = (
            f"{SUMMARY}: its figures came from other parameters or data; changed since: "
            f"{', '.join(changed[:SHOWN])}{more}"
        )
        raise AdshiftError(message, "`dvc repro` makes those of params.yaml as it is now")
    summary = json.loads(SUMMARY.read_text(encoding="utf-8"))
    columns = list(dict.fromkeys(key for method in summary.values() for metrics in method.values() for key in metrics))
    widths = {column: max(14, len(column) + 2) for column in columns}
    print(f"{'method':<12}{'scenario':<24}" + "".join(f"{column:>{widths[column]}}" for column in columns))
    for method, scenarios in summary.items():
        for scenario, metrics in scenarios.items():
            cells = {column: "-" if metrics[column] is None else f"{metrics[column]:.3f}" for column in columns}
            print(f"{method:<12}{scenario:<24}" + "".join(f"{cell:>{widths[key]}}" for key, cell in cells.items()))


def _offline(args: argparse.Namespace) -> None:
    from adshift.project.offline import install

    install()
