"""Verbs of a model: predict, recalibrate, adapt, drift, export."""

import argparse
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from adshift.errors import AdshiftError


def add(commands: Any) -> None:
    """Add these verbs to the command."""
    _add_predict(commands)
    _add_recalibrate(commands)
    _add_adapt(commands)
    _add_drift(commands)
    _add_export(commands)


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


def _add_recalibrate(commands: Any) -> None:
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


def _add_adapt(commands: Any) -> None:
    adapt = commands.add_parser("adapt", help="a new model from an old one and a few normal images of today")
    adapt.add_argument("model", metavar="MODEL", type=Path, help="its directory; it is left as it is")
    adapt.add_argument("--normal", metavar="DIR", required=True, help="images of today without a defect")
    adapt.add_argument("--out", metavar="DIR", type=Path, help="of the new model; MODEL-adapted if not given")
    adapt.add_argument("--rows", type=int, metavar="N", help="rows that a memory bank may gain; no limit if not given")
    adapt.add_argument("--target-fpr", type=float, default=0.05, metavar="RATE",
                       help="false-positive rate wanted; 0.05 if not given")  # fmt: skip
    adapt.add_argument("--earlier", metavar="DIR", help="normal images from before: measures what it costs on them")
    adapt.set_defaults(work=_adapt)


def _add_drift(commands: Any) -> None:
    from adshift.deploy.drift import DEFECTS

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


def _add_export(commands: Any) -> None:
    from adshift.deploy import export

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


def _predict(args: argparse.Namespace) -> None:
    from adshift.deploy import inference, predict

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


def _recalibrate(args: argparse.Namespace) -> None:
    from adshift.deploy import monitoring

    path, result = monitoring.recalibrate(args.model, args.normal, args.anomalous, args.target_fpr, args.name)
    for line in monitoring.recalibration_lines(result):
        print(line)
    print(f"written: {path}")


def _adapt(args: argparse.Namespace) -> None:
    from adshift.deploy import adaptation

    result = adaptation.adapt(
        args.model, args.normal, args.out, rows=args.rows, target_fpr=args.target_fpr, earlier=args.earlier
    )
    print(*result.lines(), sep="\n")


def _drift(args: argparse.Namespace) -> None:
    from adshift.deploy import monitoring

    try:
        outcome = monitoring.drift(args.model, args.images, args.look, args.defects, args.threshold)
    except AdshiftError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(json.dumps(outcome, indent=1, sort_keys=True) if args.json else "\n".join(monitoring.verdict_lines(outcome)))
    sys.exit(outcome["verdict"] != "fine")


def _export(args: argparse.Namespace) -> None:
    from adshift.deploy import export

    if args.format != "onnx":
        raise AdshiftError(f"export: format {args.format} is unknown", "--format onnx")
    method = export.method_of(args.model)
    to = args.to or Path(f"{method}-{export.fitted_on(args.model)['class']}-{args.dtype}.onnx")
    scoring = export.scoring(method, args.model, args.params)
    metadata = export.export(
        args.model, scoring, to, opset=args.opset, dtype=args.dtype, pixels=args.input,
        layout=args.layout, calibrate=args.calibrate, weights=args.weights,
    )  # fmt: skip
    print(f"{to}: {to.stat().st_size:,} bytes; input {metadata['input']}")
    print(f"before it: {metadata['before']}")
    print(f"threshold: {metadata.get('threshold', 'none, since MODEL has no threshold.json')}")
