"""What goes wrong outside: a stage killed or orphaned, bytes that flip, a disk that is full, folders in another order.

`python tests/faults/run.py` does the same to whole runs of the pipeline.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from adshift.data import datasets, manifest, split_file
from adshift.data.manifest import Item
from adshift.detectors import storage
from adshift.detectors.records import Predictions
from adshift.errors import AdshiftError
from adshift.evaluation import intervals
from adshift.features.extract import embed
from adshift.features.store import Features
from adshift.project import repair
from adshift.report.published import read_csv
from adshift.runtime import checksums, files, signals
from timing import END, fastest
from tiny import ROOT, flip, write_tree

LIMIT = 2.0  # seconds in which a stage ends after a signal, or after DVC's end

WORK = """
import sys, time
from pathlib import Path
from adshift.runtime.files import output
from adshift.project.stage import run

def main():
    with output(Path(sys.argv[1])) as folder:
        folder.mkdir()
        (folder / "part").write_text("of " + sys.argv[2])
        print("ready", flush=True)
        {busy}
        (folder / "rest").write_text("of " + sys.argv[2])

run(main)
"""
SLEEP = "time.sleep(float(sys.argv[3]))"
KERNEL = """
        import ctypes
        ctypes.CDLL(None).sleep(60)  # as a long kernel: no bytecode of the main thread, and the GIL released
"""
HELD = """
        import ctypes
        # As compiling may, it holds the interpreter's lock: until the test opens the pipe.
        ctypes.PyDLL(None).open(bytes(Path(sys.argv[1]).parents[1] / "hold"), 0)
"""
POOL = """
        from adshift.runtime.parallel import map_ordered
        map_ordered(lambda item: time.sleep(3), range(8), what="work")
"""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "ADSHIFT_THREADS": "2", **more}


def start(out: Path, busy: str, *words: str, **more: Any) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORK.format(busy=busy), str(out), *words],
        stdout=subprocess.PIPE, text=True, env=environment(), **more,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


# --- killed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("busy", [KERNEL, POOL], ids=["kernel", "pool"])
def test_a_signal_ends_a_stage_in_two_seconds_whatever_it_does(tmp_path: Path, number: int, busy: str) -> None:
    def attempt() -> float:
        process = start(tmp_path / "out", busy, "one")
        begin = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=END) == 128 + number
        assert list(tmp_path.iterdir()) == []
        return time.monotonic() - begin

    assert fastest(attempt, LIMIT) < LIMIT


def orphan(folder: Path, shell: str, busy: str) -> int:
    """Start a stage that writes to data/out below a process that stands for DVC, kill that one: the stage's id."""
    script = folder / "work.py"
    script.write_text(WORK.format(busy=busy))
    command = f"{sys.executable} {script} {folder}/data/out one {2 * END}"
    parent = f"import subprocess; subprocess.Popen([{shell!r}, '-c', {command!r}]).wait()"
    dvc = subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, env=environment(DVC_STAGE="fit")
    )
    assert dvc.stdout is not None
    assert dvc.stdout.readline() == "ready\n"
    [temporary] = (folder / "data").iterdir()
    dvc.kill()
    dvc.wait()
    return int(temporary.name.split("-")[-1])


def seconds_until_gone(pid: int) -> float:
    begin = time.monotonic()
    while signals.alive(pid):
        assert time.monotonic() - begin < END
        time.sleep(0.05)
    return time.monotonic() - begin


def assert_second_wrote_alone(folder: Path) -> None:
    assert [path.name for path in (folder / "data").iterdir()] == ["out"]
    assert {path.read_text() for path in (folder / "data" / "out").iterdir()} == {"of two"}


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_an_orphan_stops_and_writes_nothing(tmp_path: Path, shell: str) -> None:
    def attempt() -> float:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        seconds = seconds_until_gone(orphan(folder, shell, SLEEP))
        assert list((folder / "data").iterdir()) == []
        return seconds

    assert fastest(attempt, LIMIT) < LIMIT


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_an_orphan_writes_nothing_into_the_next_runs_outputs(tmp_path: Path, shell: str) -> None:
    pid = orphan(tmp_path, shell, SLEEP)
    next_run = start(tmp_path / "data" / "out", SLEEP, "two", "0")
    assert next_run.wait(timeout=END) == 0
    seconds_until_gone(pid)
    assert_second_wrote_alone(tmp_path)


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_an_orphan_whose_code_held_the_interpreters_lock_writes_nothing_either(tmp_path: Path, shell: str) -> None:
    """Neither its main thread nor the one that watches can run before that code returns."""
    os.mkfifo(tmp_path / "hold")
    pid = orphan(tmp_path, shell, HELD)
    assert start(tmp_path / "data" / "out", SLEEP, "two", "0").wait(timeout=END) == 0
    time.sleep(2 * (signals.LOOK + signals.GRACE))
    assert signals.alive(pid), "it did not hold the lock"
    with (tmp_path / "hold").open("r+b", buffering=0):
        seconds_until_gone(pid)
    assert_second_wrote_alone(tmp_path)


def test_a_process_that_ended_is_not_alive_though_nobody_took_note() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    assert signals.alive(os.getpid())
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert not signals.alive(ended.pid)
    ended.wait()
    assert not signals.alive(ended.pid)


def test_an_orphan_renames_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if DVC dies between two looks."""
    monkeypatch.setattr(signals, "orphaned", lambda: True)
    with pytest.raises(SystemExit), files.output(tmp_path / "x") as path:
        path.write_text("late")
    assert list(tmp_path.iterdir()) == []


def test_a_stage_started_by_hand_outlives_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_CHAIN", (-1,))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert not signals.orphaned()
    monkeypatch.setenv("DVC_STAGE", "fit")
    assert signals.orphaned()


def test_what_a_killed_stage_left_is_removed_by_the_next(tmp_path: Path) -> None:
    killed = start(tmp_path / "out", SLEEP, "one", "60")
    killed.kill()
    killed.wait()
    (tmp_path / f".out.tmp-{os.getpid()}").mkdir()  # of a process that had our id
    alive = tmp_path / ".out.tmp-1"
    alive.mkdir()
    other = tmp_path / ".outer.tmp-999999999"
    other.mkdir()
    assert len(list(tmp_path.iterdir())) == 4
    with files.output(tmp_path / "out") as path:
        path.write_text("new")
    assert sorted(tmp_path.iterdir()) == sorted([alive, other, tmp_path / "out"])


def test_a_folder_is_never_seen_half_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while the old folder is being removed: the new one is whole in its place already."""
    final = tmp_path / "out"
    final.mkdir()
    (final / "old").touch()

    def killed(path: Path) -> None:
        raise MemoryError

    monkeypatch.setattr(files, "remove", killed)
    with pytest.raises(MemoryError), files.output(final) as folder:
        folder.mkdir()
        (folder / "new").touch()
    assert [path.name for path in final.iterdir()] == ["new"]


# --- a full disk


@pytest.mark.parametrize("kind", ["file", "array"])
def test_a_full_disk_is_told_and_harms_nothing(tmp_path: Path, kind: str) -> None:
    script = f"""
import resource, sys
from pathlib import Path
import numpy as np
from adshift.features.extract import RowWriter
from adshift.runtime.files import output, write_json
from adshift.project.stage import run

def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    with output(Path(sys.argv[1])) as path:
        if {kind!r} == "file":
            write_json(path, list(range(100_000)))
        else:
            RowWriter(path, "float16", (1000, 1000)).write(0, np.zeros((1000, 1000), "float16"))

run(main)
"""
    out = tmp_path / "model.json"
    out.write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", script, str(out)], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {out}: could not be written, File too large")
    assert "remedy: make room" in done.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("model.json", "old")]


# --- flipped bytes

ITEMS = [Item(f"test/{kind}/{i:03}", "test", kind, f"a/{kind}/{i}.png", "", "ab" * 32, "", 64, 48)
         for kind in ("good", "cut") for i in range(3)]  # fmt: skip
NAMES = tuple(item.name for item in ITEMS)


def write_features(folder: Path) -> None:
    class Network:
        class settings:  # noqa: N801
            resize, fit, crop, batch, images, dtype, mean, std = 8, "squeeze", None, 2, True, "float16", [0.0], [1.0]
            tiles = None

        names, record = ["one", "two"], {"backbone": "none"}

        def __call__(self, images: np.ndarray, finish: Callable[[Any], Any] = lambda maps: maps) -> list[np.ndarray]:
            maps = [images[:, ::step, ::step].astype(np.float32) / 7 for step in (2, 4)]
            return [np.asarray(finish(torch.from_numpy(level))) for level in maps]

    photos = folder.parent / "photos"
    write_tree(photos, ("dots",))
    items = datasets.build("mvtec", str(photos), ["dots"], folder.parent)["dots"][:5]
    embed(items, Network(), folder, what="embed")  # type: ignore[arg-type]


def read_features(folder: Path) -> Any:
    found = Features.open(folder)
    return found.names, dict(found.spec), found.maps(1).tobytes(), found.maps(2).tobytes(), found.images().tobytes()


def write_model(folder: Path) -> None:
    spec = {"size": 8, "layers": [{"name": f"layer{level}", "shape": [2, 2, 3]} for level in (1, 2, 3)]}
    storage.save(folder, "padim_diagonal", _diagonal(), spec, {"mean": np.arange(12.0).reshape(3, 4)})


def _diagonal() -> dict[str, Any]:
    from ruamel.yaml import YAML

    from adshift.detectors import registry

    section = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["padim_diagonal"]
    return registry.halves("padim_diagonal", section)["fit"]


def read_model(folder: Path) -> Any:
    settings, spec, arrays = storage.load(folder, "padim_diagonal")
    return settings, spec, {name: array.tobytes() for name, array in arrays.items()}


def predictions() -> Predictions:
    maps = np.random.default_rng(0).random((6, 3, 3)).astype(np.float32)
    return Predictions(NAMES, maps.max((1, 2)), maps, 12, 1.0)


def read_predictions(path: Path) -> Any:
    found = Predictions.load(path)
    return found.names, found.scores.tobytes(), found.maps.tobytes(), found.size, found.smoothing


def read_replicates(path: Path) -> Any:
    return {key: values.tobytes() for key, values in intervals.load(path).items()}


KINDS: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], Any]]] = {
    "features": ("features", write_features, read_features),
    "model": ("model", write_model, read_model),
    "manifest": ("manifest.csv", lambda path: manifest.write(path, ITEMS), manifest.read),
    "split": (
        "split.csv",
        lambda path: split_file.write(path, {"both": dict.fromkeys(NAMES, "test")}),
        split_file.read_all,
    ),
    "scores": ("scores.npz", lambda path: predictions().save(path), read_predictions),
    "thresholds": (
        "thresholds.json",
        lambda path: files.write_json(path, {"dots": {"threshold": 0.125, "rule": "f1_grid"}}, checksum=True),
        files.read_json,
    ),
    "curves": ("roc.csv", lambda path: checksums.write_table(path, ["fpr", "tpr"], [[0.25, 0.5], [1, 1]]), read_csv),
    "replicates": (
        "bootstrap.npz",
        lambda path: intervals.save(path, {("dots", "clean"): np.arange(14.0).reshape(7, 2)}),
        read_replicates,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_is_told_or_changes_nothing(tmp_path: Path, kind: str) -> None:
    """The first 128 bytes, where headers are, and 20 more; what may pass is no content, as a time in a zip."""
    name, write, read = KINDS[kind]
    place = tmp_path / name
    write(place)
    whole = read(place)
    files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    told = flips = 0
    for file in files:
        content = file.read_bytes()
        places = {
            *range(0, min(len(content), 128), 5 if len(files) > 1 else 1),
            *np.linspace(0, len(content) - 1, 20).astype(int).tolist(),
        }
        for at in sorted(places):
            file.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
            flips += 1
            try:
                found = read(place)
            except AdshiftError as error:
                told += 1
                assert file.name in error.what or (place.name in error.what and file.name == "features.json")
                assert "adshift repair" in error.remedy
            else:
                assert found == whole, f"{file.name}, byte {at}: used unseen"
        file.write_bytes(content[: len(content) // 2])
        with pytest.raises(AdshiftError, match=file.name):
            read(place)
        file.write_bytes(content)
    assert told > 0.6 * flips
    assert read(place) == whole


def test_features_that_nobody_asked_for_are_not_read(tmp_path: Path) -> None:
    """The check costs no pass over the file: an image's rows are looked at when they are read."""
    write_features(tmp_path / "features")
    file = tmp_path / "features" / "level1.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\x07")
    found = Features.open(tmp_path / "features")
    assert found[:4].maps(1).shape[0] == 4
    with pytest.raises(AdshiftError, match=r"level1\.npy: damaged in row 4"):
        found.maps(1)


def test_write_rows_are_numpys(tmp_path: Path) -> None:
    """The arrays of features are plain .npy files."""
    write_features(tmp_path / "features")
    stored = np.load(tmp_path / "features" / "level1.npy")
    assert (stored.shape, stored.dtype) == ((5, 4, 4, 3), np.float16)
    np.testing.assert_array_equal(stored, Features.open(tmp_path / "features").maps(1).astype(np.float16))


class Repository:
    """A git and DVC repository with this project's .dvc/config, its own home with the store: a stage a DVC file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        (self.folder / ".dvc").mkdir(parents=True)
        shutil.copy(ROOT / ".dvc" / "config", self.folder / ".dvc" / "config")
        (self.folder / "pipeline").mkdir()
        (self.folder / "pipeline/dvc.yaml").write_text(
            "stages:\n  fit:\n    wdir: ..\n    cmd: mkdir -p model && echo weights > model/a && echo 1 > one.txt\n"
            "    deps: [source.txt]\n    outs: [model, one.txt]\n"
        )
        (self.folder / "dvc.yaml").write_text(
            "stages:\n  package:\n    cmd: echo 2 > two.txt\n    deps: [model]\n    outs: [two.txt]\n"
        )
        (self.folder / "source.txt").touch()
        self.run("git", "init", "-q")
        self.dvc("config", "cache.type", "copy")  # one of the two copies is damaged in place
        self.dvc("repro", "-q")

    def run(self, *command: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False,
            env=environment(
                PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", HOME=str(self.folder.parent)
            ),
        )  # fmt: skip
        assert not ok or done.returncode == 0, done.stdout + done.stderr
        return done

    def dvc(self, *words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("dvc", *words, ok=ok)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_a_flipped_byte_in_the_remote_is_refused(repository: Repository, tmp_path: Path) -> None:
    """With the remote that the committed configuration names."""
    repository.dvc("push", "-q")
    [stored] = [
        path for path in (tmp_path / ".cache/adshift").rglob("*") if path.is_file() and path.read_text() == "1\n"
    ]
    flip(stored)
    shutil.rmtree(repository.folder / ".dvc" / "cache")
    (repository.folder / "one.txt").unlink()
    shutil.rmtree(repository.folder / "model")
    done = repository.dvc("pull", ok=False)
    assert done.returncode != 0
    assert not (repository.folder / "one.txt").exists()
    assert (repository.folder / "model" / "a").read_text() == "weights\n"


def test_repair_finds_what_dvc_does_not_see(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repository.folder
    monkeypatch.chdir(folder)
    assert repair.repair() == []
    cached = {path.read_text(): path for path in (folder / ".dvc/cache/files/md5").rglob("*") if path.is_file()}
    flip(folder / "model" / "a")  # the cache has it
    flip(folder / "one.txt")
    flip(cached["1\n"])  # gone for good: the stage makes it again
    flip(folder / "two.txt")  # in the other lock; the cache has it
    assert repository.dvc("status", "--quiet").returncode == 0
    assert len(repair.repair()) == 4
    repository.dvc("repro", "-q")
    found = [(folder / name).read_text() for name in ("model/a", "one.txt", "two.txt")]
    assert found == ["weights\n", "1\n", "2\n"]
    assert cached["1\n"].read_text() == "1\n"
    assert repair.repair() == []


def test_repair_does_not_go_by_what_an_older_lock_says_of_a_stage_that_moved(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository.folder)
    lock = YAML(typ="safe").load(Path("dvc.lock").read_text())
    lock["stages"]["fit"] = {"cmd": "echo 0 > one.txt", "outs": [{"path": "one.txt", "md5": "0" * 32}]}
    with Path("dvc.lock").open("w") as file:
        YAML().dump(lock, file)
    assert repair.repair() == []


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git and DVC repository without a stage; copy it."""
    folder = tmp_path_factory.mktemp("empty")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["dvc", "init", "-q"], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("lock", repair.LOCKS, ids=str)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.9])
def test_a_lock_that_dvc_was_killed_in_is_set_aside(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, lock: Path
) -> None:
    """If and only if DVC itself refuses it."""
    shutil.copytree(empty, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    lock.parent.mkdir(exist_ok=True)
    lock.with_suffix(".yaml").write_text("stages:\n  fit:\n    cmd: python fit.py\n    outs: [data/x]\n")
    whole = "schema: '2.0'\nstages:\n  fit:\n    cmd: python fit.py\n    outs:\n    - path: data/x\n      md5: abc\n"
    lock.write_text(whole)
    assert repair.locks() == []
    lock.write_text(whole[: int(share * len(whole))])
    refused = subprocess.run(["dvc", "status"], capture_output=True, check=False).returncode != 0
    told = repair.locks()
    assert bool(told) == refused == (share < 0.9)
    assert lock.exists() != refused
    assert lock.with_name("dvc.lock.damaged").exists() == refused
    subprocess.run(["dvc", "status"], capture_output=True, check=True)
    assert repair.repair() == []


# --- the same bytes elsewhere

STUDY = """
import os, sys
from pathlib import Path
from adshift.data import datasets, manifest, split_file, splits
from adshift.project import params
from adshift.data.shift import synthetic

if sys.argv[1] == "backwards":
    listdir, iterdir = os.listdir, Path.iterdir
    os.listdir = lambda *path: sorted(listdir(*path), reverse=True)
    Path.iterdir = lambda path: iter(sorted(iterdir(path), reverse=True))
settings = params.load("split", "shift")
items = datasets.build("mvtec", "photos", ["dots"], Path("out"))["dots"]
manifest.write(Path("out/clean.csv"), items)
split_file.write(Path("out/split.csv"), {"both": splits.split(items, settings.split, 42, "dots")})
synthetic.shift_class(items, settings.shift, 42, "dots", Path("out/shift"), Path("data/shift"))
"""


def test_path_order_locale_zone_and_threads_change_no_byte(tmp_path: Path) -> None:
    """prepare, split and shift; the whole graph so: `faults/run.py --only same`."""
    found = []
    circumstances: list[tuple[str, str, dict[str, str]]] = [
        ("here", "forwards", {"ADSHIFT_THREADS": "1"}),
        ("elsewhere/far", "backwards", {"LC_ALL": "tr_TR.UTF-8", "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "7"}),
    ]
    for place, order, more in circumstances:
        folder = tmp_path / place
        folder.mkdir(parents=True)
        write_tree(tmp_path / "made", ("dots",))
        files = sorted(
            (path for path in (tmp_path / "made").rglob("*") if path.is_file()), reverse=order == "backwards"
        )
        for file in files:  # created in another order
            copy = folder / "photos" / file.relative_to(tmp_path / "made")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        shutil.copy(ROOT / "params.yaml", folder)
        subprocess.run([sys.executable, "-c", STUDY, order], cwd=folder, env=environment(**more), check=True)
        written = sorted(path for path in (folder / "out").rglob("*") if path.is_file())
        found.append({str(path.relative_to(folder)): path.read_bytes() for path in written})
    assert len(found[0]) > 20
    assert found[0] == found[1]


# --- memory


def test_memory_stays_below_a_limit_on_the_process(tmp_path: Path) -> None:
    """Feature maps of 200 MB are written by a process that may not have 150 MB more than it has at the start."""
    script = """
import resource, sys
from pathlib import Path
import numpy as np
from adshift.features.extract import RowWriter

held = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (held + 150_000_000,) * 2)
file = RowWriter(Path(sys.argv[1]), "float16", (200, 500_000))
for row in range(0, 200, 8):
    file.write(row, np.full((8, 500_000), row, np.float16))
file.close()
assert len(set(file.checksums)) == 25
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "x.npy")], env=environment(), check=True)
    assert np.load(tmp_path / "x.npy", mmap_mode="r")[199, 0] == 192
