"""Parameters and data that have changed since a stage ran."""

from pathlib import Path

from adshift.errors import AdshiftError
from adshift.project import params
from adshift.project.paths import SOURCES

CODE = ("src/", "stages/", str(SOURCES))  # a change of code is no change of parameters or data


def changed_since(stage: str) -> list[str]:
    """Parameters and data that changed after a stage's outputs were made, as DVC names them.

    All stages before it are examined, since an interrupted run may have re-run some of them. Missing files, as in a
    clone without `dvc pull`, and changes of code do not count.

    Raises:
        AdshiftError: this is no DVC project, params.yaml or a dvc.lock cannot be read, or another DVC is at work.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo

    params.load_all()  # DVC names no key
    try:
        with Repo() as repo:
            status = repo.status(targets=[stage], with_deps=True)
    except NotDvcRepoError:
        raise AdshiftError(f"{Path.cwd()}: no DVC project", "go to the folder of params.yaml") from None
    except LockError:
        raise AdshiftError("another DVC is at work here", "wait until it has ended, then run it again") from None
    except DvcException as error:
        raise AdshiftError(f"DVC cannot tell: {error}", "`dvc status` says more; `adshift repair`") from None
    keys, paths, commands = set[str](), set[str](), set[str]()
    for name, entries in status.items():
        for entry in entries:
            if isinstance(entry, str):  # "changed command": it holds the seed and the data set's name
                commands.add(f"{entry.removeprefix('changed ')} of {name}")
                continue
            for path, change in (pair for group in entry.values() for pair in group.items()):
                if isinstance(change, dict):
                    keys |= set(change)
                elif change in ("modified", "new") and not path.startswith(CODE):  # not: deleted, not in cache
                    paths.add(path)
    return [*sorted(keys), *sorted(paths), *sorted(commands)]
