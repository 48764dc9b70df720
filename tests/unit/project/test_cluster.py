"""Stages on the workers of a Dask cluster of separate processes; what dies, what is cancelled, and what is refused."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest

import mini
from adshift.errors import AdshiftError
from adshift.project.cluster import engines, handover, sole, worker

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")


@pytest.fixture
def project(tmp_path: Path):
    with mini.project(tmp_path):
        yield tmp_path


def test_heavy_stages_go_to_workers_and_dvc_sees_no_difference(project: Path) -> None:
    done = mini.headed(ADSHIFT_THREADS="3")
    assert done.returncode == 0, done.stderr
    places = {line[0]: (line[1], line[3]) for line in mini.log()}
    assert places == {"begin": ("here", "3"), "end": ("here", "3"), **dict.fromkeys("abc", ("elsewhere", "3"))}
    for name in "abc":  # output is relayed, each to its own stream
        assert f"{name} speaks" in done.stdout and f"{name} complains" in done.stderr
    lock = Path("dvc.lock").read_bytes()
    assert mini.fresh()
    Path("dvc.lock").unlink()
    assert mini.call("dvc", "repro", "--no-run-cache").returncode == 0
    entries = lambda text: sorted(text.splitlines())  # noqa: E731  (the order is that in which stages ended)
    assert entries(Path("dvc.lock").read_bytes()) == entries(lock)


def test_a_stage_that_dvc_itself_starts_hands_itself_over(project: Path) -> None:
    """As in an experiment."""
    done = mini.headed("local:1", "dvc", "repro")
    assert done.returncode == 0, done.stderr
    assert {line[0]: line[1] for line in mini.log()} == {
        "begin": "here", "end": "here", **dict.fromkeys("abc", "elsewhere")
    }  # fmt: skip
    assert "b speaks" in done.stdout and "b complains" in done.stderr
    assert mini.fresh()


def test_a_worker_that_dies_is_replaced_and_its_stage_tried_again(project: Path) -> None:
    mini.order("die", "b", 2)
    done = mini.headed()
    assert done.returncode == 0, done.stderr
    assert [line[0] for line in mini.log()].count("b") == 3
    assert mini.fresh()


def test_after_two_more_tries_the_stage_has_failed(project: Path) -> None:
    mini.order("die", "b", 9)
    done = mini.headed()
    assert done.returncode
    assert "fit@b: the workers that ran it died, 3 in all" in done.stderr
    assert [line[0] for line in mini.log()].count("b") == 3
    assert not Path("out/b").exists()
    Path("orders/die-b").unlink()
    assert mini.headed().returncode == 0


def test_a_stage_that_fails_on_a_worker_says_why(project: Path) -> None:
    mini.order("fail", "c")
    done = mini.headed()
    assert done.returncode
    assert "error: c: cannot be done\n  remedy: order it otherwise" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(line[0] == "end" for line in mini.log())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_when_the_head_ends_the_workers_stages_end(project: Path, number: int) -> None:
    for name in mini.ITEMS:
        mini.order("sleep", name, 60)
    head = subprocess.Popen(
        [sys.executable, "head.py", "local:3", mini.asked(4, 2)], env=mini.environment(),
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 90
    while len(mini.log()) < 4:
        assert time.monotonic() < deadline and head.poll() is None
        time.sleep(0.1)
    if number == signal.SIGINT:
        os.killpg(head.pid, number)  # as a terminal does
    else:
        head.kill()
    head.wait(60)
    stages = [int(line[2]) for line in mini.log()]
    while any(Path(f"/proc/{pid}").exists() for pid in stages):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert sorted(path.name for path in Path("out").iterdir()) == ["begin"]
    for name in mini.ITEMS:
        Path("orders", f"sleep-{name}").unlink()
    done = mini.headed()
    assert done.returncode == 0, done.stderr
    assert [line[0] for line in mini.log()].count("begin") == 1


def test_a_worker_without_the_project_or_with_other_versions_is_refused(project: Path) -> None:
    here = worker.probe(str(project), "seed", ["numpy", "no-such-package"], mini.environment()["PYTHONPATH"])
    assert (here["problem"], here["versions"]["no-such-package"]) == ("", "none")
    assert worker.probe(str(project / "other"), "seed", [], None)["problem"].startswith("has no folder")
    assert "another folder" in worker.probe(str(project), "nonce", [], None)["problem"]
    other = project / "broken" / "adshift"  # in front of what may be installed
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise ImportError('broken')")
    assert "cannot import adshift" in worker.probe(str(project), "seed", [], str(other.parent))["problem"]


def test_the_head_names_the_worker_and_the_version(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adshift.project.cluster.head import Head

    class Client:
        changes: ClassVar[dict] = {}

        def wait_for_workers(self, count: int, timeout: float) -> None:
            assert count == 1

        def run(self, function, *asked):
            one = function(*asked)
            return {"tcp://10.0.0.7:1234": {**one, **self.changes}}

    monkeypatch.setenv("PYTHONPATH", mini.environment()["PYTHONPATH"])
    Client.changes = {"versions": {"python": "3.9.1"}}
    with pytest.raises(AdshiftError, match=r"10\.0\.0\.7:1234 on .* has other versions: python 3\.9\.1 there"):
        Head(Client(), lambda folder: {})
    Client.changes = {"problem": "has no folder /project"}
    with pytest.raises(AdshiftError, match="has no folder /project"):
        Head(Client(), lambda folder: {})
    assert not list(Path(".dvc/tmp").glob("adshift-*"))


def test_a_stage_asks_for_what_any_worker_offers() -> None:
    from adshift.project.cluster.head import GIB, Head

    head = Head.__new__(Head)
    head._offered = {"memory": 0, "GPU": 0}
    assert head._resources("embed") == {}
    head._offered = {"memory": 8 * GIB, "GPU": 1}
    assert head._resources("embed") == {"memory": 2 * GIB, "GPU": 1}
    assert head._resources("fit") == {"memory": 2 * GIB}
    head._offered = {"memory": GIB, "GPU": 0}
    with pytest.raises(AdshiftError, match=r"embed needs 2 GiB, the workers have 1\.0 at most"):
        head._resources("embed")


def test_outputs_must_be_seen_as_the_worker_wrote_them(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adshift.project.cluster import head

    Path("out/a/deep").mkdir(parents=True)
    Path("out/a/deep/part").write_text("made by a")
    written = worker.checksums(".", ["out/a", "out/missing"])
    assert list(written) == ["out/a/deep/part"]
    head._wait_for("fit@a", str(project), written)
    monkeypatch.setattr(head, "PATIENCE", 0.3)
    Path("out/a/deep/part").write_text("made by b")
    with pytest.raises(AdshiftError, match=r"fit@a: out/a/deep/part is not seen here as its worker wrote it"):
        head._wait_for("fit@a", str(project), written)


def test_two_heads_on_one_workspace_are_refused_by_name(project: Path) -> None:
    with sole.head(True):
        with pytest.raises(AdshiftError, match=rf"on {socket.gethostname()}, process {os.getpid()}, since "):
            sole._refuse_another()
        done = mini.headed()
        assert done.returncode == 1
        assert f"at work in this workspace: on {socket.gethostname()}, process {os.getpid()}" in done.stderr
    sole.FILE.write_text(json.dumps({"host": "node7", "pid": 1, "since": "today"}))
    with pytest.raises(AdshiftError, match="on node7, process 1, since today"), sole.head(False):
        pass
    gone = subprocess.Popen(["true"])
    gone.wait()
    sole.FILE.write_text(json.dumps({"host": socket.gethostname(), "pid": gone.pid, "since": "today"}))
    with sole.head(True):
        assert json.loads(sole.FILE.read_text())["pid"] == os.getpid()
    assert not sole.FILE.exists()


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("grid", "--cluster grid: not known"),
        ("local:none", "no number of workers"),
        ("local:0", "no number of workers"),
        ("slurm", r"cluster\.yaml: not readable"),
        ("slurm:queue", "not known"),
        ("ssh:hosts.txt", "hosts.txt: not readable|needs asyncssh"),
        ("ssh:seed.txt", "names no host|needs asyncssh"),
    ],
)
def test_a_cluster_that_cannot_be_had(project: Path, where: str, reason: str) -> None:
    Path("seed.txt").write_text("# none\n")
    with pytest.raises(AdshiftError, match=reason):
        engines.check(where)
    with pytest.raises(AdshiftError, match=reason), engines.opened(where):
        pass


def test_a_scheduler_that_does_not_answer(project: Path) -> None:
    done = mini.headed("tcp://127.0.0.1:9")  # in a process of its own: Dask leaves a thread
    assert done.returncode == 1
    assert "error: --cluster tcp://127.0.0.1:9: cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert not sole.FILE.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("jobs: 2\ncores: 1\nmemory: 2GB\nwalltime: '1:00'\nque: short\n", "que"),
        ("jobs: 2\n", "cores"),
        ("jobs: 0\ncores: 1\nmemory: 2GB\nwalltime: '1:00'\n", "jobs"),
        ("[1]", "no mapping"),
        ("jobs: [", "cluster.yaml"),
    ],
)
def test_a_cluster_file_that_is_wrong(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(AdshiftError, match=reason) as told:
        engines.jobs_of(file)
    assert "its keys: jobs, cores" in told.value.remedy


def test_without_a_head_a_stage_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DVC_STAGE", "fit@a")
    monkeypatch.setattr(sys, "argv", ["stages/fit.py", "a"])
    assert handover.handed_over() is None
    monkeypatch.setenv("ADSHIFT_CLUSTER", str(tmp_path / "gone"))
    with pytest.raises(AdshiftError, match="the head of the cluster does not answer"):
        handover.handed_over()
    monkeypatch.setattr(sys, "argv", ["stages/report.py"])
    assert handover.handed_over() is None  # of a short stage
