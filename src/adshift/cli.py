"""The `adshift` command: what DVC has no word for."""

import argparse
import json
import os
import sys
import traceback
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

from adshift import __version__
from adshift.errors import AdshiftError, shown
from adshift.stage import run

SHOWN = 5  # changes that an error names
UNFORESEEN = 2  # exit code: 1 is an answer of some commands, and bad input of the others


class _Parser(argparse.ArgumentParser):
    """A command's parser, and those of its commands: all know --debug."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS,
            help="show the traceback of an error that was not foreseen; so does ADSHIFT_DEBUG=1",
        )  # fmt: skip


def main() -> None:
    """Entry point. An error that nobody foresaw ends with `UNFORESEEN`, never with what could be an answer."""
    try:
        try:
            run(_main, watched=False)
        finally:
            sys.stdout.flush()  # now, when it can still be told that it does not arrive
    except BrokenPipeError:  # whoever read along has left
        _drop_output()
        sys.exit(UNFORESEEN)
    except Exception as error:
        if "--debug" in sys.argv or os.environ.get("ADSHIFT_DEBUG", "0") not in ("", "0"):
            traceback.print_exc()
        told = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        print(f"error: not foreseen: {shown(told)}; please report it, with what --debug shows", file=sys.stderr)
        _drop_output()
        sys.exit(UNFORESEEN)


def _drop_output() -> None:
    """Send what was not written yet nowhere, if it cannot arrive: Python would try again, and end with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _main() -> None:
    args = parser().parse_args()
    args.work(args)


def parser() -> argparse.ArgumentParser:
    """The parser of every verb; the site's page on the command line is made from it."""
    command = _Parser(prog="adshift", description=__doc__)
    command.add_argument("--version", action="version", version=f"adshift {__version__}")
    commands = command.add_subparsers(required=True, metavar="COMMAND")

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
    _add_monitoring(commands)
    _add_predict(commands)
    commands.add_parser("check", help="check params.yaml, the data and the weights").set_defaults(work=_check)
    commands.add_parser("repair", help="remove outputs and cache objects that are not what dvc.lock says").set_defaults(
        work=_repair
    )
    summary = commands.add_parser(
        "summary", help="print metrics/summary.json as a table",
        epilog="Ends with 1, and prints no figure, if parameters or data have changed since. Code is not compared.",
    )  # fmt: skip
    summary.set_defaults(work=_summary)

    compare = commands.add_parser("compare", help="several runs and published figures in one table and a radar chart")
    compare.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="a project, or a folder with results.csv")
    compare.add_argument("--scenario", default="clean", help="clean if not given")
    compare.add_argument("--to", metavar="DIR", type=Path, default=Path("comparison"), help="where to write")
    compare.set_defaults(work=_compare)

    _add_export(commands)
    commands.add_parser("offline-plots", help="let `dvc plots show` work offline").set_defaults(work=_offline)
    return command


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
        one.add_argument(
            "-S", "--set-param", metavar="KEY=VALUE", action="append", default=[], help="a parameter for all of it"
        )
        one.set_defaults(work=_study, jobs=None)
        if verb == "run":
            one.add_argument("--jobs", type=int, default=1, metavar="N", help="experiments at once")


def _add_monitoring(commands: Any) -> None:
    from adshift.drift import DEFECTS

    again = commands.add_parser("recalibrate", help="a new threshold beside a model, from images of today")
    again.add_argument("model", metavar="MODEL", type=Path, help="its directory")
    again.add_argument("--normal", metavar="DIR", required=True, help="images without a defect")
    again.add_argument("--anomalous", metavar="DIR", help="defective images")
    again.add_argument(
        "--target-fpr", type=float, metavar="RATE",
        help="false-positive rate wanted; 0.05 with normal images alone, else the best F1 unless it is given",
    )  # fmt: skip
    again.add_argument("--name", help="of threshold-NAME.json; the next number if not given")
    again.set_defaults(work=_recalibrate)

    drift = commands.add_parser(
        "drift", help="is the threshold still valid? from recent images without labels",
        epilog="Ends with 0 for fine, 1 for recalibrate or refit, 2 if it could not tell.",
    )  # fmt: skip
    drift.add_argument("model", metavar="MODEL", type=Path, help="its directory")
    drift.add_argument("images", metavar="IMAGES", nargs="+", help="files, folders or patterns")
    drift.add_argument("--look", type=int, default=1, metavar="K", help="how often you looked, this time included")
    drift.add_argument("--defects", type=float, default=DEFECTS, metavar="SHARE",
                       help="at most so many of the images are defective; 0.1 if not given")  # fmt: skip
    drift.add_argument("--threshold", metavar="FILE", help="a recalibration's, and its images, in place of the model's")
    drift.add_argument("--json", action="store_true", help="for machines")
    drift.set_defaults(work=_drift)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict", help="look at images with a model",
        epilog="Exit code: 0 if all are normal, 1 if some are anomalous, 2 if something failed. See docs/models.md.",
    )  # fmt: skip
    predict.add_argument("model", metavar="MODEL", help="model directory, or REPO#METHOD/CLASS/DOMAIN@REV")
    predict.add_argument("images", metavar="IMAGES", nargs="+", help="files, folders, patterns; - for paths on stdin")
    predict.add_argument("--out", metavar="DIR", type=Path, help="write predictions.jsonl there, and what is asked for")
    predict.add_argument("--json", action="store_true", help="JSON Lines on standard output")
    predict.add_argument("--overlays", action="store_true", help="anomaly maps over the images, in DIR/overlays")
    predict.add_argument("--masks", action="store_true", help="anomalous pixels, at the images' size, in DIR/masks")
    predict.add_argument("--boxes", action="store_true", help="boxes of anomalous regions, in pixels of the image")
    predict.add_argument("--threshold", metavar="FILE|NUMBER", help="in place of the model's threshold.json")
    predict.add_argument("--class", dest="class_name", metavar="CLASS", help="whose threshold a unified model uses")
    predict.add_argument("--batch", type=int, default=16, metavar="N", help="images in memory together")
    predict.add_argument("--weights", metavar="FILE", help="the backbone's, where they came from a file")
    predict.add_argument("--cache", metavar="DIR", help="where fetched models are kept")
    predict.set_defaults(work=_predict)


def _add_export(commands: Any) -> None:
    from adshift import export

    parser = commands.add_parser("export", help="a model as one graph, to run without Python: docs/export.md")
    parser.add_argument("model", metavar="MODEL", type=Path, help="model directory")
    parser.add_argument("--format", required=True, help="onnx")
    parser.add_argument("--to", metavar="FILE", type=Path, help="METHOD-CLASS-DTYPE.onnx if not given")
    parser.add_argument("--opset", type=int, default=export.OPSETS[0], metavar="N", help="of ONNX's operators")
    parser.add_argument("--dtype", default="float32", help=", ".join(export.DTYPES))
    parser.add_argument("--calibrate", metavar="DIR", type=Path, help="normal images, which int8 needs")
    parser.add_argument("--input", default="uint8", help="uint8, 0 to 255, or float32, 0 to 1")
    parser.add_argument("--layout", default="NHWC", help="of the input: NHWC or NCHW")
    parser.add_argument("--weights", metavar="FILE", type=Path, help="the backbone's, if they came from a file")
    parser.add_argument(
        "--params", metavar="FILE", type=Path, default=Path("params.yaml"), help="holds the settings of scoring"
    )
    parser.set_defaults(work=_export)


def _list_studies(args: argparse.Namespace) -> None:
    from adshift.studies import declare

    for name in declare.names():
        study = declare.read(name)
        count = max(1, len(study.points)) * prod(len(values) for values in study.grid.values())
        print(f"{name:<20}{count:>4}  {study.title}")


def _study(args: argparse.Namespace) -> None:
    from adshift.studies import command

    command.study(args.name, args.preset, args.data_root, args.set_param, args.jobs)


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


def _recalibrate(args: argparse.Namespace) -> None:
    from adshift import monitoring

    path, found = monitoring.recalibrate(args.model, args.normal, args.anomalous, args.target_fpr, args.name)
    for line in monitoring.told(found):
        print(line)
    print(f"written: {path}")


def _drift(args: argparse.Namespace) -> None:
    from adshift import monitoring

    try:
        found = monitoring.drift(args.model, args.images, args.look, args.defects, args.threshold)
    except AdshiftError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(json.dumps(found, indent=1, sort_keys=True) if args.json else "\n".join(monitoring.verdict(found)))
    sys.exit(found["verdict"] != "fine")


def _predict(args: argparse.Namespace) -> None:
    from adshift import inference, predict

    try:
        if (args.overlays or args.masks) and args.out is None:
            raise AdshiftError("--overlays and --masks are written to a folder", "name it: --out DIR")
        if args.batch < 1:
            raise AdshiftError(f"--batch {args.batch}", "at least 1")
        threshold: str | float | None = args.threshold
        with suppress(TypeError, ValueError):
            threshold = float(args.threshold)
        model = inference.load(
            args.model, threshold=threshold, class_name=args.class_name, weights=args.weights, cache=args.cache
        )
        wanted = predict.Wanted(args.out, args.overlays, args.masks, args.boxes, args.json)
        code = predict.predict(model, args.images, wanted, args.batch, sys.stdin)
    except AdshiftError as error:
        print(f"error: {error}", file=sys.stderr)
        code = predict.FAILED
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk
        print(f"error: {error}", file=sys.stderr)
        code = predict.FAILED
    sys.exit(code)


def _check(args: argparse.Namespace) -> None:
    from adshift import versions
    from adshift.checks import check

    check()
    if lines := versions.changes():
        print(*lines, "`adshift repro` takes it up", sep="\n")
    print("params.yaml, data set and weights: fine")


def _repair(args: argparse.Namespace) -> None:
    from adshift.repair import repair

    for line in repair() or ["nothing is damaged"]:
        print(line)


def _summary(args: argparse.Namespace) -> None:
    path = Path("metrics/summary.json")
    if not path.is_file():
        raise AdshiftError(f"{path}: not there", "run `dvc repro` first")
    from adshift.provenance import changed_since

    if changed := changed_since("aggregate"):
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        what = (
            f"{path}: its figures came from other parameters or data; changed since: {', '.join(changed[:SHOWN])}{more}"
        )
        raise AdshiftError(what, "`dvc repro` makes those of params.yaml as it is now")
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


def _export(args: argparse.Namespace) -> None:
    from adshift import export

    if args.format != "onnx":
        raise AdshiftError(f"export: format {args.format} is unknown", "--format onnx")
    method = export.method_of(args.model)
    to = args.to or Path(f"{method}-{args.model.resolve().parent.name}-{args.dtype}.onnx")
    how = export.scoring(method, args.model, args.params)
    metadata = export.export(
        args.model, how, to, opset=args.opset, dtype=args.dtype, pixels=args.input,
        layout=args.layout, calibrate=args.calibrate, weights=args.weights,
    )  # fmt: skip
    print(f"{to}: {to.stat().st_size:,} bytes; input {metadata['input']}, {metadata['size']} pixels square")
    print(f"before it: {metadata['before']}")
    print(f"threshold: {metadata.get('threshold', 'none, since MODEL has no threshold.json')}")


def _offline(args: argparse.Namespace) -> None:
    from adshift.offline import install

    install()


if __name__ == "__main__":
    main()
