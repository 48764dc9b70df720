"""Nothing that is read is executed: no pickle, eval or their like anywhere; archives, weights, manifests, records."""

# ruff: noqa: E501  (tables)

import ast
import csv
import io
import json
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adshift.data import download, manifest
from adshift.data.manifest import Item
from adshift.errors import AdshiftError
from adshift.features.backbones import weights
from adshift.features.store import Features

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("src", "stages") for path in (ROOT / folder).rglob("*.py"))

# ------------------------------------------------------------------------------------------------- what is not called

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "code", "codeop"}
NAMES = {"eval", "exec", "compile", "__import__"}  # builtins; a method `model.eval()` is another thing
METHODS = {"system", "popen", "read_pickle", "to_pickle", "unsafe_load", "full_load", "literal_eval"}


def problems(source: str) -> list[str]:
    """What in a module's source would run what it reads, by line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        found += [f"{node.lineno}: import of {name}" for name in names if MODULES & {*name.split(".")}]
        found += [f"{node.lineno}: import of PyYAML" for name in names if name.split(".")[0] == "yaml"]
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        last = called.rsplit(".", 1)[-1]
        given = {keyword.arg: keyword.value for keyword in node.keywords}

        def is_set(name: str, to: Any, given: dict[str | None, ast.expr] = given) -> bool:
            return isinstance(value := given.get(name), ast.Constant) and value.value == to

        if called in NAMES or (last in METHODS and "." in called):
            found.append(f"{node.lineno}: {called}")
        elif called.endswith("torch.load") and not is_set("weights_only", True):
            found.append(f"{node.lineno}: {called} without weights_only=True")
        elif called in ("np.load", "numpy.load") and not is_set("allow_pickle", False):
            found.append(f"{node.lineno}: {called} without allow_pickle=False")
        elif is_set("allow_pickle", True) or (is_set("shell", True) and "." in called):
            found.append(f"{node.lineno}: {called} with {'allow_pickle' if 'allow_pickle' in given else 'shell'}=True")
        elif last == "YAML" and is_set("typ", "unsafe"):
            found.append(f"{node.lineno}: {called} unsafe")
    return found


# The head of a cluster sends its own code to the workers, by Dask; it unpickles no file.
SENDS = {"src/adshift/project/cluster/head.py": ["import of cloudpickle"]}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_that_is_read_is_run(path: Path) -> None:
    told = [problem.split(": ", 1)[1] for problem in problems(path.read_text(encoding="utf-8"))]
    assert told == SENDS.get(path.relative_to(ROOT).as_posix(), [])


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from pickle import loads", "import joblib as j", "from torch import pickle", "eval(x)",
        "exec(x)",         "torch.load(p)", "torch.load(p, weights_only=False)", "torch.load(p, 'cpu', weights_only=flag)", "np.load(p)",
        "np.load(p, allow_pickle=True)", "np.savez(p, x, allow_pickle=True)", "os.system(x)", "pd.read_pickle(p)",
        "subprocess.run(x, shell=True)", "import yaml", "YAML(typ='unsafe').load(x)", "__import__(x)",
    ],
)  # fmt: skip
def test_the_walk_sees(line: str) -> None:
    assert problems(f"import os\n{line}\n")


@pytest.mark.parametrize(
    "line", ["model.eval()", "re.compile(x)", "np.load(p, mmap_mode='r', allow_pickle=False)", "import_module(x)",
             "torch.load(p, 'cpu', weights_only=True)"],
)  # fmt: skip
def test_the_walk_lets_pass(line: str) -> None:
    assert problems(line) == []


# ----------------------------------------------------------------------------------------------------------- archives


def zipped(path: Path, *names: str, data: bytes = b"x") -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        warnings.simplefilter("ignore")  # of duplicates
        for name in names:
            file.writestr(name, data)
    return path


def tarred(path: Path, *names: str, data: bytes = b"x") -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


MAKERS = {"a.zip": zipped, "a.tar.gz": tarred}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(
    "names",
    [
        ("a/b.png", "a/b.png"),
        ("a/B.png", "a/b.png"),
        ("a/ä.png", "a/ä.png"),  # composed and not
        ("a/b.png", "a/./b.png"),
        ("straße", "STRASSE"),
        ("a", "a/b"),
        ("../evil",),
        ("/evil",),
        ("a/../../evil",),
        ("a\\..\\evil",),
        ("C:\\evil",),
    ],
    ids=str,
)
def test_archives_with_names_that_mean_harm(tmp_path: Path, kind: str, names: tuple[str, ...]) -> None:
    archive = MAKERS[kind](tmp_path / kind, "good.txt", *names)
    with pytest.raises(
        AdshiftError, match=r"nothing was unpacked\n  remedy: do not trust|cannot be unpacked.*\n.*anew"
    ):
        download.unpack(archive, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == [kind]
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("kind", MAKERS)
def test_archives_that_unfold_to_much_more(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "RATIO_FROM", 2**20)
    archive = MAKERS[kind](tmp_path / kind, "bomb", data=bytes(50 * 2**20))
    with pytest.raises(AdshiftError, match="is one too many: 1 files of 52428800 bytes; nothing was unpacked"):
        download.unpack(archive, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == [kind]
    monkeypatch.setattr(download, "RATIO_FROM", 2**30)
    download.unpack(archive, tmp_path / "set")  # small things may be as empty as they like


@pytest.mark.parametrize("kind", MAKERS)
def test_archives_of_too_many_files(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MOST_MEMBERS", 3)
    with pytest.raises(AdshiftError, match="is one too many: 4 files"):
        download.unpack(MAKERS[kind](tmp_path / kind, *"abcd"), tmp_path / "set")


def test_a_zip_that_lies_about_a_size(tmp_path: Path) -> None:
    """The central directory promises one byte; what follows does not get out."""
    archive = zipped(tmp_path / "a.zip", "bomb", data=bytes(10**6))
    archive.write_bytes(archive.read_bytes().replace((10**6).to_bytes(4, "little"), (1).to_bytes(4, "little")))
    with pytest.raises(AdshiftError, match="cannot be unpacked"):
        download.unpack(archive, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


# ------------------------------------------------------------------------------------------------------------ weights


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("touched"),))


WEIGHTS: dict[str, tuple[Any, str]] = {
    "a program": (Evil(), "not a readable state dict"),
    "a whole network": (torch.nn.Linear(2, 2), "not a readable state dict"),
    "a list": ([torch.zeros(2)], "holds no state dict"),
    "a number": (3, "holds no state dict"),
    "a table of numbers": ({"a": 1.0}, "holds no state dict"),
    "names that are no text": ({1: torch.zeros(2)}, "holds no state dict"),
    "NaN": ({"a": torch.tensor([1.0, float("nan")])}, "a holds what is no finite real number"),
    "infinity": ({"a": torch.tensor([1.0, float("-inf")])}, "a holds what is no finite real number"),
    "complex numbers": ({"a": torch.zeros(2, dtype=torch.complex64)}, "a holds what is no finite real number"),
    "a negative variance": ({"bn.running_var": torch.tensor([1.0, -1.0])}, "bn.running_var holds a negative variance"),
    "a sparse tensor": ({"a": torch.eye(2).to_sparse()}, "holds no state dict"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    content, says = WEIGHTS[name]
    monkeypatch.chdir(tmp_path)
    torch.save(content, "w.pth")
    with pytest.raises(AdshiftError, match=rf"w\.pth: {says}(.|\n)*remedy: (use|save|get) "):
        weights.read(Path("w.pth"))
    assert not Path("touched").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"text", pickle.dumps(Evil()), (10**15).to_bytes(8, "little") + b"{}", b"PK\x03\x04" + bytes(99)]
)
def test_files_that_hold_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    with pytest.raises(AdshiftError, match=r"not a readable state dict(.|\n)*remedy: use a .pth or .safetensors"):
        weights.read(Path(name))
    assert not Path("touched").exists()


def test_weights_of_another_network() -> None:
    state, expected = {"a": torch.zeros(2, 3)}, {"a": torch.zeros(3, 2), "b": torch.zeros(1)}
    with pytest.raises(AdshiftError, match=r"w\.pth: 1 tensors that are not those .* a \(3, 2\) is \(2, 3\) there"):
        weights.named(state, expected, Path("w.pth"))


# ------------------------------------------------------------------------------------ manifests and features' records

GOOD = Item("train/good/0", "train", "good", "raw/a/0.png", "", "0", "", 8, 8)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "../../evil"), ("name", "train/good/.."), ("name", "train/good/../../../evil"),
        ("name", "/etc/passwd"), ("name", "train/good"), ("name", "test/good/0"), ("name", "train/good/"), ("name", "train/good/a\0"),
        ("image", "raw/a/../../../etc/passwd"), ("image", "/etc/passwd"), ("mask", "raw/../../evil.png"),
        ("width", "-8"), ("height", "0"), ("width", "eight"), ("height", "9" * 5000), ("name", "train/good/1"),
    ],
)  # fmt: skip
def test_manifests(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "manifest.csv"
    rows = [vars(GOOD), vars(GOOD) | {"name": "train/good/1", "image": "raw/a/1.png"} | {}]
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(vars(GOOD)))
        table.writeheader()
        table.writerows([rows[0] | {key: value}, rows[1]])
    with pytest.raises(AdshiftError, match=r"manifest.csv: not a readable manifest(.|\n)*remedy: run `adshift repair`"):
        manifest.read(path)


def test_a_data_root_may_lie_anywhere(tmp_path: Path) -> None:
    for root in ("../data", "/data/x", "a/../b"):
        items = [vars(GOOD) | {"name": f"train/good/{i}", "image": f"{root}/{i}.png"} for i in range(3)]
        manifest.write(tmp_path / "manifest.csv", [Item(**item) for item in items])
        assert len(manifest.read(tmp_path / "manifest.csv")) == 3


def test_a_manifest_that_is_no_table(tmp_path: Path) -> None:
    for content in (b"", b"\xff\xfe", b"a,b\n1,2\n", b"name\n" + b"x" * 200_000, b"\0\0"):
        (tmp_path / "manifest.csv").write_bytes(content)
        with pytest.raises(AdshiftError, match="not a readable manifest"):
            manifest.read(tmp_path / "manifest.csv")


RECORD = {"size": 4, "layers": [{"name": "l", "file": "level1.npy", "shape": [2, 2, 3]}], "names": ["train/good/0"]}


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("layers", [{"file": "../../level1.npy", "shape": [2, 2, 3]}], "is no name of a file in this folder"),
        ("layers", [{"file": "/etc/passwd", "shape": [2, 2, 3]}], "is no name of a file in this folder"),
        ("layers", [{"file": "..", "shape": [2, 2, 3]}], "no name of a file|Is a directory"),
        ("images", "../images.npy", "is no name of a file in this folder"),
        ("layers", [{"file": "level1.npy", "shape": [10**9, 2, 3]}], "a layer of shape"),
        ("layers", [{"file": "level1.npy", "shape": [2, 2]}], "not enough values"),
        ("layers", [{"file": 3, "shape": [2, 2, 3]}], "TypeError"),
        ("layers", {}, "layers: expected a list"),
        ("layers", ..., "KeyError"),
        ("size", -4, "size -4: expected"),
        ("names", [1], "names that are no text"),
        ("names", 3, "TypeError"),
        ("names", ["a", "b"], r"level1.npy: float16 \(1, 2, 2, 3\)"),
        ("backbone", "hf-hub:evil/net", "backbone 'hf-hub:evil/net'"),
    ],
)
def test_records_of_features(tmp_path: Path, key: str, value: Any, says: str) -> None:
    np.save(tmp_path / "level1.npy", np.zeros((1, 2, 2, 3), np.float16))
    (tmp_path / "features.json").write_text(json.dumps(RECORD))
    assert len(Features.open(tmp_path)) == 1
    record = {name: part for name, part in (RECORD | {key: value}).items() if part is not ...}
    (tmp_path / "features.json").write_text(json.dumps(record))
    with pytest.raises(AdshiftError, match=rf"{says}(.|\n)*remedy: run `adshift repair`"):
        Features.open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"text", pickle.dumps([1]), "object", "shape"])
def test_arrays_of_features(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "level1.npy"
    (tmp_path / "features.json").write_text(json.dumps(RECORD))
    if content == "object":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    elif content == "shape":  # a header that claims 10^12 elements
        np.save(path, np.zeros(1, np.float16))
        path.write_bytes(path.read_bytes().replace(b"(1,), }            ", b"(1000000000000,), }"))
    else:
        path.write_bytes(content)  # type: ignore[arg-type]
    with pytest.raises(AdshiftError, match=r"level1.npy: (.|\n)*remedy: run `adshift repair`"):
        Features.open(tmp_path)
