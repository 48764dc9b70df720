"""`adshift repro`: run independent stages at the same time, here or on a cluster, and print one line per stage.

`dvc repro` runs one stage at a time. `project.driver` runs those whose inputs are ready together, in one DVC process. A
plain `dvc repro` at the end decides whether everything is up to date.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from adshift.errors import AdshiftError
from adshift.project import params, presets, repair
from adshift.project.board import Board, addresses
from adshift.project.cluster import engines, sole
from adshift.runtime import device, versions

WAITING = 64  # heavy stages handed to a cluster at once, at least
HINT = "to keep this state: git add -A && git commit; to share the outputs: dvc push"


def repro(jobs: int, names: Sequence[str] = (), cluster: str = "") -> int:
    """Bring the pipeline up to date with up to `jobs` stages at once.

    Args:
        jobs: stages at once, at least 1.
        names: stages to run, with their dependencies: `fit@padim-nut-clean`, or `fit` for all its items; empty for all.
        cluster: whose workers run the heavy stages (`engines.FORMS`); empty for this machine.

    Returns:
        DVC's exit code.

    Raises:
        AdshiftError: `jobs` is not positive, params.yaml is not valid, a stage is unknown, another head is at work, or
            device or cluster are not to be had.
    """
    if jobs < 1:
        raise AdshiftError(f"--jobs {jobs}", "at least 1")
    params.check_folder()
    if cluster:
        engines.check(cluster)
    else:
        device.check()
    with sole.head(bool(cluster)):
        return _repro(jobs, names, cluster)


def _repro(jobs: int, names: Sequence[str], cluster: str) -> int:
    for line in repair.locks():
        print(line, file=sys.stderr)
    for line in presets.derive():
        print(line, file=sys.stderr)
    settings = params.load_all()  # DVC reads it for dvc.yaml before the stage `check` runs, and its errors name no key
    if settings.features.weights:
        from adshift.project.checks import check_weights

        check_weights(settings.features)
    params.check_git()
    waiting = _inputs()
    targets = addresses(names, list(waiting))
    if targets:
        waiting = _needed(waiting, targets)
    with Board(len(waiting)) as board:
        if lines := versions.changes():
            print(*lines, sep="\n", file=sys.stderr)
            # DVC does not track installed packages.
            if code := board.dvc("repro", "--force", "--single-item", "sources"):
                return code
        together = jobs > 1 or cluster
        stale = together and subprocess.run(["dvc", "status", "--quiet", *targets], check=False).returncode != 0
        code = (_together(jobs, list(waiting), cluster, board) if stale else 0) or board.dvc("repro", *targets)
    if code == 0 and board.ran:
        print(HINT)
    return code


def _needed(inputs: dict[str, set[str]], targets: Sequence[str]) -> dict[str, set[str]]:
    """The targets and their direct and indirect dependencies, with their inputs."""
    needed: set[str] = set()
    more = list(targets)
    while more:
        if (name := more.pop()) not in needed:
            needed.add(name)
            more += inputs[name]
    return {name: others for name, others in inputs.items() if name in needed}


def _together(jobs: int, names: Sequence[str], where: str, board: Board) -> int:
    """Run stages at the same time, here or on a cluster."""
    here = len(os.sched_getaffinity(0))
    if not where:
        processors = 0 if os.environ.get("ADSHIFT_THREADS") else here
        return board.drive({"jobs": jobs, "here": jobs, "processors": processors, "names": names})

    with headed(where) as (slots, environment):
        board.write(f"cluster: {slots} stages at once, on {where}")
        # Workers may come later: Dask keeps what waits for them.
        asked = {"jobs": max(slots, WAITING) + here, "here": here, "processors": 0, "names": names}
        return board.drive(asked, environment)


@contextmanager
def headed(where: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Within: this process is the head of a cluster.

    Gives the number of stages that its workers run at once, and the variables with which heavy stages go there.

    Raises:
        AdshiftError: the cluster is not to be had, or its workers cannot run the stages.
    """
    with engines.opened(where) as client:
        from adshift.project.cluster.head import Head

        head = Head(client, _outputs)
        with head.listening() as environment:
            yield head.slots, environment


def _inputs() -> dict[str, set[str]]:
    """{stage: the stages whose outputs it depends on}, file by file, in the order of each."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        index = Repo().index
        graph = index.graph
    except DvcException as error:
        raise AdshiftError(f"dvc.yaml: {error}", "correct it, or params.yaml, whose values it uses") from None
    return {stage.addressing: {other.addressing for other in graph.successors(stage)} for stage in index.stages}


def _outputs(folder: str) -> dict[str, list[str]]:
    """{stage: its outputs} of the project in a folder."""
    from dvc.repo import Repo

    def address(stage: Any) -> str:
        """What DVC calls the stage in this folder, which need not be the working directory."""
        file = os.path.relpath(stage.path, folder)
        return str(stage.name) if file == "dvc.yaml" else f"{file}:{stage.name}"

    stages = Repo(folder).index.stages
    return {address(stage): [os.path.relpath(out.fs_path, folder) for out in stage.outs] for stage in stages}
