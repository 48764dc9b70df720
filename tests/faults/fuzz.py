"""Mutated images through the decoder, mutated params.yaml through its reader: `make fuzz` writes docs/results/fuzz.json.

What counts as a failure: an exception other than AdshiftError, more than LIMIT seconds of the processor or PATIENCE
seconds of waiting, memory beyond the process's limit, or a wrong value. A picture that is accepted is decoded a second time by code that shares nothing with ours but
Pillow, and its pixels have to be the same; parameters that are accepted have to be the values that a YAML 1.2 reader of
its own sees in the file.

Every case is made from its number alone, so that a failure comes back: `python tests/faults/fuzz.py --only images 4711`.
"""

# ruff: noqa: E501  (tables and strategies)

import argparse
import io
import json
import math
import os
import platform
import resource
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image
from ruamel.yaml import YAML
from skimage import measure

import malformed
from adshift.data import images, masks
from adshift.errors import AdshiftError
from adshift.project import params
from adshift.runtime.settings import Section
from malformed import encoded

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "docs/results/fuzz.json"
CASES = 10_000
LIMIT = 10.0  # seconds of the processor a case: by the clock, whatever else the machine does would count
PATIENCE = 120.0  # seconds by the clock, for what waits and computes nothing
MEMORY = 4 * 2**30  # bytes of address space
SEED = 2026


class WrongError(Exception):
    """Something was accepted and read as something else."""


# ------------------------------------------------------------------------------------------------------------ images


@cache
def sound() -> list[bytes]:
    """Small valid files of every format and mode that is read."""
    generator = np.random.default_rng(SEED)
    rgb = generator.integers(0, 256, (21, 17, 3), dtype=np.uint8)
    grey = rgb[..., 0]
    palette, bits = Image.fromarray(grey).convert("P"), Image.fromarray(grey > 99)
    cmyk = Image.fromarray(rgb).convert("CMYK")
    deep, alpha = grey.astype(np.uint16) * 257, np.dstack([rgb, grey])
    mask = np.where(grey > 99, 255, 0).astype(np.uint8)
    files = [encoded(one, "PNG") for one in (rgb, grey, deep, alpha, mask, palette, bits)]
    files += [encoded(one, "JPEG") for one in (rgb, grey, cmyk)]
    files += [encoded(rgb, "JPEG", progressive=True, quality=30)]
    files += [encoded(one, "BMP") for one in (rgb, grey, palette, bits)]
    files += [encoded(one, "TIFF") for one in (rgb, grey, deep, alpha, cmyk, palette, bits)]
    files += [encoded(rgb, "TIFF", compression=kind) for kind in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")]
    files += [encoded(rgb, "WEBP"), encoded(alpha, "WEBP", lossless=True)]
    files += [encoded(one, "PPM") for one in (rgb, grey, deep, bits)]
    files += [malformed.large_png(), malformed.large_bmp(), malformed.large_jpeg(), malformed.large_tiff()]
    return [*files, malformed.large_webp(), malformed.frames("PNG"), malformed.frames("WEBP"), malformed.frames("TIFF")]


INTERESTING = (0, 1, 2, 3, 4, 8, 16, 0x7F, 0x80, 0xFF)


def mutated(data: bytes, generator: np.random.Generator) -> bytes:
    """A few bytes changed, cut out, repeated or brought in from another file; the earlier ones, the headers, above all.

    Checksums of PNG chunks are made right again half of the time, else nothing but the checksum would ever be met.
    """
    found = bytearray(data)
    for _ in range(min(int(generator.geometric(0.5)), 8)):
        if not found:
            break
        place = min(int(generator.exponential(60) if generator.random() < 0.6 else generator.integers(len(found))),
                    len(found) - 1)  # fmt: skip
        length = int(generator.integers(1, 9))
        kind = int(generator.integers(8))
        if kind == 0:
            found[place] ^= 1 << int(generator.integers(8))
        elif kind == 1:
            found[place] = int(generator.integers(256))
        elif kind == 2:
            found[place] = INTERESTING[int(generator.integers(len(INTERESTING)))]
        elif kind == 3:
            found[place : place + length] = generator.bytes(length)
        elif kind == 4:
            del found[place : place + length]
        elif kind == 5:
            found[place:place] = found[place : place + length] * int(generator.integers(1, 9))
        elif kind == 6:
            del found[max(place, 8) :]
        else:
            other = sound()[int(generator.integers(len(sound())))]
            found[place:] = other[min(place, len(other) - 1) :]
    return _with_checksums(bytes(found)) if generator.random() < 0.5 else bytes(found)


def _with_checksums(data: bytes) -> bytes:
    if not data.startswith(b"\x89PNG"):
        return data
    out, place = data[:8], 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if place + 12 + length > len(data):
            break
        out += malformed.chunk(data[place + 4 : place + 8], data[place + 8 : place + 8 + length])
        place += 12 + length
    return out + data[place:]


def as_decoded_again(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 and (H, W) bool of a file, by the words of the documentation and none of our code.

    Through Pillow's own guess of the format, band by band and in floating point, where ours names the formats and works
    on integers.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data))
        image.load()
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64).clip(0, 65535)
        grey = np.floor(values / 257 + 0.5).astype(np.uint8)
        return np.dstack([grey] * 3), marked_again(values, lossy=False)
    bands = [np.asarray(band) for band in image.convert("RGB").split()]
    brightest = np.maximum.reduce(bands)
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if alpha.min() < alpha.max():
            seen = np.where(brightest < alpha, brightest, alpha)
            brightest = seen if seen.max() else alpha
    lossless = {"WEBP": b"VP8L" in data[:4096], "TIFF": "jpeg" not in str(image.info.get("compression"))}
    lossy = image.format == "JPEG" or not lossless.get(image.format or "", True)
    return np.dstack(bands), marked_again(brightest, lossy)


def marked_again(values: np.ndarray, lossy: bool) -> np.ndarray:
    """Which pixels (H, W) a mask marks, as docs/datasets.md says it, a pixel and a region at a time."""
    background, peak = values == 0, values.max()

    def near(row: int, column: int, steps: int) -> tuple[slice, slice]:
        return slice(max(row - steps, 0), row + steps + 1), slice(max(column - steps, 0), column + steps + 1)

    border = [(row, column) for row, column in np.argwhere(~background) if background[near(row, column, 1)].any()]
    rising = [place for place in border if values[near(*place, masks.SOFT)].max() > values[place]]
    several = len({*values[~background].tolist()}) > 1
    soft = lossy or (several and 2 * len(rising) > len(border))
    if peak < masks.LABELS or not soft:
        return ~background
    found = np.zeros(values.shape, bool)
    for region in measure.regionprops(measure.label(2 * values.astype(float) >= masks.PEAK * peak, connectivity=2)):
        inside = tuple(region.coords.T)
        brightest = values[inside].max()
        if brightest >= masks.PEAK * peak:
            found[inside] = 2.0 * values[inside] >= brightest
    return found


def fuzz_image(case: int) -> str:
    """`read` or `refused`; raises for anything else."""
    generator = np.random.default_rng([SEED, 1, case])
    files = sound()
    data = files[case % len(files)]
    if case >= len(files):  # the first ones go through as they are
        data = mutated(data, generator)
    outcomes = []
    for decode in (images.decode_image, images.decode_mask):
        try:
            outcomes.append(decode(data, "a.png"))
        except AdshiftError as error:
            if not error.what.startswith("a.png: ") or not error.remedy:
                raise WrongError(f"the error names no file or remedy: {error}") from None
            outcomes.append(None)
    picture, mask = outcomes
    if (picture is None) != (mask is None):
        raise WrongError("read as an image but not as a mask, or the other way round")
    if picture is None or mask is None:
        return "refused"
    if (
        picture.dtype != np.uint8
        or picture.ndim != 3
        or picture.shape[2] != 3
        or picture[..., 0].size > images.MAX_PIXELS
    ):
        raise WrongError(f"{picture.dtype} {picture.shape}")
    again, again_mask = as_decoded_again(data)
    if not np.array_equal(picture, again) or mask.dtype != bool or not np.array_equal(mask, again_mask):
        raise WrongError("the second decoder sees another picture")
    return "read"


# ------------------------------------------------------------------------------------------------------------ params

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
VALUES = ("", "true", "yes", "null", "~", "0", "1", "-1", "0.5", "1e-3", "1e999", "-0.0", ".nan", ".inf", "0x10", "0o17", "017",
          "1_000", "'1'", '"\\0"', '"\\ud800"', "[]", "[1]", "[1, 2, 3]", "[a, a]", "{}", "{a: 1}", "!!set {a, b}",
          "!!int x", "!!binary aGk=", "2001-01-01", "2001-13-45", "*x", "&x 1", "|\n  a", "- 1", "9" * 30, "9" * 5000,
          "'" + "a" * 2000 + "'", "[[[[[[[[]]]]]]]]", "é", "../..", "--help", "0b1", "1:30", "!!float 3", "? a", "<<: *x")  # fmt: skip
WORDS = ("\t", ":", "- ", "#", "'", '"', "[", "]", "{", "}", "&a ", "*a", "!", "!!python/name:os.system ", "%YAML 1.1\n---\n",
         "\n---\n", "...\n", "\r", "\0", "\ufeff", "\x85", "\u2028", "seed: 1\n", "classes: [a]\n", "? ", "|", ">", ",")  # fmt: skip


def mutated_text(generator: np.random.Generator) -> bytes:
    """params.yaml with some values replaced, lines dropped or moved, bytes and YAML's own signs put anywhere."""
    lines = TEXT.splitlines(keepends=True)

    def any_of(choices: Any) -> Any:
        return choices[int(generator.integers(len(choices)))]

    for _ in range(min(int(generator.geometric(0.6)), 4)):
        at, kind = int(generator.integers(len(lines))), int(generator.integers(6))
        key, colon, rest = lines[at].partition(":")
        if kind <= 2 and colon:  # a value; a valid neighbour of it half of the time
            number = rest.split("#")[0].strip()
            near = [number, f"{number}0", f"-{number}", f"[{number}]", f"'{number}'", f"{number}.0", f"{number}e-1"]
            lines[at] = f"{key}: {any_of(near) if generator.random() < 0.5 else any_of(VALUES)}\n"
        elif kind == 3:
            del lines[at]
        elif kind == 4:
            lines.insert(int(generator.integers(len(lines))), lines[at])
        elif colon:
            lines[at] = f"{key}x:{rest}"
        if not lines:
            break
    text = bytearray("".join(lines).encode("utf-8", "surrogatepass"))
    for _ in range(int(generator.integers(0, 3)) if generator.random() < 0.3 else 0):
        place = int(generator.integers(len(text) + 1))
        if generator.random() < 0.5:
            text[place:place] = any_of(WORDS).encode()
        else:
            text[place : place + 1] = generator.bytes(1)
    return bytes(text)


def plain(value: Any) -> Any:
    """Validated parameters as what YAML's reader gives."""
    if isinstance(value, Section):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, SimpleNamespace):
        return {name: plain(inner) for name, inner in vars(value).items()}
    return [plain(inner) for inner in value] if isinstance(value, tuple) else value


def same(ours: Any, theirs: Any) -> bool:
    """Equal, and of one type, but for whole numbers where fractions are meant."""
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and ours.keys() == theirs.keys() and all(
            same(ours[key], theirs[key]) for key in ours
        )  # fmt: skip
    if isinstance(ours, list):
        return isinstance(theirs, list) and len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, float):
        return type(theirs) in (int, float) and math.isfinite(ours) and ours == theirs
    return type(ours) is type(theirs) and ours == theirs


def fuzz_params(case: int, folder: Path) -> str:
    """`read` or `refused`; raises for anything else."""
    path = folder / "params.yaml"
    path.write_bytes(mutated_text(np.random.default_rng([SEED, 2, case])))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = params.load_all(path)
        except AdshiftError as error:
            if not error.what.startswith(f"{path}: ") or not error.remedy or len(str(error)) > 5000:
                raise WrongError(f"the error names no file or remedy, or is endless: {str(error)[:300]}") from None
            return "refused"
        theirs = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    if not same(plain(found), json.loads(json.dumps(theirs))):
        raise WrongError("the values are not those of the file")
    return "read"


# --------------------------------------------------------------------------------------------------------------- runs


@contextmanager
def at_most(busy: float, waiting: float) -> Iterator[None]:
    """TimeoutError after so many seconds of the processor or by the clock; code in C is interrupted when it returns."""

    def late(number: int, _: object) -> None:
        told = f"{busy} seconds of the processor" if number == signal.SIGPROF else f"{waiting} seconds by the clock"
        raise TimeoutError(f"more than {told}")

    timers = ((signal.SIGPROF, signal.ITIMER_PROF, busy), (signal.SIGALRM, signal.ITIMER_REAL, waiting))
    before = {number: signal.signal(number, late) for number, *_ in timers}
    for _, timer, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for number, timer, _ in timers:
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def sweep(work: Callable[[int], str], cases: range) -> dict[str, Any]:
    """Every case; what came of them, the slowest, and each failure with its number."""
    outcomes: Counter[str] = Counter()
    failures, slowest, began = {}, 0.0, time.perf_counter()
    for case in cases:
        start = time.process_time()
        try:
            with at_most(LIMIT, PATIENCE):
                outcomes[work(case)] += 1
        except Exception as error:  # whatever it is, it is what we look for
            outcomes["failed"] += 1
            failures[case] = f"{type(error).__name__}: {error} at {traceback.extract_tb(error.__traceback__)[-1]}"[:400]
        slowest = max(slowest, time.process_time() - start)
    return {
        "cases": len(cases), **outcomes, "slowest_cpu_seconds": round(slowest, 3),
        "seconds": round(time.perf_counter() - began, 1), "failures": failures,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz the image decoder and the reader of params.yaml.")
    parser.add_argument("--cases", type=int, default=CASES, metavar="N", help=f"of each kind; {CASES} if not given")
    parser.add_argument("--only", nargs=2, metavar=("KIND", "NUMBER"), help="images or params, and one case's number")
    parser.add_argument("--to", type=Path, default=RESULT, help="where to write the figures")
    args = parser.parse_args()
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="adshift-fuzz-"))
    kinds: dict[str, Callable[[int], str]] = {"images": fuzz_image, "params": lambda case: fuzz_params(case, folder)}
    warnings.simplefilter("ignore")  # Pillow's, about what it reads all the same
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if args.only:
        print(kinds[args.only[0]](int(args.only[1])))
        return
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    found = {kind: sweep(work, range(args.cases)) for kind, work in kinds.items()}
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": revision.stdout.strip(),
        "hardware": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "versions": {"python": platform.python_version(), **{one: version(one) for one in
                                                             ("numpy", "pillow", "pydantic", "ruamel.yaml")}},
        "limits": {"cpu_seconds_a_case": LIMIT, "seconds_a_case": PATIENCE, "address_space_bytes": MEMORY},
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "seed": SEED,
        **found,
    }  # fmt: skip
    args.to.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for kind, one in found.items():
        print(f"{kind}: {one['cases']} cases, {one.get('read', 0)} read, {one.get('refused', 0)} refused, "
              f"{one.get('failed', 0)} failed; slowest {one['slowest_cpu_seconds']} s")  # fmt: skip
    if any(one["failures"] for one in found.values()):
        sys.exit(f"error: failures, named in {args.to}")


if __name__ == "__main__":
    main()
