"""Models by reference: `REPO#METHOD/CLASS/DOMAIN@REV`, fetched through DVC without cloning the study by hand.

REPO is a git repository, a path or a URL; REV a commit, branch or tag of it, its default branch's head if not given.
The data set is the one of params.yaml at REV, unless it is given: `REPO#DATASET/METHOD/CLASS/DOMAIN`. The unified
model of a method is METHOD/unified/clean. Fetched models are verified and kept in `$XDG_CACHE_HOME/adshift/models`
(`~/.cache` if it is not set), one folder per commit and model. A model is fetched again only if one of its files has
changed.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adshift.deploy.package import FILES
from adshift.errors import AdshiftError
from adshift.runtime.files import output, read_json, write_json

FORM = "REPO#METHOD/CLASS/DOMAIN@REV, REPO#DATASET/METHOD/CLASS/DOMAIN@REV, or either without @REV"
ORIGIN = "origin.json"  # beside a model: its source, and the MD5 of its files


@dataclass(frozen=True)
class Address:
    """The parts of a reference.

    Attributes:
        repo: path or URL.
        parts: METHOD, CLASS, DOMAIN, with or without the data set before them.
        rev: git revision, `HEAD` for the newest.
    """

    repo: str
    parts: tuple[str, ...]
    rev: str

    @classmethod
    def of(cls, reference: str) -> "Address":
        """Parse a reference.

        Raises:
            AdshiftError: it is not a reference.
        """
        repo, _, rest = reference.rpartition("#")
        model, _, rev = rest.partition("@")
        parts = tuple(model.split("/"))
        named = all(re.fullmatch(r"\w+", part) for part in parts)  # no part can lead out of the folder
        if not repo or len(parts) not in (3, 4) or not named or ("@" in rest and not rev) or rev.startswith("-"):
            raise AdshiftError(f"{reference}: no reference to a model", f"write {FORM}")
        return cls(str(Path(repo).resolve()) if Path(repo).is_dir() else repo, parts, rev or "HEAD")


def is_reference(model: str) -> bool:
    """Whether it is a reference, not a path."""
    return "#" in model and not Path(model).exists()


def cache_folder(folder: str | Path | None = None) -> Path:
    """The folder of fetched models."""
    if folder is not None:
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adshift" / "models"


def fetch(reference: str, cache: str | Path | None = None) -> Path:
    """Fetch the model directory of a reference, with `origin.json`: repository, commit and path.

    Args:
        reference: see the module.
        cache: folder to keep it in.

    Raises:
        AdshiftError: no such repository, revision or model, or the remote cannot deliver it.
    """
    address = Address.of(reference)
    root = cache_folder(cache)
    if re.fullmatch("[0-9a-f]{40}", address.rev) and (kept := _kept(root, address, address.rev)):
        return kept  # a commit never changes: no request is needed
    try:
        return _fetch(address, root)
    except AdshiftError:
        raise
    except Exception as error:  # DVC, git's clients and those of remotes raise many kinds
        raise _as_adshift_error(address, error) from None


def _folder(root: Path, address: Address, commit: str) -> Path:
    key = "\n".join((address.repo, commit, *address.parts))
    return root / hashlib.sha256(key.encode()).hexdigest()[:32]


def _kept(root: Path, address: Address, commit: str) -> Path | None:
    """The model if it was fetched before and no file has changed since; else None."""
    folder = _folder(root, address, commit)
    try:
        sound = all(_md5(folder / file) == md5 for file, md5 in read_json(folder / ORIGIN)["md5"].items())
    except (AdshiftError, KeyError, OSError):
        return None
    return folder if sound else None


def _fetch(address: Address, root: Path) -> Path:
    from dvc.api import DVCFileSystem

    files = DVCFileSystem(address.repo, rev=address.rev)
    commit = files.repo.get_rev()
    if kept := _kept(root, address, commit):
        return kept
    path = "/".join(("models", *(address.parts if len(address.parts) == 4 else (_dataset(files), *address.parts))))
    files_there = {file: f"{path}/{file}" for file in FILES if files.isfile(f"{path}/{file}")}
    if "model.json" not in files_there:
        message = f"{address.repo}: no model {path} at {address.rev} ({commit[:10]})"
        raise AdshiftError(message, f"choose from: {_known(files)}")
    with output(_folder(root, address, commit)) as folder:
        folder.mkdir()
        hashes = {}
        for file, source in files_there.items():
            files.get_file(source, str(folder / file))
            hashes[file] = _md5(folder / file)
            if hashes[file] != (files.info(source).get("md5") or hashes[file]):  # none for a file in git
                message = f"{file} of {address.repo} is damaged: its content is not what dvc.lock says"
                raise AdshiftError(message, "whoever trained it: `dvc push` again from a sound cache")
        origin = {"repo": address.repo, "rev": address.rev, "commit": commit, "path": path, "md5": hashes}
        write_json(folder / ORIGIN, origin, checksum=True)
    return _folder(root, address, commit)


def _dataset(files: Any) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return str(YAML(typ="safe", pure=True).load(files.read_text("params.yaml"))["dataset"]["name"])
    except (FileNotFoundError, KeyError, TypeError, YAMLError) as error:
        message = (
            f"{files.repo_url or files.repo.root_dir}: no dataset.name in its params.yaml ({type(error).__name__})"
        )
        raise AdshiftError(message, "name the data set: REPO#DATASET/METHOD/CLASS/DOMAIN") from None


def _known(files: Any) -> str:
    folders = sorted(path.removeprefix("/").removeprefix("models/") for path in files.glob("models/*/*/*/*"))
    return ", ".join(folders[:40]) or "none: `dvc repro package` makes them, `dvc push` and `git push` share them"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


REASONS = {
    "CloneError": ("cannot be cloned", "check the path or URL, the network, and your rights"),
    "RevError": ("has no such revision", "name a commit, branch or tag of it"),
    "NotDvcRepoError": ("is no project of DVC", "name the repository of a study"),
    "FileNotFoundError": ("has its files neither in a cache nor in a remote", "there: `dvc remote add -d`, `dvc push`"),
    "SCMError": ("is no git repository", "name the repository of a study"),
}  # fmt: skip


def _as_adshift_error(address: Address, error: Exception) -> AdshiftError:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    kinds = {kind.__name__ for one in chain for kind in type(one).__mro__}
    for kind, (what, remedy) in REASONS.items():
        if kind in kinds:
            return AdshiftError(f"{address.repo} at {address.rev}: {what}", remedy)
    message = " ".join(f"{type(error).__name__}: {error}".split())
    return AdshiftError(
        f"{address.repo} at {address.rev}: cannot be read ({message})", "check the network and the remote"
    )
