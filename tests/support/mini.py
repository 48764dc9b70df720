"""A DVC project of a few small stages, for tests of what runs stages: `begin`, three of `fit` for workers, `end`."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from adshift.runtime import versions
from tiny import ROOT

ITEMS = ("a", "b", "c")

# What a stage does is told by files in `orders`: `fail-NAME`, `sleep-NAME` (seconds), `die-NAME` (tries that kill their
# worker), `slow-NAME` (tries that take minutes). It notes its start in `log`.
SCRIPT = """
import os, signal, sys, time
from pathlib import Path

from adshift.errors import AdshiftError
from adshift.project.stage import run
from adshift.runtime.files import output

name = sys.argv[1]
order = lambda kind: Path("orders", f"{kind}-{name}")


def main():
    where = "here" if os.environ.get("ADSHIFT_CLUSTER") else "elsewhere"
    with Path("log").open("a") as log:
        log.write(f"{name} {where} {os.getpid()} {os.environ.get('ADSHIFT_THREADS')} {'torch' in sys.modules}\\n")
    print(f"{name} speaks")
    print(f"{name} complains", file=sys.stderr)
    with output(Path("out", name)) as folder:
        folder.mkdir()
        (folder / "part").write_text(f"made by {name}")
        if order("sleep").exists():
            time.sleep(float(order("sleep").read_text()))
        if order("die").exists():
            left = int(order("die").read_text())
            order("die").write_text(str(left - 1))
            if left > 0:
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(20)
        if order("slow").exists():
            left = int(order("slow").read_text())
            order("slow").write_text(str(left - 1))
            time.sleep(300 if left > 0 else 0)
        if order("fail").exists():
            raise AdshiftError(f"{name}: cannot be done", "order it otherwise")


run(main)
"""

PIPELINE = """
stages:
  begin:
    cmd: python stages/begin.py begin
    deps: [seed]
    outs: [out/begin]
  fit:
    matrix: {item: [a, b, c]}
    cmd: python stages/fit.py ${item.item}
    deps: [out/begin, data/sources/stages/fit.json]
    outs: ["out/${item.item}"]
  end:
    cmd: python stages/end.py end
    deps: [out/a, out/b, out/c]
    outs: [out/end]
"""
# A head as `adshift repro --cluster` is one, without params.yaml: WHERE, and what the driver reads.
HEAD = """
import os, subprocess, sys

from adshift.project.cluster import engines, sole
from adshift.project.stage import run


def head():
    from adshift.project.cluster.head import Head

    def outputs(folder):
        return {f"fit@{item}": [f"out/{item}"] for item in "abc"}

    with sole.head(True), engines.opened(sys.argv[1]) as client:
        with Head(client, outputs).listening() as environment:
            driver = sys.argv[3:] or [sys.executable, "-m", "adshift.project.driver"]
            sys.exit(subprocess.run(driver, input=sys.argv[2], text=True, env={**os.environ, **environment}).returncode)


if __name__ == "__main__":
    run(head, watched=False)
"""
NAMES = ("begin", *(f"fit@{item}" for item in ITEMS), "end")


@contextlib.contextmanager
def project(folder: Path, *packages: str) -> Iterator[None]:
    """The project in `folder`, which is the working directory meanwhile; `fit` is recorded to import `packages`."""
    (folder / "stages").mkdir()
    record = folder / "data/sources/stages/fit.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"packages": {name: versions.installed(name) for name in packages}}))
    (folder / "orders").mkdir()
    for name in ("begin", "fit", "end"):
        (folder / "stages" / f"{name}.py").write_text(SCRIPT)
    (folder / "head.py").write_text(HEAD)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "seed").write_text("1")
    (folder / ".gitignore").write_text("/out\n/log\n/orders\n")
    with contextlib.chdir(folder):
        call("git", "init", "-q")
        call("dvc", "init", "-q")
        call("dvc", "config", "core.analytics", "false")
        yield


def order(kind: str, name: str, value: object = "") -> None:
    """Leave an order for a stage."""
    Path("orders", f"{kind}-{name}").write_text(str(value))


def log() -> list[list[str]]:
    """[name, where, process, threads, whether torch was there] of each start, in order."""
    file = Path("log")
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def environment(**more: str) -> dict[str, str]:
    """In which its commands run."""
    path = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), **more}


def call(*command: str, given: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command here."""
    return subprocess.run(
        command, env=environment(**more), input=given, capture_output=True, text=True, check=False, timeout=300
    )


def drive(processors: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the driver on all stages."""
    return call(sys.executable, "-m", "adshift.project.driver", given=asked(processors=processors), **more)


def asked(jobs: int = 2, here: int = 2, processors: int = 0) -> str:
    """What the driver reads, of all stages."""
    return json.dumps({"jobs": jobs, "here": here, "processors": processors, "names": NAMES})


def headed(where: str = "local:2", *dvc: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run all stages, `fit` on a cluster: by the driver, or by the command `dvc`."""
    return call(sys.executable, "head.py", where, asked(4, 2), *dvc, **more)


def fresh() -> bool:
    """Whether DVC finds nothing to do."""
    return call("dvc", "status", "--quiet").returncode == 0
