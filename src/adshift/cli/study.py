"""Verbs of studies and comparisons: study, compare, published, backbones."""

import argparse
from math import prod
from pathlib import Path
from typing import Any

from adshift.errors import AdshiftError

VERBS = ("backbones", "study", "compare", "published")


def add(commands: Any) -> None:
    """Add these verbs to the command."""
    from adshift.project.presets import PRESETS

    backbones = commands.add_parser(
        "backbones", help="print what backbones cost: parameters, multiply-adds, bytes, time"
    )
    backbones.add_argument(
        "names", nargs="*", metavar="NAME", help="names of backbones (default: all with default layers)"
    )
    backbones.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads of the timed network (default: 1)"
    )
    backbones.set_defaults(work=_backbones)

    study = commands.add_parser("study", help="list studies (grids of experiments), run one, write its table")
    verbs = study.add_subparsers(required=True, metavar="VERB")
    verbs.add_parser("list", help="list the studies in studies/").set_defaults(work=_list_studies)
    for verb, description in (
        ("run", "run the missing experiments of a study, then write its table"),
        ("table", "write the table of the experiments that have run"),
    ):
        one = verbs.add_parser(verb, help=description)
        one.add_argument("name", metavar="NAME", help="the study in studies/NAME.yaml")
        one.add_argument("--preset", choices=PRESETS, help="instead of the study's own; results go to NAME-PRESET")
        one.add_argument(
            "--data-root", metavar="[DATASET=]DIR", action="append", default=[],
            help="folder of the images (default: raw/DATASET); repeat the option for several data sets",
        )  # fmt: skip
        one.add_argument(
            "-S",
            "--set-param",
            metavar="KEY=VALUE",
            action="append",
            default=[],
            help="set a parameter in all experiments",
        )
        one.set_defaults(work=_study, jobs=None, cluster="")
        if verb == "run":
            one.add_argument(
                "--jobs", type=int, default=1, metavar="N", help="run up to N experiments at once (default: 1)"
            )
            one.add_argument(
                "--cluster", default="", metavar="WHERE", help="run heavy stages on a Dask cluster: docs/cluster.md"
            )

    compare = commands.add_parser("compare", help="compare runs and published figures in one table and a radar chart")
    compare.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="a project, or a folder with results.csv")
    compare.add_argument("--scenario", default="clean", help="scenario to compare (default: clean)")
    compare.add_argument(
        "--to", metavar="DIR", type=Path, default=Path("comparison"), help="folder to write to (default: comparison)"
    )
    compare.set_defaults(work=_compare)
    _add_published(commands)


def _add_published(commands: Any) -> None:
    published = commands.add_parser(
        "published", help="put published figures beside those of a run, or of several runs with other seeds",
        epilog="A figure compares if data, class, method, backbone, protocol and resolution are the run's.",
    )  # fmt: skip
    published.add_argument(
        "folders", metavar="DIR", type=Path, nargs="*", default=[Path()],
        help="a project, or a folder with results.csv and params.yaml (default: this project)",
    )  # fmt: skip
    published.add_argument("--csv", metavar="FILE", type=Path, help="write the table to this file too")
    published.set_defaults(work=_published)


def _list_studies(args: argparse.Namespace) -> None:
    from adshift.studies import declare

    for name in declare.names():
        study = declare.read(name)
        count = max(1, len(study.points)) * prod(len(values) for values in study.grid.values())
        print(f"{name:<20}{count:>4}  {study.title}")


def _study(args: argparse.Namespace) -> None:
    from adshift.studies import command

    command.study(args.name, args.preset, args.data_root, args.set_param, args.jobs, args.cluster)


def _backbones(args: argparse.Namespace) -> None:
    from adshift.features.backbones.cost import profiles

    for index, profile in enumerate(profiles(args.names, threads=args.threads)):
        if index == 0:
            print("up to the deepest layer kept (and the whole network); one image, random weights")
            print(f"{'backbone':<36}{'pixels':>6}{'params, M':>16}{'madds, M':>18}{'MB':>16}{'ms':>9}")
        pairs = [
            f"{getattr(profile.cut, name) / 1e6:.{digits}f} ({getattr(profile.whole, name) / 1e6:.{digits}f})"
            for name, digits in (("parameters", 2), ("multiply_adds", 1), ("bytes", 1))
        ]
        print(
            f"{profile.backbone:<36}{profile.size:>6}{pairs[0]:>16}{pairs[1]:>18}{pairs[2]:>16}"
            f"{1000 * profile.seconds:>9.1f}",
            flush=True,
        )


def _compare(args: argparse.Namespace) -> None:
    from adshift.report import compare

    runs = [compare.read(folder, args.scenario) for folder in args.folders]
    print(compare.write(args.to, runs, Path("reference")).markdown())
    print(f"written to {args.to}: comparison.md, comparison.csv, radar.png")


def _published(args: argparse.Namespace) -> None:
    from adshift.project import params
    from adshift.report import targets
    from adshift.report.compare import path_of
    from adshift.report.published import read_csv
    from adshift.runtime.files import output

    settings, figures = [], targets.Figures()
    for folder in args.folders:
        path, own = path_of(folder), folder / "params.yaml"
        try:
            settings.append(targets.Setting.of(params.read(own)))
            figures.runs.append(targets.figures_of(read_csv(path)))
        except (KeyError, TypeError, ValueError) as error:
            raise AdshiftError(f"{folder}: no results with their params.yaml ({error})", "name a project") from None
        if settings[-1] != settings[0]:
            message = f"{folder}: other data, classes, backbone, protocol or resolution than {args.folders[0]}"
            raise AdshiftError(message, "name runs that differ in their seed alone")
    table, _ = targets.beside(targets.read(Path("reference")), settings[0], figures)
    print(*targets.lines(table), sep="\n")
    if args.csv:
        with output(args.csv) as temporary:
            temporary.write_text(table.csv(), encoding="utf-8")
