"""Find damaged outputs of the pipeline and damaged objects of DVC's cache by their content, and remove them.

DVC reads a file's content once. Later it trusts the file's time and size, and always trusts a write-protected cache
object. So it does not notice a flipped byte on the disk, and `dvc checkout` may restore it. Here every file in the two
dvc.lock is read and compared with its hash. Damaged files and damaged objects of the cache are removed. `dvc repro`
then restores one from the other, or makes both again.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adshift.errors import AdshiftError

LOCKS = (Path("dvc.lock"), Path("pipeline/dvc.lock"))
CACHE = "files/md5"


def locks() -> list[str]:
    """Rename lock files that a killed DVC left half-written and cannot read; returns a line for each.

    Without a dvc.lock the next `dvc repro` restores most outputs from its run cache. DVC's own lock is taken first, so
    that no file is examined while DVC writes it.

    Raises:
        AdshiftError: another DVC is at work.
    """
    kinds = (*((lock, _is_lock) for lock in LOCKS), (Path(".dvc/tmp/rwlock"), _is_json))
    lines = []
    if any(path.is_file() and not readable(path) for path, readable in kinds):
        with _nobody_else():
            for path, readable in kinds:
                if path.is_file() and not readable(path):
                    path.replace(path.with_name(f"{path.name}.damaged"))
                    lines.append(f"{path}: half-written, set aside as {path.name}.damaged")
    return lines


@contextmanager
def _nobody_else() -> Iterator[None]:
    """Hold DVC's lock, which DVC itself releases while a stage runs."""
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo() as repo, repo.lock:
            yield
    except LockError:
        raise AdshiftError("another DVC is at work here", "wait until it has ended, then run it again") from None


def repair() -> list[str]:
    """Remove damaged outputs and cache objects; returns a line for each, in the order of `LOCKS`.

    An output that changed after its dvc.lock was written counts as damaged too: do not run it beside a pipeline run.

    Raises:
        AdshiftError: this is no DVC project, or another DVC is at work.
    """
    if not Path(".dvc").is_dir():
        raise AdshiftError(f"{Path.cwd()}: no DVC project", "go to the folder of params.yaml")
    lines, cache = locks(), _cache()
    for path, md5 in _outputs():
        _remove_damaged(_object(cache, md5), md5.removesuffix(".dir"), lines)
        for file, expected in _files(cache, path, md5):
            _remove_damaged(file, expected, lines)
            if file != path:
                _remove_damaged(_object(cache, expected), expected, lines)
    return lines


def _remove_damaged(file: Path, expected: str, lines: list[str]) -> None:
    if file.is_file() and _md5(file) != expected:
        file.unlink()
        lines.append(f"{file}: damaged, removed")


def _outputs() -> list[tuple[Path, str]]:
    """Outputs and their hashes. If both dvc.lock name an output because its stage has moved, the root's is old."""
    stages = [stage for lock in LOCKS if lock.is_file() for stage in _read_lock(lock).get("stages", {}).values()]
    outs = {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", ()) if "md5" in out}
    return [(Path(path), md5) for path, md5 in outs.items()]


def _files(cache: Path, path: Path, md5: str) -> Iterator[tuple[Path, str]]:
    """Files of an output with their hashes; for a folder, from its listing in the cache, if it exists."""
    if not md5.endswith(".dir"):
        yield path, md5
    elif (listing := _object(cache, md5)).is_file():
        for entry in json.loads(listing.read_text(encoding="utf-8")):
            yield path / entry["relpath"], entry["md5"]


def _cache() -> Path:
    from dvc.repo import Repo

    with Repo() as repo:
        return Path(repo.cache.local.path)


def _object(cache: Path, md5: str) -> Path:
    return cache / md5[:2] / md5[2:]


def _md5(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _read_lock(path: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML

    return dict(YAML(typ="safe").load(path.read_text(encoding="utf-8")))


def _is_lock(path: Path) -> bool:
    """Whether DVC can read the lock file: a mapping of stages, each with a command."""
    from ruamel.yaml.error import YAMLError

    try:
        stages = _read_lock(path)["stages"]
        return all(isinstance(stage, dict) and "cmd" in stage for stage in stages.values())
    except (YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True
