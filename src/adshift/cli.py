"""The `adshift` command: what DVC has no word for."""

import argparse
import json
import sys
from math import prod
from pathlib import Path
from typing import Any

from adshift.errors import AdshiftError
from adshift.stage import run


def main() -> None:
    """Entry point."""
    run(_main, watched=False)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="adshift", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    from adshift.presets import PRESETS

    preset = commands.add_parser("preset", help="rewrite params.yaml for a study, comments kept")
    preset.add_argument("name", choices=PRESETS)
    preset.add_argument("--data-root", metavar="DIR", help="folder of the raw data")
    preset.set_defaults(work=_preset)

    from adshift.fetch import SOURCES

    fetch = commands.add_parser("fetch", help="download a data set, or say how to get it and check what lies there")
    fetch.add_argument("name", choices=SOURCES)
    fetch.add_argument("--to", metavar="DIR", type=Path, help="its folder; raw/NAME if not given")
    fetch.set_defaults(work=_fetch)

    repro = commands.add_parser("repro", help="dvc repro, independent stages side by side")
    repro.add_argument("--jobs", type=int, default=1, metavar="N", help="stages at once")
    repro.set_defaults(work=_repro)

    backbones = commands.add_parser("backbones", help="what backbones cost: parameters, multiply-adds, bytes, time")
    backbones.add_argument("names", nargs="*", metavar="NAME", help="default: all that have usual layers")
    backbones.add_argument("--threads", type=int, default=1, metavar="N", help="threads of the timed network")
    backbones.set_defaults(work=_backbones)

    _add_study(commands)
    commands.add_parser("check", help="check params.yaml, the data and the weights").set_defaults(work=_check)
    commands.add_parser("repair", help="remove outputs and cache objects that are not what dvc.lock says").set_defaults(
        work=_repair
    )
    commands.add_parser("summary", help="print metrics/summary.json as a table").set_defaults(work=_summary)

    compare = commands.add_parser("compare", help="several runs and published figures in one table and a radar chart")
    compare.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="a project, or a folder with results.csv")
    compare.add_argument("--scenario", default="clean", help="clean if not given")
    compare.add_argument("--to", metavar="DIR", type=Path, default=Path("comparison"), help="where to write")
    compare.set_defaults(work=_compare)

    commands.add_parser("offline-plots", help="let `dvc plots show` work offline").set_defaults(work=_offline)

    args = parser.parse_args()
    args.work(args)


def _add_study(commands: Any) -> None:
    from adshift.presets import PRESETS

    study = commands.add_parser("study", help="grids of experiments: list them, run one, write its table")
    verbs = study.add_subparsers(required=True, metavar="VERB")
    verbs.add_parser("list", help="studies that are declared").set_defaults(work=_list_studies)
    for verb, told in (("run", "run what is missing of one, then write its table"), ("table", "write what there is")):
        one = verbs.add_parser(verb, help=told)
        one.add_argument("name", metavar="NAME", help="of studies/NAME.yaml")
        one.add_argument("--preset", choices=PRESETS, help="in place of the study's own; results go to NAME-PRESET")
        one.add_argument(
            "--data-root", metavar="[DATASET=]DIR", action="append", default=[],
            help="folder of the raw data, raw/DATASET if not given; repeat it for several data sets",
        )  # fmt: skip
        one.set_defaults(work=_study, jobs=None)
        if verb == "run":
            one.add_argument("--jobs", type=int, default=1, metavar="N", help="experiments at once")


def _list_studies(args: argparse.Namespace) -> None:
    from adshift.studies import declare

    for name in declare.names():
        study = declare.read(name)
        count = max(1, len(study.points)) * prod(len(values) for values in study.grid.values())
        print(f"{name:<20}{count:>4}  {study.title}")


def _study(args: argparse.Namespace) -> None:
    from adshift.studies import command

    command.study(args.name, args.preset, args.data_root, args.jobs)


def _preset(args: argparse.Namespace) -> None:
    from adshift.presets import apply

    for key, value in apply(args.name, args.data_root).items():
        print(f"{key}: {'' if value is None else value}")
    print("params.yaml rewritten; now: dvc repro")


def _fetch(args: argparse.Namespace) -> None:
    from adshift.fetch import fetch, report

    root = fetch(args.name, args.to)
    for line in report(args.name, root):
        print(line)


def _repro(args: argparse.Namespace) -> None:
    from adshift.jobs import repro

    if code := repro(args.jobs):
        sys.exit(code)


def _backbones(args: argparse.Namespace) -> None:
    from adshift.backbones.cost import profiles

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


def _check(args: argparse.Namespace) -> None:
    from adshift.checks import check

    check()
    print("params.yaml, data set and weights: fine")


def _repair(args: argparse.Namespace) -> None:
    from adshift.repair import repair

    for line in repair() or ["nothing is damaged"]:
        print(line)


def _summary(args: argparse.Namespace) -> None:
    path = Path("metrics/summary.json")
    if not path.is_file():
        raise AdshiftError(f"{path}: not there", "run `dvc repro` first")
    summary = json.loads(path.read_text(encoding="utf-8"))
    columns = list(dict.fromkeys(key for method in summary.values() for metrics in method.values() for key in metrics))
    widths = {column: max(14, len(column) + 2) for column in columns}
    print(f"{'method':<12}{'scenario':<24}" + "".join(f"{column:>{widths[column]}}" for column in columns))
    for method, scenarios in summary.items():
        for scenario, metrics in scenarios.items():
            cells = {column: "-" if metrics[column] is None else f"{metrics[column]:.3f}" for column in columns}
            print(f"{method:<12}{scenario:<24}" + "".join(f"{cell:>{widths[key]}}" for key, cell in cells.items()))


def _compare(args: argparse.Namespace) -> None:
    from adshift.report import compare

    runs = [compare.read(folder, args.scenario) for folder in args.folders]
    print(compare.write(args.to, runs, Path("reference")).markdown())
    print(f"written to {args.to}: comparison.md, comparison.csv, radar.png")


def _offline(args: argparse.Namespace) -> None:
    from adshift.offline import install

    install()


if __name__ == "__main__":
    main()
