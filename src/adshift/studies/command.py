"""`adshift study run` and `adshift study table`."""

from collections.abc import Sequence
from contextlib import ExitStack

from adshift.data.registry import DATASETS
from adshift.errors import AdshiftError
from adshift.project.cluster import engines, sole
from adshift.project.jobs import headed
from adshift.studies import declare, queue, results


def study(
    name: str, preset: str | None, roots: Sequence[str], changes: Sequence[str], jobs: int | None, cluster: str = ""
) -> None:
    """Run the missing experiments of a study, `jobs` at once (None: run nothing), and write the results so far.

    Args:
        name: of studies/NAME.yaml.
        preset: in place of the study's own.
        roots: `[DATASET=]DIR`.
        changes: `KEY=VALUE`; they replace the study's settings, and its points and grid replace them.
        jobs: experiments at once.
        cluster: whose workers run the heavy stages; empty for this machine.

    Raises:
        AdshiftError: the study or its data are not valid, the cluster is not to be had, or an experiment failed.
    """
    if jobs is not None and jobs < 1:
        raise AdshiftError(f"--jobs {jobs}", "at least 1")
    if cluster:
        engines.check(cluster)
    declared = declare.read(name)
    if preset:
        if any(point.preset for point in declared.points):
            raise AdshiftError(f"--preset {preset}: each point of {name} has its own", "leave it out")
        declared, name = declared.model_copy(update={"preset": preset}), f"{name}-{preset}"
    declared = declare.changed(name, declared, changes)
    experiments = declare.expand(name, declared, roots_of(name, declared, roots), declare.code_identity())
    dvc, failures = queue.DvcQueue(), dict[str, str]()
    if jobs is not None:
        with ExitStack() as stack:
            if cluster:
                stack.enter_context(sole.head(True))
                slots, dvc.environment = stack.enter_context(headed(cluster))
                print(f"cluster: {slots} stages at once, on {cluster}")
            failures = _run(experiments, dvc, jobs)
    rows = results.collect(declared, experiments, dvc.finished())
    print(f"written: {results.write(name, declared, experiments, rows)}")
    if failures:
        raise AdshiftError(
            f"study {name}: failed: {', '.join(failures)}", "`dvc queue logs EXPERIMENT`; then the same command again"
        )


def _run(experiments: Sequence[declare.Experiment], dvc: queue.DvcQueue, jobs: int) -> dict[str, str]:
    """Run the missing ones; {experiment that failed: last lines of what it printed}."""
    from tqdm import tqdm

    # On a terminal the bar stays under the lines; elsewhere there are lines alone.
    with tqdm(total=len({one.name for one in experiments}), unit="experiment", disable=None, leave=False) as bar:

        def tell(line: str, ended: int) -> None:
            tqdm.write(line)
            bar.update(ended - bar.n)

        return queue.run(experiments, dvc, jobs, tell)


def roots_of(name: str, declared: declare.Study, given: Sequence[str]) -> dict[str, str]:
    """{data set: folder} from the values of --data-root; a folder alone belongs to the study's only data set.

    Raises:
        AdshiftError: a data set is unknown, or a folder has none.
    """
    from adshift.project.presets import PRESETS

    used = {
        PRESETS[preset]["dataset.name"]
        for preset in [declared.preset, *(point.preset for point in declared.points)]
        if preset
    }
    roots = {}
    for text in given:
        dataset, equals, folder = text.partition("=")
        if not equals:
            if len(used) != 1:
                several = ", ".join(sorted(used)) or "params.yaml's"
                message = f"--data-root {text}: of which data set? study {name} uses {several}"
                raise AdshiftError(message, "--data-root DATASET=DIR")
            dataset, folder = *used, text
        if dataset not in DATASETS:
            raise AdshiftError(f"--data-root {text}: no data set {dataset}", f"one of {', '.join(DATASETS)}")
        roots[dataset] = folder
    return roots
