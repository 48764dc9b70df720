"""Stages on a real SLURM: one controller and two daemons on this machine, jobs by dask-jobqueue's SLURMCluster.

    make cluster                            # as root, with Debian's slurm-wlm and munge; the sample too, which is long
    python tests/cluster/slurm.py --quick   # without the sample

A plain `dvc repro` and `adshift repro --cluster slurm` give the same hashes. A stage whose worker is killed in the
middle, and one whose job is ended by its walltime, run again on another worker. Writes docs/results/cluster.json.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[1] / "support")]

import mini  # noqa: E402
from tiny import ROOT, Project  # noqa: E402

CONFIGURATION = """
ClusterName=adshift
SlurmctldHost={host}
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/controller.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=5
NodeName=n[1-2] NodeHostname={host} Port=[17001-17002] CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=short Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""
JOBS = "jobs: 2\ncores: 1\nmemory: 3GB\nwalltime: '{walltime}'\nqueue: short\n"


@contextlib.contextmanager
def slurm() -> Iterator[None]:
    """A controller and two daemons, and munge if it does not run yet."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if not shutil.which(name)]
    if missing or os.geteuid():
        sys.exit(f"needs root, and Debian's slurm-wlm and munge: {', '.join(missing) or 'you are not root'}")
    processes = []
    with tempfile.TemporaryDirectory(prefix="slurm-") as name:
        folder = Path(name)
        for part in ("state", "n1", "n2"):
            (folder / part).mkdir()
        (folder / "slurm.conf").write_text(CONFIGURATION.format(host=socket.gethostname(), folder=folder))
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        if subprocess.run("munge -n | unmunge", shell=True, capture_output=True, check=False).returncode:
            Path("/run/munge").mkdir(exist_ok=True)
            shutil.chown("/run/munge", "munge", "munge")
            processes.append(subprocess.Popen(["runuser", "-u", "munge", "--", "munged", "--foreground"]))
            time.sleep(2)
        try:
            for command in (["slurmctld", "-D"], ["slurmd", "-D", "-N", "n1"], ["slurmd", "-D", "-N", "n2"]):
                processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
                time.sleep(2)
            wait_for(lambda: said("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == "2", "two idle nodes")
            yield
        finally:
            subprocess.run(["scancel", "--user", "root"], check=False)
            wait_for(lambda: not said("squeue", "-h"), "an empty queue")
            for process in reversed(processes):
                process.terminate()
                process.wait(30)


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def wait_for(true: Any, what: str, patience: float = 60) -> None:
    deadline = time.monotonic() + patience
    while not true():
        if time.monotonic() > deadline:
            sys.exit(f"no {what} after {patience:.0f} s")
        time.sleep(0.5)


def small(kind: str, tries: int, walltime: str) -> dict[str, Any]:
    """The small project; its stage `b` meets `tries` ends of its worker."""
    with tempfile.TemporaryDirectory(prefix="adshift-") as folder, mini.project(Path(folder)):
        Path("cluster.yaml").write_text(JOBS.format(walltime=walltime))
        mini.order(kind, "b", tries)
        start = time.monotonic()
        done = mini.headed("slurm")
        seconds = time.monotonic() - start
        assert done.returncode == 0, done.stderr
        starts = [line[0] for line in mini.log()].count("b")
        assert starts == tries + 1, mini.log()
        assert mini.fresh()
        lock = Path("dvc.lock").read_text()
        Path("dvc.lock").unlink()
        mini.order(kind, "b", 0)
        assert mini.call("dvc", "repro", "--no-run-cache").returncode == 0
        same = sorted(Path("dvc.lock").read_text().splitlines()) == sorted(lock.splitlines())
        assert same
    return {"starts": starts, "seconds": round(seconds, 1), "same_hashes": same}


def sample() -> dict[str, Any]:
    """The sample as it is shipped, by a plain `dvc repro` and on SLURM."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="adshift-") as name:
        commands = {"dvc repro": ("dvc", "repro"), "slurm": ("adshift", "repro", "--cluster", "slurm")}
        hashes = []
        for number, (label, command) in enumerate(commands.items()):
            folder = Path(name, str(number))
            folder.mkdir()
            project = Project(folder).copy()
            (folder / "cluster.yaml").write_text(JOBS.format(walltime="04:00:00"))
            start = time.monotonic()
            project.run(*command)
            found[label] = {"seconds": round(time.monotonic() - start, 1)}
            hashes.append(project.hashes())
        found["outputs"], found["same_hashes"] = len(hashes[0]), hashes[0] == hashes[1]
        differing = sorted(path for path in hashes[0] | hashes[1] if hashes[0].get(path) != hashes[1].get(path))
        assert not differing, differing
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the sample")
    args = parser.parse_args()
    with slurm():
        found = {
            "slurm": said("slurmctld", "-V").strip(),
            "plain": small("die", 0, "00:30:00"),
            "killed worker": small("die", 1, "00:30:00"),
            "walltime": small("slow", 1, "00:01:00"),
        }
        if not args.quick:
            found["sample"] = sample()
    target = ROOT / "docs" / "results" / "cluster.json"
    target.write_text(json.dumps(found, indent=1) + "\n")
    print(target.read_text())


if __name__ == "__main__":
    main()
