"""What stage scripts share: outputs whole or not at all, errors without a traceback, threads that keep the order."""

import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import isolation
from adshift.detectors.records import Predictions
from adshift.errors import AdshiftError
from adshift.project import stage
from adshift.runtime import files, parallel, seeding
from timing import END, fastest


def test_an_output_appears_whole(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "model"
    final.mkdir(parents=True)
    (final / "old").touch()
    with files.output(final) as folder:
        folder.mkdir()
        (folder / "new").touch()
        assert (final / "old").exists()
    assert [path.name for path in final.iterdir()] == ["new"]
    assert [path.name for path in final.parent.iterdir()] == ["model"]


def test_a_failure_leaves_the_old_output_and_no_half_one(tmp_path: Path) -> None:
    final = tmp_path / "scores.npz"
    final.write_text("old")
    with pytest.raises(RuntimeError), files.output(final) as path:
        path.write_text("half")
        raise RuntimeError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("scores.npz", "old")]


SCRIPT = """
import sys, time
from pathlib import Path
from adshift.errors import AdshiftError
from adshift.runtime.files import output
from adshift.project.stage import run

def main():
    with output(Path(sys.argv[1])) as path:
        path.write_text("half")
        if sys.argv[2] == "error":
            raise AdshiftError("params.yaml: no", "correct it")
        print("ready", flush=True)
        time.sleep(60)

run(main)
"""


def test_an_error_is_told_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "out"), "error"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "error: params.yaml: no\n  remedy: correct it\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_stage_and_leaves_nothing_half_written(tmp_path: Path, number: int) -> None:
    def attempt() -> float:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "out"), "wait"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        start = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=END) == 128 + number
        assert list(tmp_path.iterdir()) == []
        return time.monotonic() - start

    assert fastest(attempt, 2) < 2


def test_a_stage_that_ends_leaves_the_process_as_it_was() -> None:
    """Threads, handlers, wakeup descriptor, and the descriptors of the guard's pipe."""

    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def fails() -> None:
        raise AdshiftError("no", "correct it")

    def seen() -> None:
        assert isolation.leftovers(before) and open_files() > files  # so that the comparison below sees a guard

    before, files = isolation.snapshot(), open_files()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isolation, "PATIENCE", 0.0)
        stage.run(seen)
    with pytest.raises(SystemExit):
        stage.run(fails)
    stage.run(lambda: None, watched=False)
    assert isolation.leftovers(before) == []
    assert open_files() == files


def test_json_refuses_what_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "x.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(AdshiftError, match=r"x\.json: not readable"):
        files.read_json(tmp_path / "x.json")


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_results_keep_the_items_order(monkeypatch: pytest.MonkeyPatch, threads: str) -> None:
    monkeypatch.setenv("ADSHIFT_THREADS", threads)

    def work(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return item * item

    assert parallel.map_ordered(work, range(20), what="squares") == [item * item for item in range(20)]


FAULTS = """
import resource, sys, threading
from adshift.runtime.parallel import keep_memory

def touch():
    block = bytearray(b"x") * 2**25

if "keep" in sys.argv:
    keep_memory()
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
worker = threading.Thread(target=touch)
worker.start()
worker.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_memory_that_is_kept_is_not_asked_for_again() -> None:
    lost, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS, *how], capture_output=True, text=True, check=True).stdout)
        for how in ((), ("keep",))
    )
    assert kept < 200, f"{lost} page faults without, {kept} with"


def test_an_error_in_a_thread_is_the_callers() -> None:
    def work(item: int) -> int:
        if item == 3:
            raise AdshiftError("image 3", "correct it")
        return item

    with pytest.raises(AdshiftError, match="image 3"):
        parallel.map_ordered(work, range(10), what="work")


def test_generators_depend_on_seed_and_names_alone() -> None:
    draw = lambda *key: seeding.generator(*key).integers(0, 2**32, 4).tolist()  # noqa: E731
    assert draw(1, "a", "b") == draw(1, "a", "b")
    assert len({tuple(draw(*key)) for key in ((1, "a", "b"), (2, "a", "b"), (1, "b", "a"), (1, "ab"), (1, "a"))}) == 5


def test_predictions_round_trip_and_refuse_what_is_not_finite(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((2, 7, 7)).astype(np.float32)
    found = Predictions(("test/good/1", "test/crack/2"), maps.max((1, 2)), maps, 56, 4.0)
    found.save(tmp_path / "x.npz")
    again = Predictions.load(tmp_path / "x.npz")
    assert (again.names, again.size, again.smoothing) == (found.names, 56, 4.0)
    np.testing.assert_array_equal(again.full_maps(), found.full_maps())
    assert again.full_maps().shape == (2, 56, 56)
    with pytest.raises(AdshiftError, match="not finite"):
        Predictions(found.names, found.scores * np.nan, maps, 56, 4.0)
    (tmp_path / "x.npz").write_bytes(b"PK")
    with pytest.raises(AdshiftError, match=r"x\.npz: not readable"):
        Predictions.load(tmp_path / "x.npz")
