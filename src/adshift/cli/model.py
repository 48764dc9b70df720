"""Verbs of a model: predict, recalibrate, adapt, drift, blindness, export."""

import argparse
import json
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from adshift.errors import AdshiftError
from adshift.runtime.extras import needs

VERBS = ("predict", "recalibrate", "adapt", "drift", "blindness", "export")


def add(commands: Any, verb: str | None = None) -> None:
    """Add these verbs to the command, or the one that will be used: predicting is to start within a second."""
    adding = (_add_predict, _add_recalibrate, _add_adapt, _add_drift, _add_blindness, _add_export)
    for name, one in zip(VERBS, adding, strict=True):
        if verb in (name, None):
            one(commands)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict", help="score images with a model: normal or anomalous",
        epilog="Exit code: 0 if all are normal, 1 if some are anomalous, 2 if something failed. See docs/models.md.",
    )  # fmt: skip
    predict.add_argument(
        "model", metavar="MODEL", help="exported FILE.onnx, model directory, or REPO#METHOD/CLASS/DOMAIN@REV"
    )
    predict.add_argument("images", metavar="IMAGES", nargs="+", help="files, folders, patterns; - for paths on stdin")
    predict.add_argument("--out", metavar="DIR", type=Path, help="folder for predictions.jsonl, overlays and masks")
    predict.add_argument("--json", action="store_true", help="print one JSON object a line for each image")
    predict.add_argument("--overlays", action="store_true", help="write images with their anomaly maps to DIR/overlays")
    predict.add_argument("--masks", action="store_true", help="write masks of anomalous pixels to DIR/masks")
    predict.add_argument("--boxes", action="store_true", help="add boxes of anomalous regions, in image pixels")
    predict.add_argument("--threshold", metavar="FILE|NUMBER", help="use this instead of the model's threshold.json")
    predict.add_argument(
        "--class", dest="class_name", metavar="CLASS", help="of a unified model: use the threshold of this class"
    )
    predict.add_argument("--batch", type=int, default=16, metavar="N", help="images in memory at once (default: 16)")
    predict.add_argument("--weights", metavar="FILE", help="weights of the backbone, if they came from a file")
    predict.add_argument("--cache", metavar="DIR", help="folder for models fetched from a repository")
    predict.set_defaults(work=_predict)


def _add_recalibrate(commands: Any) -> None:
    again = commands.add_parser("recalibrate", help="set a new threshold for a model, from recent images")
    again.add_argument("model", metavar="MODEL", type=Path, help="exported FILE.onnx, or model directory")
    again.add_argument("--normal", metavar="DIR", required=True, help="folder of images without defects")
    again.add_argument("--anomalous", metavar="DIR", help="folder of defective images")
    again.add_argument(
        "--pasted", action="store_true",
        help="for lack of defective images, paste defects onto copies of the normal ones (docs/blindness.md)",
    )  # fmt: skip
    again.add_argument(
        "--target-fpr", type=float, metavar="RATE",
        help="set the threshold for this false-positive rate (default: the best F1 with defects, else 0.05)",
    )  # fmt: skip
    again.add_argument("--name", help="write threshold-NAME.json (default: the next free number)")
    again.set_defaults(work=_recalibrate)


def _add_adapt(commands: Any) -> None:
    from adshift.deploy.recalibration import TARGET_FPR

    adapt = commands.add_parser("adapt", help="a new model from an old one and a few normal images of today")
    adapt.add_argument("model", metavar="MODEL", type=Path, help="its directory; it is left as it is")
    adapt.add_argument("--normal", metavar="DIR", required=True, help="images of today without a defect")
    adapt.add_argument("--out", metavar="DIR", type=Path, help="of the new model; MODEL-adapted if not given")
    adapt.add_argument("--rows", type=int, metavar="N", help="rows that a memory bank may gain; no limit if not given")
    adapt.add_argument("--target-fpr", type=float, default=TARGET_FPR, metavar="RATE",
                       help="false-positive rate wanted; 0.05 if not given")  # fmt: skip
    adapt.add_argument("--earlier", metavar="DIR", help="normal images from before: measures what it costs on them")
    adapt.set_defaults(work=_adapt)


def _add_drift(commands: Any) -> None:
    from adshift.deploy.drift import DEFECTS

    drift = commands.add_parser(
        "drift", help="test whether the threshold is still valid, with recent images without labels",
        epilog="Exit code: 0 if nothing is to be done, 1 if something is, 2 if it cannot tell or something failed.",
    )  # fmt: skip
    drift.add_argument("model", metavar="MODEL", type=Path, help="exported FILE.onnx, or model directory")
    drift.add_argument("images", metavar="IMAGES", nargs="+", help="files, folders or patterns")
    drift.add_argument(
        "--look", type=int, default=1, metavar="K", help="number of this look, counted from 1 (default: 1)"
    )
    drift.add_argument("--defects", type=float, default=DEFECTS, metavar="SHARE",
                       help="upper bound on the share of defective images (default: 0.1)")  # fmt: skip
    drift.add_argument(
        "--threshold", metavar="FILE", help="test this recalibration instead of the model's own threshold"
    )
    drift.add_argument("--json", action="store_true", help="print the result as JSON")
    drift.set_defaults(work=_drift)


def _add_blindness(commands: Any) -> None:
    blindness = commands.add_parser(
        "blindness", help="which pasted defects a model detects, by size and contrast; needs no defective image"
    )
    blindness.add_argument("model", metavar="MODEL", type=Path, help="model directory")
    blindness.add_argument("normal", metavar="IMAGES", nargs="+",
                           help="normal images that did not fit the model: files, folders or patterns")  # fmt: skip
    blindness.add_argument("--threshold", metavar="T", help="a number or a threshold file, for the model's own")
    blindness.add_argument("--seed", type=int, default=0, help="of the pasted defects (default: 0)")
    blindness.add_argument("--out", metavar="DIR", type=Path, help="write the pasted images and their record there")
    blindness.add_argument("--json", action="store_true", help="print the result as JSON")
    blindness.set_defaults(work=_blindness)


def _add_export(commands: Any) -> None:
    from adshift.deploy import export

    parser = commands.add_parser("export", help="write a model as one ONNX file: docs/export.md")
    parser.add_argument("model", metavar="MODEL", type=Path, help="model directory")
    parser.add_argument("--format", default="onnx", help="onnx (default)")
    parser.add_argument("--to", metavar="FILE", type=Path, help="file to write (default: METHOD-CLASS-DTYPE.onnx)")
    parser.add_argument(
        "--opset", type=int, default=export.OPSETS[0], metavar="N", help=f"ONNX opset (default: {export.OPSETS[0]})"
    )
    parser.add_argument("--dtype", default="float32", help=", ".join(export.DTYPES))
    parser.add_argument("--calibrate", metavar="DIR", type=Path, help="folder of normal images, which int8 needs")
    parser.add_argument("--input", default="uint8", help="uint8 pixels, 0 to 255 (default), or float32, 0 to 1")
    parser.add_argument("--layout", default="NHWC", help="layout of the input: NHWC (default) or NCHW")
    parser.add_argument(
        "--weights", metavar="FILE", type=Path, help="weights of the backbone, if they came from a file"
    )
    parser.add_argument(
        "--params",
        metavar="FILE",
        type=Path,
        default=Path("params.yaml"),
        help="settings of scoring (default: params.yaml)",
    )
    parser.set_defaults(work=_export)


def _predict(args: argparse.Namespace) -> None:
    from adshift.deploy import loading, predict

    try:
        if (args.overlays or args.masks) and args.out is None:
            raise AdshiftError("--overlays and --masks are written to a folder", "name it: --out DIR")
        if args.batch < 1:
            raise AdshiftError(f"--batch {args.batch}", "at least 1")
        loading.check(args.model)
        load = partial(
            loading.load, args.model, threshold=_number_or_file(args.threshold), class_name=args.class_name,
            weights=args.weights, cache=args.cache,
        )  # fmt: skip
        wanted = predict.Wanted(args.out, args.overlays, args.masks, args.boxes, args.json)
        code = predict.predict(load, args.images, wanted, args.batch, sys.stdin)
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

    path, result = monitoring.recalibrate(
        args.model, args.normal, args.anomalous, args.target_fpr, args.name, args.pasted
    )
    for line in monitoring.recalibration_lines(result):
        print(line)
    print(f"written: {path}")


def _adapt(args: argparse.Namespace) -> None:
    from adshift.deploy import adaptation

    needs("torch", "scipy", extra="torch", what="adshift adapt runs a model directory")
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
    sys.exit(outcome["verdict"] not in monitoring.NOTHING)


def _blindness(args: argparse.Namespace) -> None:
    from adshift.deploy.blindness import blindness

    result = blindness(args.model, args.normal, threshold=_number_or_file(args.threshold), seed=args.seed, out=args.out)
    print(json.dumps(result.to_dict(), indent=1, sort_keys=True) if args.json else "\n".join(result.lines()))


def _number_or_file(text: str | None) -> str | float | None:
    """A threshold as it is typed."""
    with suppress(TypeError, ValueError):
        return float(text)  # type: ignore[arg-type]
    return text


def _export(args: argparse.Namespace) -> None:
    from adshift.deploy import export

    needs("torch", "onnx", "onnxscript", extra="torch", what="adshift export traces a model with torch")
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
    print(metadata["before"])
    print(f"threshold: {metadata.get('threshold', 'none, since MODEL has no threshold.json')}")
