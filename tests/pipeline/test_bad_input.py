"""Malformed input of every kind, as tables: each ends in one error that names the culprit and a remedy, changing nothing.

Stages and the command run in this process, as their scripts do, but for a few at the end that run as users run them.
"""

# ruff: noqa: E501  (tables: a case a line)

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import malformed
from adshift import cli
from adshift.data import images
from adshift.detectors import registry
from adshift.errors import AdshiftError
from adshift.project import presets
from adshift.project.stage import run
from malformed import RGB, encoded
from tiny import CLASSES, ROOT, write_tree

GREY = RGB[..., 0]
CLASS = CLASSES[0]
TRAINING, DEFECTIVE = f"raw/{CLASS}/train/good/000.png", f"raw/{CLASS}/test/hole/000.png"
MASK = f"raw/{CLASS}/ground_truth/hole/000_mask.png"


def tree(root: Path) -> dict[str, str]:
    """{path: hash, or a link's target}: what must not change. A folder without a file in it does not count."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = os.fsencode(path.relative_to(root)).decode("utf-8", "backslashreplace")
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            large = path.stat().st_size > 2**30
            found[name] = "large" if large else hashlib.sha256(path.read_bytes()).hexdigest()
        elif not path.is_dir():
            found[name] = "pipe"
    return found


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one small class in MVTec AD's layout."""
    folder = tmp_path_factory.mktemp("template")
    write_tree(folder / "raw", (CLASS,))
    shutil.copy(ROOT / "params.yaml", folder)
    path = folder / "params.yaml"
    text = path.read_text()
    for old, new in (("name: sample ", "name: mvtec "), ("root: src/adshift/data/datasets/sample.py", "root: raw"),
                     ("classes: [hazelnut, carpet, zipper]", f"classes: [{CLASS}]")):  # fmt: skip
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text)
    presets.derive(path)
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder


def ended(main: Callable[[], None], *arguments: str) -> tuple[int, str]:
    """Exit code and message of an entry point, as the shell sees them; an exception would be a traceback there."""
    before = sys.argv
    sys.argv = ["program", *arguments]
    try:
        main()
    except SystemExit as end:
        return (1, end.code) if isinstance(end.code, str) else (int(end.code or 0), "")
    finally:
        sys.argv = before
    return 0, ""


def stage(name: str) -> Callable[[], None]:
    """What `python stages/NAME.py` runs."""
    spec = importlib.util.spec_from_file_location(f"stage_{name}", ROOT / f"stages/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda: run(module.main)


def assert_refused(folder: Path, main: Callable[[], None], *arguments: str, says: str, remedy: str) -> None:
    before = tree(folder)
    code, message = ended(main, *arguments)
    assert code == 1, code or "it was accepted"
    what, _, told = message.partition("\n  remedy: ")
    assert what.startswith("error: ") and re.search(says, what, re.DOTALL), message
    assert re.search(remedy, told), message
    assert len(message) < 3000
    assert tree(folder) == before


# ---------------------------------------------------------------------------------------------------- params.yaml

Edit = Callable[[str], str]


def put(key: str, value: str) -> Edit:
    """Replace the value of the first line of that key."""
    return lambda text: re.sub(rf"(?m)^( *){key}:.*$", lambda found: f"{found[1]}{key}: {value}", text, count=1)


def then(more: str) -> Edit:
    return lambda text: f"{text}\n{more}\n"


def alone(text: str) -> Edit:
    return lambda _: text


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
COMMENTS, CHECKOUT = "its comments say what is allowed", "git checkout params.yaml"
PARAMS: dict[str, tuple[Edit, str, str]] = {
    # what: (the change, what the error says, what it advises)
    "empty file": (alone(""), "expected sections, found NoneType", CHECKOUT),
    "only comments": (alone("# nothing\n"), "expected sections", CHECKOUT),
    "a list in place of sections": (alone("- 1\n- 2\n"), "expected sections, found list", CHECKOUT),
    "a text in place of sections": (alone("hello"), "expected sections, found str", CHECKOUT),
    "bracket left open": (then("x: ["), "cannot be read", CHECKOUT),
    "tab for spaces": (lambda text: text.replace("  name: mvtec", "\tname: mvtec"), "cannot be read.*", CHECKOUT),
    "two documents": (then("---\na: 1"), "cannot be read: expected a single document", CHECKOUT),
    "a key twice": (then("seed: 1"), "cannot be read: while constructing a mapping", CHECKOUT),
    "nested too deep": (alone(f"seed: {'[' * 3000}{']' * 3000}"), "cannot be read: nested too deep", CHECKOUT),
    "nested deep": (put("seed", "[" * 30 + "]" * 30), "seed.*: more than .* levels", COMMENTS),
    "billion laughs": (alone(LAUGHS), "more than 10000 values", COMMENTS),
    "an alias of itself": (alone("seed: &a [*a]\n"), "more than .* 20 levels", COMMENTS),
    "two megabytes": (then("#" * 2_000_000), "larger than 1000000 bytes", CHECKOUT),
    "a directive": (lambda text: f"%YAML 1.1\n---\n{text}", "a line begins with %", CHECKOUT),
    "a Python object": (put("seed", '!!python/object/apply:os.system ["true"]'), "cannot be read", CHECKOUT),
    "an unknown tag": (put("seed", "!secret 3"), "cannot be read: could not determine a constructor", CHECKOUT),
    "a tagged text for a number": (put("seed", "!!int abc"), "cannot be read: invalid literal", CHECKOUT),
    "a month that is not there": (put("seed", "2001-13-45"), "cannot be read: month must be in 1..12", CHECKOUT),
    "a date": (put("seed", "2001-01-01"), "seed: a date ", COMMENTS),
    "a set": (put("classes", "!!set {dots, rings}"), "classes: a set ", COMMENTS),
    "bytes": (put("root", "!!binary cmF3"), "dataset.root: a bytes ", COMMENTS),
    "unknown section": (then("patchcor: {coreset: 0.1}"), "unknown: patchcor", "known are ablation, adapt, align, calibrate"),
    "unknown key": (put("neighbours", "9\n  neighbors: 9"), "neighbors: extra inputs", COMMENTS),
    "a key that is a number": (put("neighbours", "9\n  1: 9"), "patchcore.1: keys should be strings", COMMENTS),
    "a section is missing": (lambda text: text.replace("calibrate:", "calibration:"), "unknown: calibration", "known"),
    "a section is empty": (lambda text: re.sub("(?s)split:.*?\n\n", "split:\n\n", text), "split: .*dictionary", COMMENTS),
    "a number for a section": (put("evaluate", "3\nold:"), "unknown: old", "known are"),
    "true for a number": (put("seed", "true"), "seed: input should be a valid integer", COMMENTS),
    "yes for true": (put("enabled", "yes"), "enabled: input should be a valid boolean.*'yes'", COMMENTS),
    "on for true": (put("enabled", "on"), "enabled: input should be a valid boolean", COMMENTS),
    "one for true": (put("images", "1"), "features.images: input should be a valid boolean", COMMENTS),
    "text for a number": (put("coreset", "'0.05'"), "patchcore.coreset: input should be a valid number", COMMENTS),
    "a fraction for a count": (put("neighbours", "9.5"), "patchcore.neighbours: .*valid integer", COMMENTS),
    "not a number": (put("train_fraction", ".nan"), "split.train_fraction: .*must be finite", COMMENTS),
    "infinity": (put("translation", ".inf"), "shift.geometry.translation: .*must be finite", COMMENTS),
    "infinity, written out": (put("translation", "1e999"), "shift.geometry.translation: .*must be finite", COMMENTS),
    "an endless number": (put("seed", "9" * 5000), "cannot be read: Exceeds the limit", CHECKOUT),
    "a number for no float": (put("train_fraction", "9" * 400), "split.train_fraction: .*too large", COMMENTS),
    "a huge count": (put("epochs", "1" + "0" * 30), "epochs: .* too large", COMMENTS),
    "negative seed": (put("seed", "-1"), "seed: input should be greater than or equal to 0", COMMENTS),
    "negative fraction": (put("coreset", "-0.1"), "patchcore.coreset: .*greater than 0", COMMENTS),
    "a fraction above 1": (put("train_fraction", "80"), "split.train_fraction: .*less than 1", COMMENTS),
    "range the wrong way round": (put("rotation", "[10, -10]"), "rotation: .*the lower end 10.0 lies above", COMMENTS),
    "range of one": (put("brightness", "[0.7]"), "shift.color.brightness.1: field required", COMMENTS),
    "range of three": (put("rotation", "[1, 2, 3]"), "shift.geometry.rotation: ", COMMENTS),
    "an even kernel": (put("kernels", "[4]"), "shift.blur.kernels.0: .*must be odd", COMMENTS),
    "no class": (put("classes", "[]"), "classes: .*at least 1 item", COMMENTS),
    "a text for the list of classes": (put("classes", "dots"), "classes: .*valid tuple.*'dots'", COMMENTS),
    "a class twice": (put("classes", "[dots, dots]"), "classes: .*stands twice", COMMENTS),
    "a class without quotes": (put("classes", "[01]"), "classes.0: input should be a valid string", COMMENTS),
    "a class like an option": (put("classes", '["--force"]'), "classes.0: .*letters, digits and _ only", COMMENTS),
    "a class like a path": (put("classes", '["../dots"]'), "classes.0: .*letters, digits and _ only", COMMENTS),
    "a class like the pooled model": (put("classes", "[unified]"), "classes.0: .*reserved", COMMENTS),
    "a class of 300 letters": (put("classes", f"[{'a' * 300}]"), "classes.0: .*300 characters, at most 100", COMMENTS),
    "a class that is not there": (put("classes", "[rings]"), "classes: rings not found", "choose from dots"),
    "an unknown method": (put("methods", "[patchcor]"), "methods.0: .*'patchcor' is no method: .*patchcore", COMMENTS),
    "an unknown data set": (put("name", "imagenet"), "dataset.name: input should be 'sample'", COMMENTS),
    "a root that is not there": (put("root", "nowhere"), "dataset.root: nowhere does not exist", "set it to the folder"),
    "a root of 900 letters": (put("root", "r" * 900), "dataset.root: r+ does not exist", "set it to the folder"),
    "a root of 2000 letters": (put("root", "r" * 2000), "dataset.root: a text of 2000 characters", COMMENTS),
    "a root with a zero byte": (put("root", '"raw\\0"'), "dataset.root: .*does not exist", "set it to the folder"),
    "a root that is a file": (put("root", "params.yaml"), "dataset.root: params.yaml is no mvtec", "it is to hold CLASS"),
    "a pattern of endless repetition": (put("pattern", "(a){99999999999}"), "pattern: .*no regular expression", COMMENTS),
    "a pattern without a group": (put("pattern", "exp"), "shift.recorded.pattern: .*0 groups", COMMENTS),
    "weights that are not there": (put("weights", "no.pth"), "features.weights: no.pth is not a file", "leave it empty"),
    "weights of a long name": (put("weights", "w" * 900), "features.weights: w+ is not a file", "leave it empty"),
    "a crop larger than the image": (put("crop", "300"), "features.crop is larger than features.resize", "crop at most"),
    "a level that is not there": (put("layers", "[1, 9]\n"), "layers: ", "name three layers|at most|its comments"),
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMS)
def test_params(project: Path, name: str) -> None:
    change, says, remedy = PARAMS[name]
    path = project / "params.yaml"
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    assert_refused(project, stage("check"), says=says, remedy=remedy)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("seed: é\n".encode("latin-1"), "cannot be read: 'utf-8' codec"),
        ("seed: 1\n".encode("utf-16"), "cannot be read: 'utf-8' codec"),
        (b"seed: 1\0\n", "cannot be read: "),
        (None, "cannot be read: .*Is a directory"),
    ],
    ids=["latin-1", "utf-16", "zero byte", "a folder"],
)
def test_params_that_are_no_text(project: Path, content: bytes | None, says: str) -> None:
    path = project / "params.yaml"
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    assert_refused(
        project, stage("check"), says=f"params.yaml: {says}", remedy="correct it, or `git checkout params.yaml`"
    )


def test_the_project_is_fine_as_long_as_nothing_is_malformed(project: Path) -> None:
    """Else every table here would pass for another reason."""
    assert ended(stage("check")) == (0, "")
    assert ended(stage("prepare")) == (0, "")


# ------------------------------------------------------------------------------------------------------- data trees


def copy(source: str, target: str) -> Callable[[Path], object]:
    return lambda root: shutil.copy(root / source, root / target)


def remove(path: str) -> Callable[[Path], object]:
    return lambda root: shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()


def empty(path: str) -> Callable[[Path], object]:
    return lambda root: [one.unlink() for one in (root / path).iterdir()]


def write(path: str, content: bytes) -> Callable[[Path], object]:
    def work(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)

    return work


def loop(path: str) -> Callable[[Path], object]:
    def work(root: Path) -> None:
        (root / path).unlink(missing_ok=True)
        (root / path).symlink_to(Path(path).name)

    return work


def pipe(root: Path) -> None:
    (root / TRAINING).unlink()
    os.mkfifo(root / TRAINING)


def device(root: Path) -> None:
    (root / TRAINING).unlink()
    (root / TRAINING).symlink_to("/dev/zero")


def sparse(root: Path) -> None:
    with (root / TRAINING).open("wb") as file:
        file.truncate(50 * 2**30)


MEND, LAYOUT = "fix the files listed above and run again; nothing was written", "expected is CLASS/train/good"
BASE = f"raw/{CLASS}"
TREES: dict[str, tuple[Callable[[Path], object], str]] = {
    # what: (what is done to the project's folder, what the error says)
    "no training folder": (remove(f"{BASE}/train"), f"class {CLASS} has no normal training images"),
    "a mask without its image": (remove(DEFECTIVE), "hole/000_mask.png: is a mask without its image"),
    "two masks of one image": (copy(MASK, MASK.replace("_mask", "")), "000.png: is a mask without its image"),
    "a mask of another size": (write(MASK, encoded(np.full((60, 64), 255, np.uint8))), "000_mask.png: is 64x60, but"),
    "a mask turned by a quarter": (lambda root: [write(MASK, encoded(np.full((64, 32), 255, np.uint8)))(root),
                                                 write(DEFECTIVE, encoded(RGB[:32]))(root)], "000_mask.png: is 32x64, but"),
    "an image of a link to itself": (loop(TRAINING), "000.png: cannot be read .Too many levels of symbolic links"),
    "a link to nothing": (lambda root: [(root / TRAINING).unlink(), (root / TRAINING).symlink_to("gone.png")],
                          "000.png: cannot be read .No such file"),
    "a folder of a link to itself": (lambda root: [remove(f"{BASE}/train")(root), loop(f"{BASE}/train")(root)],
                                     f"class {CLASS} has no normal training images"),
    "a folder called like an image": (lambda root: (root / BASE / "train/good/x.png").mkdir(), "x.png: a folder among"),
    "a folder among the images": (lambda root: (root / BASE / "train/good/more").mkdir(), "more: a folder among the im"),
    "defects in the training part": (lambda root: (root / BASE / "train/crack").mkdir(), "images of train are normal"),
    "two images of one stem": (copy(TRAINING, TRAINING.replace(".png", ".bmp")), "has the same stem as 000.bmp"),
    "a picture of an unknown kind": (write(f"{BASE}/train/good/a.svg", b"<svg/>"), "a.svg: not an image that is read"),
    "a pipe": (pipe, "000.png: cannot be read .not a plain file"),
    "a device without an end": (device, "000.png: cannot be read .not a plain file"),
    "a file of 50 GB": (sparse, "000.png: cannot be read .more than 1024 MiB"),
    "a new line in a name": (copy(TRAINING, f"{BASE}/train/good/a\nb.png"), "a.nb.png': the name holds a control char"),
    "a carriage return in a name": (copy(TRAINING, f"{BASE}/train/good/a\rb.png"), "a.rb.png': the name holds a contr"),
    "an escape in a name": (copy(TRAINING, f"{BASE}/train/good/\x1b[2J.png"), "x1b.2J.png': the name holds a control"),
    "a name that is no UTF-8": (lambda root: shutil.copy(root / TRAINING, os.fsencode(root / BASE) + b"/train/good/\xff.png"),
                                "udcff.png': the name is not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", TREES)
def test_trees(project: Path, name: str) -> None:
    work, says = TREES[name]
    work(project)
    assert_refused(project, stage("prepare"), says=says, remedy=f"{MEND}; {LAYOUT}")


def test_names_that_look_odd_and_do_no_harm(project: Path) -> None:
    """Options, markup, other alphabets, 200 letters: names as any other."""
    names = [
        "-rf",
        "--help",
        "<img src=x onerror=alert(1)>",
        "a b",
        "%s{}",
        "$(reboot)",
        "ä漢字",
        "n" * 200,
        "a,b",
        'q"q',
    ]
    for name in names:
        shutil.copy(TRAINING, f"{BASE}/train/good/{name}.png")
    assert ended(stage("prepare")) == (0, "")
    from adshift.data import manifest

    found = {item.name for item in manifest.read(manifest.path_of("mvtec", CLASS, "clean"))}
    assert {f"train/good/{name}" for name in names} <= found


def test_a_folder_that_may_not_be_looked_into(tmp_path_factory: pytest.TempPathFactory) -> None:
    from adshift.data import listing

    class Closed(type(Path())):  # type: ignore[misc]
        def iterdir(self) -> Any:
            raise PermissionError(13, "Permission denied")

    closed = Closed(tmp_path_factory.mktemp("closed"))
    for work in (listing.folders_in, listing.Listing().files_in, listing.Listing().files_below):
        with pytest.raises(
            AdshiftError, match=r"cannot be read \(Permission denied\)\n  remedy: change its permissions"
        ):
            work(closed)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(RGB))

    def closed(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", closed)
    with pytest.raises(
        AdshiftError, match=r"a.png: cannot be read \(Permission denied\)\n  remedy: .*change its permissions"
    ):
        images.read_image(path)


# ----------------------------------------------------------------------------------------------- images and masks

SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><rect width="8"/></svg>'
NO_IMAGE, DAMAGED, LARGE = r"not an image \(\d+ bytes\)", "damaged or truncated", "more than 100 megapixels"
IMAGES: dict[str, tuple[bytes, str]] = {
    # what: (the file's bytes, what the error says behind its name)
    "zero bytes": (b"", NO_IMAGE),
    "a text": (b"not an image", NO_IMAGE),
    "only a signature": (b"\x89PNG\r\n\x1a\n", f"{NO_IMAGE}|{DAMAGED}"),
    "PNG cut in half": (encoded(RGB)[:6000], DAMAGED),
    "JPEG cut in half": (encoded(RGB, "JPEG")[:1500], DAMAGED),
    "BMP cut in half": (encoded(RGB, "BMP")[:6000], DAMAGED),
    "TIFF cut in half": (encoded(RGB, "TIFF")[:6000], f"{NO_IMAGE}|{DAMAGED}"),
    "WebP cut in half": (encoded(RGB, "WEBP")[:1500], f"{NO_IMAGE}|{DAMAGED}"),
    "PNG with a wrong checksum": (encoded(RGB).replace(b"IDAT", b"IDAT", 1)[:-20] + bytes(20), DAMAGED),
    "PNG without data": (malformed.png(8, 8), DAMAGED),
    "PNG of no width": (malformed.png(0, 8), f"{NO_IMAGE}|{DAMAGED}"),
    "PNG of an unknown depth": (malformed.png(8, 8, depth=7), f"{NO_IMAGE}|{DAMAGED}"),
    "SVG": (SVG, NO_IMAGE),
    "GIF": (encoded(RGB, "GIF"), NO_IMAGE),
    "animated GIF": (malformed.frames("GIF"), NO_IMAGE),
    "animated PNG": (malformed.frames("PNG"), "holds 2 images, not one"),
    "animated WebP": (malformed.frames("WEBP"), "holds 2 images, not one"),
    "TIFF of two pages": (malformed.frames("TIFF"), "holds 2 images, not one"),
    "PostScript, which starts a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", NO_IMAGE),
    "floating point": (encoded(GREY.astype(np.float32), "TIFF"), "has floating-point pixels"),
    "PNG of 25 GB": (malformed.large_png(), LARGE),
    "BMP of 10 GB": (malformed.large_bmp(), LARGE),
    "JPEG of 12 GB": (malformed.large_jpeg(), LARGE),
    "TIFF of 30 GB": (malformed.large_tiff(), LARGE),
    "WebP of 800 MB": (malformed.large_webp(), LARGE),
    "a comment of 100 MB": (malformed.text_bomb(), DAMAGED),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images(project: Path, name: str) -> None:
    """Whatever the name's ending says: what is in the file decides."""
    content, says = IMAGES[name]
    (project / TRAINING).write_bytes(content)
    assert_refused(project, stage("prepare"), says=f"{TRAINING}: ({says})", remedy=MEND)


MASKS: dict[str, tuple[bytes, str]] = {
    "black": (encoded(np.zeros((64, 64), np.uint8)), "marks no pixel of a defective image"),
    "zero bytes": (b"", NO_IMAGE),
    "cut in half": (encoded(RGB)[:6000], DAMAGED),
    "floating point": (encoded(np.ones((64, 64), np.float32), "TIFF"), "has floating-point pixels"),
    "animated": (malformed.frames("PNG"), "holds 2 images, not one"),
    "of 25 GB": (malformed.large_png(), LARGE),
    "one pixel": (encoded(np.full((1, 1), 255, np.uint8)), "is 1x1, but its image"),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks(project: Path, name: str) -> None:
    content, says = MASKS[name]
    (project / MASK).write_bytes(content)
    assert_refused(project, stage("prepare"), says=f"{MASK}: ({says})", remedy=MEND)


def with_orientation() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    return encoded(RGB, "PNG", exif=exif)


PALETTE = Image.fromarray(GREY).convert("P")
GREYS = np.repeat(GREY[..., None], 3, axis=2)
READ: dict[str, tuple[bytes, np.ndarray]] = {
    # what: (a file that is odd, and what is read from it)
    "1 x 1": (encoded(RGB[:1, :1]), RGB[:1, :1]),
    "1 x 64": (encoded(RGB[:1]), RGB[:1]),
    "grey": (encoded(GREY), GREYS),
    "16 bits": (encoded(GREY.astype(np.uint16) * 257), GREYS),
    "one bit": (encoded(Image.fromarray(GREY > 99)), np.repeat(np.where(GREY > 99, 255, 0)[..., None], 3, axis=2)),
    "palette": (encoded(PALETTE), GREYS),
    "alpha": (encoded(np.dstack([RGB, GREY])), RGB),
    "grey and alpha": (encoded(np.dstack([GREY, 255 - GREY])), GREYS),
    "CMYK": (encoded(Image.fromarray(RGB).convert("CMYK"), "TIFF"), RGB),
    "orientation in EXIF, which masks do not follow": (with_orientation(), RGB),
}


@pytest.mark.parametrize("name", READ)
def test_odd_images_that_are_read(name: str) -> None:
    content, expected = READ[name]
    np.testing.assert_array_equal(images.decode_image(content, "a.png"), expected)


def test_odd_masks_that_are_read() -> None:
    whole = images.decode_mask(encoded(np.full((8, 8), 255, np.uint8)), "white.png")
    assert whole.shape == (8, 8) and whole.all()
    soft = np.array([[0, 10, 127, 128, 255]], np.uint8)  # anti-aliased
    assert images.decode_mask(encoded(soft), "soft.png").tolist() == [[False, False, False, True, True]]
    red = np.where((GREY > 99)[..., None], (255, 0, 0), 0).astype(np.uint8)
    np.testing.assert_array_equal(images.decode_mask(encoded(red), "red.png"), GREY > 99)


# ----------------------------------------------------------------------------------------------------------- models

FIT: dict[str, dict[str, Any]] = {
    "patchcore": {"layers": [2, 3], "pool": 3, "stride": 1, "projection": 8, "coreset": 0.5, "chunk_patches": None,
                  "metric": "euclidean", "index": "hnsw"},
    "patchcore_pq": {"layers": [2, 3], "pool": 3, "stride": 1, "projection": None, "coreset": 0.5,
                     "chunk_patches": None, "metric": "euclidean", "bytes": 8},
    "padim_streaming": {"layers": [1, 2], "n_features": 10, "regularisation": 0.01},
    "padim_diagonal": {"layers": [1, 2], "n_features": 10, "regularisation": 0.01},
    "cfa": {"layers": [2, 3], "neighbours": 2, "hard_negatives": 2, "radius": 1e-5, "epochs": 1, "batch": 5,
            "learning_rate": 1e-3},
    "paste": {"layers": [2, 3], "shared": 1, "epochs": 1, "batch": 5, "learning_rate": 0.1},
    "stfpm": {"layers": [1, 2], "epochs": 1, "batch": 5, "learning_rate": 0.1},
}  # fmt: skip
SHAPES = {0: (32, 32, 3), 1: (8, 8, 24), 2: (4, 4, 40), 3: (2, 2, 112)}  # of the backbone's layers on 32 pixels


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound model of each method in a folder of its name."""
    from adshift.features.store import Features

    folder, generator = tmp_path_factory.mktemp("models"), np.random.default_rng(0)
    maps = {level: generator.integers(0, 255, (5, *shape)).astype(np.uint8) for level, shape in SHAPES.items()}
    layers = [{"name": f"blocks.{block}", "shape": list(SHAPES[level])} for level, block in ((1, 1), (2, 2), (3, 4))]
    spec = {"backbone": "tf_efficientnet_lite0", "size": 32, "layers": layers,
            "preprocessing": {"mean": [0.5] * 3, "std": [0.5] * 3}}  # fmt: skip
    features = Features.of([f"train/good/{i}" for i in range(5)], maps, spec)
    for method, settings in FIT.items():
        detector = registry.detector_class(method)(registry.schemas(method)["fit"].of(settings))
        detector.fit(features, np.random.default_rng(1))
        detector.save(folder / method)
        registry.detector_class(method).load(folder / method)
    return folder


Change = Callable[[dict[str, Any], dict[str, np.ndarray]], None]


def record(key: str, value: Any) -> Change:
    """Set a dotted key of model.json."""

    def change(found: dict[str, Any], _: dict[str, np.ndarray]) -> None:
        *parents, last = key.split(".")
        place: Any = found
        for part in parents:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if value is ...:
            del place[last]
        else:
            place[int(last) if isinstance(place, list) else last] = value

    return change


def array(name: str, work: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda _, arrays: arrays.__setitem__(name, work(arrays[name]))


def without(name: str) -> Change:
    return lambda _, arrays: arrays.__delitem__(name)


def entry(place: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def work(found: np.ndarray) -> np.ndarray:
        found = found.copy()
        found.flat[place] = value
        return found

    return work


def narrower(found: np.ndarray) -> np.ndarray:
    return found[..., :-1]


def doubled(found: np.ndarray) -> np.ndarray:
    return found.astype(np.float64)


BN = "bn1.running_var"
MODELS: dict[str, tuple[str, Change, str]] = {
    # what: (method, the change behind which all else is made to fit, what the error says)
    "another method's": ("patchcore", record("method", "padim"), "no patchcore model.*padim of format 1"),
    "another format": ("patchcore", record("format", 99), "of format 99"),
    "no settings": ("patchcore", record("settings", ...), "KeyError.*settings"),
    "settings of a wrong type": ("patchcore", record("settings.pool", "3"), "no patchcore model"),
    "no features": ("patchcore", record("features", []), "KeyError.*size"),
    "a size of nothing": ("patchcore", record("features.size", 0), "size 0: expected 1 to 2048"),
    "a size of a billion": ("patchcore", record("features.size", 10**9), "size 1000000000: expected"),
    "a size that is true": ("patchcore", record("features.size", True), "size True: expected"),
    "no layers": ("patchcore", record("features.layers", []), "layers: expected a list of 1 to 100"),
    "a layer of a billion rows": ("cfa", record("features.layers.1.shape", [10**9, 4, 40]), "a layer of shape"),
    "a layer of negative sides": ("cfa", record("features.layers.1.shape", [-4, -4, 40]), "a layer of shape"),
    "a layer without a shape": ("cfa", record("features.layers.1", {"name": "x"}), "KeyError.*shape"),
    "a level beyond the layers": ("patchcore", record("settings.layers", [2, 9]), "a level beyond the 3 layers"),
    "a backbone from a hub": ("stfpm", record("features.backbone", "hf-hub:evil/net"), "backbone 'hf-hub:evil/net'"),
    "a backbone that is a path": ("stfpm", record("features.backbone", "../../net"), "backbone '../../net'"),
    "a backbone that is not there": ("stfpm", record("features.backbone", "resnet18000"), "no student of 'resnet18000'"),
    "another backbone": ("stfpm", record("features.backbone", "tf_efficientnet_lite2"), "no student of .*lite2"),
    "another layer's name": ("paste", record("features.layers.1.name", "blocks.99"), "blocks.99"),
    "no array": ("patchcore", without("bank"), "arrays are not those of its settings.*bank"),
    "an array too many": ("patchcore", lambda _, a: a.update(x=np.zeros(3)), "not those of its settings: x"),
    "a bank of another width": ("patchcore", array("bank", narrower), "bank is float32 .*, expected float32 .any, 152"),
    "a bank without rows": ("patchcore", array("bank", lambda a: a[:0]), "bank is float32 .0, 152., expected"),
    "a bank of one dimension": ("patchcore", array("bank", np.ravel), "bank is float32 .*expected float32 .any, 152"),
    "a bank in float64": ("patchcore", array("bank", doubled), "bank is float64"),
    "a bank with NaN": ("patchcore", array("bank", entry(3, np.nan)), "holds NaN or infinity"),
    "a bank with infinity": ("patchcore", array("bank", entry(3, np.inf)), "holds NaN or infinity"),
    "fewer picks than rows": ("patchcore", array("picks", narrower), "picks is int64"),
    "a pick twice": ("patchcore", array("picks", lambda a: entry(1, a[0])(a)), "picks are not"),
    "a negative pick": ("patchcore", array("picks", entry(0, -1)), "picks are not"),
    "a pick beyond the patches": ("patchcore", array("picks", entry(0, 10**9)), "picks are not"),
    "a negative radius": ("patchcore", array("radii", entry(0, -1)), "a radius is negative"),
    "a projection of another size": ("patchcore", array("projection", narrower), "projection is float32"),
    "a graph that leads out": ("patchcore", array("graph.neighbors", entry(0, 10**6)), "graph of the index does not fit"),
    "a graph in floats": ("patchcore", array("graph.levels", doubled), "graph.levels is float64"),
    "a graph without a start": ("patchcore", array("graph.entry", lambda a: a[:1]), "graph of the index does not fit"),
    "no graph": ("patchcore", without("graph.levels"), "not those of its settings: graph.levels"),
    "codes of another width": ("patchcore_pq", array("codes", narrower), "codes and codebooks do not fit"),
    "codes without rows": ("patchcore_pq", array("codes", lambda a: a[:0]), "do not fit together"),
    "codebooks of another number": ("patchcore_pq", array("codebooks", lambda a: a[1:]), "do not fit together"),
    "dimensions of nothing": ("patchcore_pq", array("dimensions", lambda a: a * 0), "do not fit together"),
    "a trillion dimensions": ("patchcore_pq", array("dimensions", lambda a: a * 0 + 10**12), "do not fit together"),
    "dimensions that are a list": ("patchcore_pq", array("dimensions", lambda a: np.repeat(a, 2)), "no sound quantized"),
    "the features' width, but not the codes'": ("patchcore_pq", record("features.layers.1.shape", [4, 4, 41]),
                                                "152 dimensions, its layers have 153"),
    "a negative channel": ("padim_streaming", array("channels", entry(0, -1)), "channels are not 10 of 64"),
    "a channel out of range": ("padim_streaming", array("channels", entry(0, 64)), "channels are not 10 of 64"),
    "a channel twice": ("padim_streaming", array("channels", lambda a: entry(1, a[0])(a)), "channels are not 10 of 64"),
    "channels in floats": ("padim_streaming", array("channels", doubled), "channels is float64"),
    "fewer positions": ("padim_streaming", array("mean", lambda a: a[1:]), "mean is float32 .63, 10., expected"),
    "half a covariance": ("padim_streaming", array("inverse_covariance", narrower), "inverse_covariance is float32"),
    "a negative variance": ("padim_streaming", array("inverse_covariance", entry(0, -1)), "variance that is not posit"),
    "a variance of nothing": ("padim_streaming", array("inverse_covariance", entry(54, 0)), "variance that is not posit"),
    "an infinite variance": ("padim_streaming", array("inverse_covariance", entry(1, np.inf)), "NaN or infinity"),
    "negative deviation": ("padim_diagonal", array("inverse_deviation1", entry(0, -1)), "inverse_deviation1 is not posi"),
    "a level's means missing": ("padim_diagonal", without("mean2"), "not those of its settings: mean2"),
    "diagonal: a channel out of range": ("padim_diagonal", array("channels", entry(0, 64)), "is|channels are not"),
    "diagonal: a channel twice": ("padim_diagonal", array("channels", np.zeros_like), "is float32"),
    "diagonal: no channels": ("padim_diagonal", without("channels"), "not those of its settings: channels"),
    "a descriptor of another width": ("cfa", array("weight", narrower), "weight is float32"),
    "a descriptor without bias": ("cfa", without("bias"), "not those of its settings: bias"),
    "a bank of fewer positions": ("cfa", array("bank", lambda a: a[1:]), "bank is float32 .15, 152., expected"),
    "a student's layer missing": ("stfpm", without("conv_stem.weight"), "no student of .*conv_stem.weight"),
    "a student's layer of another shape": ("stfpm", array("conv_stem.weight", lambda a: a[1:]), "no student of .*size mism"),
    "a student's negative variance": ("stfpm", array(BN, lambda a: a - 9), "bn1.running_var: a negative variance"),
    "a shared layer that is not there": ("paste", record("settings.shared", 9), "no paste model"),
}  # fmt: skip


def scored(project: Path, models: Path, method: str) -> tuple[Path, Callable[[], None], list[str]]:
    """A model in the place where the stage `score` loads it, that stage, and its arguments."""
    folder = project / f"data/fitted/mvtec/{method}/{CLASS}/clean"
    shutil.copytree(models / method, folder)
    return (
        folder,
        stage("score"),
        ["--dataset", "mvtec", "--method", method, "--model", CLASS, "--domains", "clean"],
    )


REFIT = "fit it again with `dvc repro`, or fetch it with `dvc pull`"


@pytest.mark.parametrize("name", MODELS)
def test_models(project: Path, models: Path, name: str) -> None:
    method, change, says = MODELS[name]
    folder, main, arguments = scored(project, models, method)
    malformed.rewrite(folder, change)
    assert_refused(project, main, *arguments, says=f"data/fitted/mvtec/{method}.*({says})", remedy=REFIT)


def header(text: bytes, rest: bytes = b"") -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + rest)


TRILLION = b'{"bank":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'


def claims(shape: Any, dtype: Any = "float32") -> Callable[[Path], object]:
    """model.json says so of the bank, model.safetensors does not."""

    def work(folder: Path) -> None:
        found = json.loads((folder / "model.json").read_text())
        found.pop("checksum")
        found["arrays"]["bank"] = {"shape": shape, "dtype": dtype}
        (folder / "model.json").write_text(json.dumps(found))

    return work


def grown(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(40 * 2**30)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a trillion elements in the file": (header(TRILLION), "bytes, but model.json speaks of|not readable"),
    "a trillion elements in both": (lambda folder: [claims([10**6, 10**6])(folder), header(TRILLION)(folder)],
                                    "bytes, but model.json speaks of"),
    "a trillion elements in model.json": (claims([10**12]), "but model.json speaks of arrays of 4000000"),
    "more elements than memory has names for": (claims([10**300, 10**300]), "but model.json speaks of"),
    "a negative shape": (claims([-1, 152]), "an array of type float32 and shape"),
    "a shape of text": (claims("152"), "an array of type float32 and shape"),
    "an unknown type": (claims([1], "object"), "an array of type object"),
    "a file of 40 GB": (grown, "bytes, but model.json speaks of"),
    "a header of 10^18 bytes": (lambda folder: (folder / "model.safetensors").write_bytes(
        (10**18).to_bytes(8, "little") + bytes(100_000)), "not readable|speaks of"),
    "no arrays": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors: not readable .No such"),
    "no record": (lambda folder: (folder / "model.json").unlink(), "model.json: not readable .No such file"),
    "an empty record": (lambda folder: (folder / "model.json").write_text(""), "model.json: not readable"),
    "a record nested too deep": (lambda folder: (folder / "model.json").write_text("[" * 100_000), "not readable"),
    "a record of 20 MB": (lambda folder: (folder / "model.json").write_text(" " * 20_000_000), "larger than"),
    "a record that is a list": (lambda folder: (folder / "model.json").write_text("[]"), "no patchcore model"),
    "a pickle": (lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR." * 9000),
                 "not readable|speaks of"),
    "a flipped bit": (lambda folder: (folder / "model.safetensors").write_bytes(
        (data := (folder / "model.safetensors").read_bytes())[:-1] + bytes([data[-1] ^ 1])), "damaged, its content"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files_of_models(project: Path, models: Path, name: str) -> None:
    work, says = FILES[name]
    folder, main, arguments = scored(project, models, "patchcore")
    work(folder)
    assert_refused(project, main, *arguments, says=says, remedy=f"{REFIT}|run `dvc repro` again")


# ---------------------------------------------------------------------------------------------------- command lines

USAGE: dict[str, tuple[list[str], str]] = {
    # what: (arguments, what argparse says); the exit code is 2, as of every command's wrong usage
    "no command": ([], "the following arguments are required: COMMAND"),
    "an unknown command": (["train"], "invalid choice: 'train'"),
    "an unknown option": (["check", "--fast"], "unrecognized arguments: --fast"),
    "a preset without its name": (["preset"], "the following arguments are required: name"),
    "an unknown preset": (["preset", "imagenet"], "invalid choice: 'imagenet'"),
    "an option without its value": (["preset", "mvtec", "--data-root"], "--data-root: expected one argument"),
    "jobs that are no number": (["repro", "--jobs", "two"], "--jobs: invalid int value: 'two'"),
    "a data set that nobody gives": (["fetch", "sample"], "invalid choice: 'sample'"),
    "nothing to compare": (["compare"], "the following arguments are required: DIR"),
    "a study without a verb": (["study"], "the following arguments are required: VERB"),
}
COMMANDS: dict[str, tuple[list[str], str, str]] = {
    # what: (arguments, what the error says, what it advises)
    "no jobs": (["repro", "--jobs", "0"], "--jobs 0", "at least 1"),
    "negative jobs": (["study", "run", "x", "--jobs", "-1"], "--jobs -1", "at least 1"),
    "an unknown cluster": (["repro", "--cluster", "grid"], "--cluster grid: not known", "tcp://HOST:PORT, local:N"),
    "a study on one": (["study", "run", "x", "--cluster", "local:no"], "--cluster local:no: ", "local:4|pip install"),
    "a preset without images": (["preset", "mvtec"], "preset mvtec: which images", "--data-root DIR"),
    "a folder for what is made": (["preset", "sample", "--data-root", "raw"], "--data-root raw: the sample's", "leave"),
    "a folder that is not there": (["preset", "mvtec", "--data-root", "gone"], "gone does not exist", "set it to"),
    "a folder of something else": (
        ["preset", "btad", "--data-root", "raw"],
        "raw is no btad data set",
        "it is to hold",
    ),
    "a study that is not there": (["study", "table", "none"], "studies/none.yaml: not there", "one of|write it"),
    "a study outside": (["study", "table", "../params"], "studies/../params.yaml: ", "one of|docs/studies.md"),
    "a run that is no run": (["compare", "raw"], "raw", "."),
    "no summary": (["summary"], "metrics/summary.json: not there", "run `dvc repro` first"),
    "an unknown backbone": (["backbones", "resnet18000"], "timm has no resnet18000", "ours: "),
}


@pytest.mark.parametrize("name", USAGE)
def test_usage(project: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    arguments, says = USAGE[name]
    before = tree(project)
    code, _ = ended(cli.main, *arguments)
    shown = capsys.readouterr().err
    assert code == 2 and says in shown and shown.startswith("usage: adshift")
    assert tree(project) == before


@pytest.mark.parametrize("name", COMMANDS)
def test_commands(project: Path, name: str) -> None:
    arguments, says, remedy = COMMANDS[name]
    assert_refused(project, cli.main, *arguments, says=says, remedy=remedy)


def test_threads_that_are_no_number(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADSHIFT_THREADS", "many")
    assert_refused(project, stage("prepare"), says="ADSHIFT_THREADS='many' is no whole number", remedy="set it to")


def test_a_method_that_is_not_there(project: Path) -> None:
    arguments = ("--dataset", "mvtec", "--method", "../x", "--model", CLASS, "--domains", "clean")
    assert_refused(
        project, stage("score"), *arguments, says="method '../x' is unknown", remedy="choose from .*patchcore"
    )


# ------------------------------------------------------------------------------------------ as a shell runs them


@pytest.mark.parametrize(
    ("command", "damage", "code", "says"),
    [
        (["-m", "adshift.cli", "nothing"], None, 2, "invalid choice: 'nothing'"),
        (["-m", "adshift.cli", "check"], ("params.yaml", b"seed: ["), 1, "error: params.yaml: cannot be read"),
        ([str(ROOT / "stages/prepare.py")], (TRAINING, malformed.large_png()), 1, LARGE),
        ([str(ROOT / "stages/check.py")], ("params.yaml", LAUGHS.encode()), 1, "more than 10000 values"),
    ],
    ids=["usage", "params", "image", "laughs"],
)
def test_processes(project: Path, command: list[str], damage: tuple[str, bytes] | None, code: int, says: str) -> None:
    if damage:
        (project / damage[0]).write_bytes(damage[1])
    before = tree(project)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *command], check=False, cwd=project, env=environment, capture_output=True, text=True
    )
    assert done.returncode == code
    assert says in done.stderr and "Traceback" not in done.stderr + done.stdout
    assert tree(project) == before
