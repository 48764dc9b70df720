"""Dask clusters: one that runs already, processes of this machine, jobs of a batch system, hosts reached by SSH."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from adshift.errors import AdshiftError, in_line
from adshift.runtime import versions
from adshift.runtime.settings import Count, Section

FILE = Path("cluster.yaml")
TRIES_AGAIN = 2  # of a stage whose worker died
SYSTEMS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster"}
FORMS = f"tcp://HOST:PORT, local:N, ssh:FILE or {', '.join(SYSTEMS)}"

Text = Annotated[str, Field(min_length=1, max_length=1000)]


class Jobs(Section):
    """cluster.yaml: the jobs of a batch system, of one worker each.

    Attributes:
        jobs: number of them.
        cores: of a job, which are its stage's threads.
        memory: of a job, such as 16GB.
        walltime: of a job, such as 04:00:00; then another one takes its place.
        queue: or partition; the system's own if empty.
        account: to charge; none if empty.
        gpus: of a job.
        environment: shell commands before the worker, such as `source .venv/bin/activate`.
        directives: further lines of the job script, such as `--constraint=a100`.
        interface: network interface of head and workers; Dask's choice if empty.
    """

    jobs: Annotated[Count, Field(le=10_000)]
    cores: Annotated[Count, Field(le=1024)]
    memory: Text
    walltime: Text
    queue: Text | None = None
    account: Text | None = None
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    environment: tuple[Text, ...] = ()
    directives: tuple[Text, ...] = ()
    interface: Text | None = None


def jobs_of(path: Path = FILE) -> Jobs:
    """The settings in cluster.yaml.

    Raises:
        AdshiftError: it is missing, is no YAML, or has an unknown key or a value out of range.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    remedy = f"docs/cluster.md has an example; its keys: {', '.join(Jobs.model_fields)}"
    try:
        values = YAML(typ="safe").load(path)
        if not isinstance(values, dict):
            raise ValueError("no mapping")
        return Jobs.of(values)
    except OSError as error:
        raise AdshiftError(f"{path}: not readable ({error.strerror})", remedy) from None
    except (ValueError, YAMLError, TypeError) as error:
        raise AdshiftError(f"{path}: {in_line(error)}", remedy) from None


def check(where: str) -> None:
    """Refuse what `opened` cannot open, before any work.

    Raises:
        AdshiftError: `where` is none of the forms, a file that it needs is wrong, or a package is missing.
    """
    kind, _, rest = where.partition(":")
    if kind not in ("tcp", "tls", "local", "ssh", *SYSTEMS) or (kind in SYSTEMS and rest):
        raise AdshiftError(f"--cluster {where}: not known", FORMS)
    packages = [
        "distributed",
        *(["dask-jobqueue"] if kind in SYSTEMS else []),
        *(["asyncssh"] if kind == "ssh" else []),
    ]
    for package in packages:
        if versions.installed(package) == "none":
            message = f"--cluster {where}: needs {package}, which is not installed"
            raise AdshiftError(message, "pip install 'adshift[cluster]'")
    if kind in SYSTEMS:
        jobs_of()
    if kind == "ssh":
        _hosts(rest)
    if kind == "local" and not (rest.isdecimal() and 1 <= int(rest) <= 1024):
        raise AdshiftError(f"--cluster {where}: no number of workers", "such as local:4")


@contextmanager
def opened(where: str) -> Iterator[Any]:
    """A Dask client of a cluster; a cluster that is started here ends with the block.

    Args:
        where: one of `FORMS`.

    Raises:
        AdshiftError: as `check`, or the cluster cannot be reached.
    """
    check(where)
    import dask
    from distributed import Client

    kind, _, rest = where.partition(":")
    openers: dict[str, Callable[[str], Any]] = {"local": _local, "ssh": _ssh}
    # A worker that died, or whose job ended, was no fault of its stage; and workers may start the stage's process.
    settings = {"distributed.scheduler.allowed-failures": TRIES_AGAIN, "distributed.worker.daemon": False}
    with dask.config.set(settings), ExitStack() as stack:
        try:
            if kind in ("tcp", "tls"):
                client = stack.enter_context(Client(where, timeout=10))
            else:
                cluster = openers[kind](rest) if kind in openers else _batch(kind)
                client = stack.enter_context(Client(stack.enter_context(cluster)))
        except (OSError, RuntimeError) as error:
            message = f"--cluster {where}: cannot be reached or started ({in_line(error)})"
            raise AdshiftError(message, "check the address, and that its scheduler runs") from None
        yield client


def _local(rest: str) -> Any:
    from distributed import LocalCluster

    workers, memory = int(rest), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    threads = os.environ.get("ADSHIFT_THREADS") or max(1, len(os.sched_getaffinity(0)) // workers)
    return LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None,
        memory_limit=0, resources={"memory": memory // workers},
        env={"ADSHIFT_THREADS": str(threads)},
    )  # fmt: skip


def _batch(name: str) -> Any:
    from dask.utils import parse_bytes

    jobs, handler = jobs_of(), signal.getsignal(signal.SIGINT)
    import dask_jobqueue

    signal.signal(signal.SIGINT, handler)  # its import lets Ctrl-C end a process with code 0
    offered = {"memory": parse_bytes(jobs.memory), **({"GPU": jobs.gpus} if jobs.gpus else {})}
    cards = [f"--gres=gpu:{jobs.gpus}"] if jobs.gpus else []
    listed = " ".join(f"{key}={value}" for key, value in offered.items())
    cluster = getattr(dask_jobqueue, SYSTEMS[name])(
        cores=jobs.cores, processes=1, memory=jobs.memory, walltime=jobs.walltime, queue=jobs.queue,
        account=jobs.account, interface=jobs.interface,
        job_script_prologue=[*jobs.environment, f"export ADSHIFT_THREADS={jobs.cores}"],
        job_extra_directives=[*jobs.directives, *(cards if name == "slurm" else [])],
        worker_extra_args=["--nthreads", "1", "--resources", f"'{listed}'"],
        scheduler_options={"dashboard_address": None},
    )  # fmt: skip
    cluster.adapt(minimum=jobs.jobs, maximum=jobs.jobs)  # a job that ended, by its walltime, is replaced
    return cluster


def _hosts(file: str) -> list[str]:
    """The hosts in a file, a line each.

    Raises:
        AdshiftError: it is not readable, or names none.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = f"--cluster ssh:{file}: not readable ({in_line(error)})"
        raise AdshiftError(message, "a file with a host a line") from None
    hosts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not hosts:
        raise AdshiftError(f"--cluster ssh:{file}: names no host", "write a host a line")
    return hosts


def _ssh(file: str) -> Any:
    from distributed import SSHCluster

    first, *others = _hosts(file)
    hosts = [first, first, *others]  # the scheduler's, then the workers'
    return SSHCluster(hosts, worker_options={"nthreads": 1}, scheduler_options={"dashboard_address": None})
