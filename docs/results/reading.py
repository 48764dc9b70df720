"""How files are read, before and after the change of how they are read: one figure for each kind of mistake.

Run from the repository's root, in a clone that has the commit BEFORE; a minute:

    python docs/results/reading.py

writes reading.json beside this script and the table of docs/datasets.md. Images, masks and weights are drawn here. The
code of BEFORE is taken from git into a temporary folder and measured in a process of its own, like the present code.
"""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
BEFORE = "d6acb87"
DRAWS = 200  # of tiny defects
RIGHT = {
    "1 grey label beside a white one, PNG: pixels": 2801,
    "1 grey label beside a white one, JPEG: pixels": 2801,
    "1 blue and red labels, one dark: pixels of the dark one": 2801,
    "2 mask in the alpha channel: share of the image": 0.043,
    "2 inverted mask among four: warnings that name it": 1,
    "3 defect of 3 x 3 pixels in 2048, at 224: share of draws that keep it": 1.0,
    "4 12 bits in a 16-bit file: grey levels": 256,
    "4 8 bits in an int32 TIFF: largest value read": 255,
    "5 ten images and copies that a system left: images counted": 10,
    "6 ten images, one twice: images counted": 10,
    "7 class in the metadata of a model in a renamed folder": "hazelnut",
    "8 masks and images of one name, composed and decomposed: defects with their mask": 1,
    "9 verdict 0 with a name that ASCII lacks: exit code": 0,
    "10 one training image for PaDiM: exit code of the stage check": 1,
    "11 images in a folder `validation`, and a stray file beside them: images read": 2,
    "12 ResNet-18 without layer 4: result": "loaded",
    "13 adshift repro in a subfolder: messages that say where to run it": 1,
}


def main() -> None:
    if sys.argv[1:] == ["measure"]:
        print(json.dumps(measured()))
        return
    with tempfile.TemporaryDirectory() as folder:
        trees = [Path(folder, name) for name in ("before", "after")]
        for tree, commit in zip(trees, (BEFORE, "HEAD"), strict=True):
            archive = subprocess.run(["git", "archive", commit], check=True, capture_output=True).stdout
            tree.mkdir()
            subprocess.run(["tar", "x", "-C", str(tree)], input=archive, check=True)
        before, after = (figures(tree) for tree in trees)
    record = {
        "before": BEFORE,
        "figures": {
            name: {"before": before[name], "after": after[name], "right": right} for name, right in RIGHT.items()
        },
    }
    (HERE / "reading.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    rows = [f"| {name} | {before[name]} | {after[name]} | {right} |" for name, right in RIGHT.items()]
    table = "\n".join(["| what | before | after | right |", "| --- | --- | --- | --- |", *rows, ""])
    page = HERE.parent / "datasets.md"
    text = re.sub(r"(<!-- reading -->\n).*(<!-- end -->)", lambda marks: marks[1] + table + marks[2],
                  page.read_text(encoding="utf-8"), flags=re.DOTALL)  # fmt: skip
    page.write_text(text, encoding="utf-8")


def figures(tree: Path) -> dict[str, Any]:
    """What `measured` finds with the code of a commit's tree."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "TREE": str(tree)}
    done = subprocess.run([sys.executable, __file__, "measure"], env=environment, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def measured() -> dict[str, Any]:
    """Every figure of RIGHT, with the code on the path."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        results = [value for part in PARTS for value in part(Path(folder))]
    return dict(zip(RIGHT, results, strict=True))


def saved(path: Path, array: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def masks(folder: Path) -> list[Any]:
    from adshift.data import images

    y, x = np.mgrid[:256, :256]
    grey, white = np.hypot(y - 60, x - 60) < 29.9, np.hypot(y - 180, x - 180) < 40
    values = np.where(white, 255, np.where(grey, 100, 0)).astype(np.uint8)
    color = np.zeros((256, 256, 3), np.uint8)
    color[grey], color[white] = (0, 0, 90), (255, 30, 0)
    marked = [saved(folder / "m.png", values), saved(folder / "m.jpg", values), saved(folder / "c.png", color)]
    found = [int((images.read_mask(path) & grey).sum()) for path in marked]
    alpha = np.dstack([np.full((256, 256, 3), 255, np.uint8), np.where(grey, 255, 0).astype(np.uint8)])
    return [*found, round(float(images.read_mask(saved(folder / "a.png", alpha)).mean()), 3)]


def data_set(folder: Path) -> list[Any]:
    from adshift.data import datasets, images

    try:
        from adshift.data.geometry import fit
    except ImportError:  # before it moved
        fit = images.fit  # type: ignore[attr-defined]
    root, generator = folder / "root", np.random.default_rng(0)
    for part, count in (("train/good", 2), ("test/good", 2), ("test/cut", 4), ("ground_truth/cut", 4)):
        for index in range(count):
            mask = np.zeros((32, 32), np.uint8)
            mask[4:9, 4:9] = 255
            picture = generator.integers(0, 256, (32, 32, 3), np.uint8)
            array = picture if "ground" not in part else 255 - mask if index == 2 else mask
            saved(root / "nut" / part / f"{index}.png", array)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        datasets.build("mvtec", str(root), ["nut"], folder / "not-used")
    named = sum("ground_truth/cut/2.png" in str(one.message) for one in told)
    kept = 0
    for _ in range(DRAWS):
        row, column = generator.integers(0, 2045, 2)
        mask = np.zeros((2048, 2048), bool)
        mask[row : row + 3, column : column + 3] = True
        kept += bool(fit(mask, 224).any())
    shutil.rmtree(root)
    for index, part in enumerate(("train/good", "test/good", "test/cut")):
        ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
        saved(root / "nut" / part / f"{index}.tif", ramp)
    saved(root / "nut/ground_truth/cut/2.png", np.eye(64, dtype=np.uint8) * 255)
    [item, *_] = datasets.build("mvtec", str(root), ["nut"], folder / "not-used")["nut"]
    levels = len(np.unique(images.load_image(item)))
    for path in root.rglob("*.tif"):
        saved(path, np.arange(4096, dtype=np.int32).reshape(64, 64) % 256)
    [item, *_] = datasets.build("mvtec", str(root), ["nut"], folder / "not-used")["nut"]
    return [named, kept / DRAWS, levels, int(images.load_image(item).max())]


def files(folder: Path) -> list[Any]:
    from adshift.data import image_files
    from adshift.deploy import export

    ten = folder / "ten"
    for index in range(10):
        saved(ten / f"{index}.png", np.full((4, 4), 20 * index + 5, np.uint8))
    for index in range(10):
        saved(ten / "@eaDir" / f"{index}.png" / "thumbnail.png", np.full((2, 2), index, np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counted = len(image_files.images([str(ten)]))
        shutil.rmtree(ten / "@eaDir")
        shutil.copy(ten / "3.png", ten / "again.png")
        once = len(image_files.images([str(ten)]))
    model = folder / "line-7" / "copy"
    model.mkdir(parents=True)
    (model / "model.json").write_text('{"method": "padim"}')
    (model / "card.json").write_text('{"model": {"class": "hazelnut", "domain": "clean"}}')
    if hasattr(export, "fitted_on"):
        about = export.fitted_on(model)
    else:  # before
        spec = {
            "preprocessing": {"resize": 224, "crop": None},
            "size": 224,
            "backbone": "b",
            "weights": {"sha256": "0"},
        }
        about = export._metadata(model, SimpleNamespace(spec=spec, settings={}), {})  # type: ignore[attr-defined]
    return [counted, once, about["class"], *names(folder / "names")]


def names(folder: Path) -> list[Any]:
    """Of one image and its mask, whose names differ in Unicode's normal form."""
    from unicodedata import normalize

    from adshift.data import datasets
    from adshift.errors import AdshiftError

    picture = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    for part in ("train/good", "test/good"):
        saved(folder / "nut" / part / "0.png", picture)
    saved(folder / "nut/test/cut" / normalize("NFC", "gr\u00f6\u00dfe.png"), picture)
    saved(
        folder / "nut/ground_truth/cut" / normalize("NFD", "gr\u00f6\u00dfe_mask.png"), np.eye(32, dtype=np.uint8) * 255
    )
    try:
        items = datasets.build("mvtec", str(folder), ["nut"], folder / "not-used")["nut"]
    except AdshiftError:
        return [0]
    return [sum(item.anomalous and item.mask is not None for item in items)]


def command(folder: Path) -> list[Any]:
    script = (
        "import sys; from adshift import cli\n"
        "cli._main = lambda: (print('gr\\u00f6\\u00dfe \\u25cf'), sys.exit(0))\n"
        "sys.argv = ['adshift']; cli.main()\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=folder, capture_output=True, check=False)
    return [done.returncode]


def weights(folder: Path) -> list[Any]:
    from safetensors.torch import save_file

    from adshift.errors import AdshiftError
    from adshift.features.backbones import Backbone, untrained
    from adshift.features.settings import Features

    kept = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.")
    state = {name: one for name, one in untrained("resnet18").state_dict().items() if name.startswith(kept)}
    save_file({name: one for name, one in state.items() if "num_batches" not in name}, folder / "w.safetensors")
    chosen = {**FEATURES, "backbone": "resnet18", "weights": str(folder / "w.safetensors")}
    try:
        Backbone(Features(**{name: value for name, value in chosen.items() if name in Features.model_fields}))
    except AdshiftError:
        return ["refused"]
    return ["loaded"]


def project(folder: Path) -> list[Any]:
    """In a copy of the tree, on one training image."""
    tree, picture = folder / "project", np.random.default_rng(2)
    shutil.copytree(os.environ["TREE"], tree, ignore=shutil.ignore_patterns("src", "docs", "tests"))
    for part, count in (("train/good", 1), ("test/good", 4), ("test/cut", 4)):
        for index in range(count):
            saved(folder / "set/nut" / part / f"{index}.png", picture.integers(0, 256, (64, 64, 3), np.uint8))
            if part == "test/cut":
                saved(folder / "set/nut/ground_truth/cut" / f"{index}_mask.png", np.eye(64, dtype=np.uint8) * 255)
    run = [sys.executable, "-c", "from adshift import cli; cli.main()"]

    def code(command: list[str], where: Path = tree) -> tuple[int, str]:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    code([*run, "preset", "mvtec", "--data-root", str(folder / "set")])
    params = tree / "params.yaml"
    text = params.read_text(encoding="utf-8").replace("protocol: study", "protocol: official", 1)
    params.write_text(text, encoding="utf-8")
    refused, _ = code([sys.executable, "stages/check.py"])
    _, told = code([*run, "repro"], tree / "stages")
    return [refused, validation(folder / "val"), *weights(folder), int(str(tree) in told)]


def validation(folder: Path) -> int:
    """Images that are read of a folder `validation` with two, and a file that is none."""
    from adshift.data import datasets
    from adshift.errors import AdshiftError

    picture = np.random.default_rng(3)
    for part, count in (("train/good", 2), ("validation/good", 2), ("test/good", 2), ("test/cut", 1)):
        for index in range(count):
            saved(folder / "nut" / part / f"{index}.png", picture.integers(0, 256, (32, 32, 3), np.uint8))
    saved(folder / "nut/ground_truth/cut/0_mask.png", np.eye(32, dtype=np.uint8) * 255)
    (folder / "nut/validation/good/README").touch()
    try:
        items = datasets.build("mvtec", str(folder), ["nut"], folder / "not-used")["nut"]
    except AdshiftError:
        return 0
    return sum(item.name.startswith("val") for item in items)


PARTS = masks, data_set, files, command, project
FEATURES = {
    "layers": ("layer1", "layer2", "layer3"), "resize": 64, "crop": None, "fit": "squeeze",
    "tiles": None, "options": {},
    "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "precision": "float32", "dtype": "float16",
    "images": False, "batch": 1,
}  # fmt: skip

if __name__ == "__main__":
    main()
