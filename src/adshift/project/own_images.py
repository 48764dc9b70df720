"""The user's own images: from folders on the command line to the section `dataset` of params.yaml."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adshift.data import datasets
from adshift.data.settings import Folder
from adshift.errors import AdshiftError

OUTPUTS = ("data", "models", "metrics", "plots", "report", "timings")  # folders that the pipeline writes and replaces
GENERAL = ("good", "normal", "ok", "train", "images")  # names of folders that are no names of classes
CLEAN = "clean"


def absolute(path: str) -> str:
    """An absolute path, with `~` expanded: an experiment runs in its own checkout."""
    return str(Path(os.path.abspath(Path(path).expanduser())))  # noqa: PTH100  (links stay, .. does not)


@dataclass(frozen=True)
class Folders:
    """The arguments of the preset `folder`.

    Attributes:
        normal, defective: folders of images; with `under`, below each class's folder.
        masks: folder of the masks, likewise.
        class_name: of the one class.
        under: folder that holds a folder for each class.
    """

    normal: Sequence[str] = ()
    defective: Sequence[str] = ()
    masks: str | None = None
    class_name: str | None = None
    under: str | None = None

    def values(self) -> dict[str, Any]:
        """The keys of params.yaml.

        Raises:
            AdshiftError: a folder is missing, or the folders have no common folder that DVC could track.
        """
        if self.under is not None:
            return _values(absolute(self.under), self.class_name, self.normal or ["."], self.defective, self.masks)
        if not self.normal:
            raise AdshiftError(
                "preset folder: which images?",
                "adshift preset folder --normal DIR [--defective DIR] [--masks DIR], or --classes-under DIR",
            )
        given = [*self.normal, *self.defective, *([self.masks] if self.masks else [])]
        for one in given:
            if not Path(absolute(one)).is_dir():
                raise AdshiftError(f"{one}: no such folder", "name folders that are there")
        root = os.path.commonpath([absolute(one) for one in given])
        home = str(Path.home())
        if root in (os.sep, home) or home.startswith(root + os.sep):
            raise AdshiftError(
                f"{' '.join(given)}: the folder that they share is {root}, and DVC would read all that is in it",
                "bring them into one folder, or write a list: adshift preset list --data-root FILE.csv",
            )
        below = [os.path.relpath(absolute(one), root) for one in given]
        normal, rest = below[: len(self.normal)], below[len(self.normal) :]
        masks = rest.pop() if self.masks else None
        return _values(root, self.class_name or _named(Path(root)), normal, rest, masks)


def _values(
    root: str, class_name: str | None, normal: Sequence[str], defective: Sequence[str], masks: str | None
) -> dict[str, Any]:
    return {
        "dataset.root": root,
        "dataset.folder.class_name": class_name,
        "dataset.folder.normal": list(dict.fromkeys(normal)),
        "dataset.folder.defective": list(dict.fromkeys(defective)),
        "dataset.folder.masks": masks,
    }


def _named(folder: Path) -> str:
    """The name of a class, from its folder."""
    return next((one.name for one in (folder, *folder.parents) if one.name.lower() not in (*GENERAL, "")), "images")


def source(values: Mapping[str, Any]) -> tuple[str, str, Folder]:
    """Name, root and section `folder` of the data set among a preset's values."""
    folder = Folder.of({name: values[f"dataset.folder.{name}"] for name in Folder.model_fields})
    return values["dataset.name"], values["dataset.root"], folder


def check_root(root: str) -> None:
    """Refuse a root that the pipeline writes into, or that holds the project: images would be lost or count as changed.

    Raises:
        AdshiftError: naming both folders.
    """
    try:
        here, there = Path.cwd().resolve(), Path(root).expanduser().resolve()
    except (OSError, RuntimeError, ValueError):
        return  # an invalid path: `datasets.check` raises
    for output in (here / name for name in OUTPUTS):
        if there == output or output in there.parents:
            raise AdshiftError(
                f"dataset.root: {root} lies in {output.name}/, which the pipeline writes and `make clean` empties",
                "move the images to another folder, such as raw/",
            )
    if there == here or there in here.parents:
        raise AdshiftError(
            f"dataset.root: {root} holds this project, so that its outputs would count as images",
            "name the folder of the images alone",
        )


def check_each(name: str, root: str, classes: Sequence[str], folder: Folder | None = None) -> None:
    """Check the classes. If some are valid and others are not, the remedy says how to use the valid ones.

    Raises:
        AdshiftError: as `datasets.check`.
    """
    try:
        datasets.check(name, root, classes, folder)
    except AdshiftError as error:
        fine = [one for one in classes if _is_fine(name, root, one, folder)]
        if not fine or len(classes) == 1:
            raise
        raise AdshiftError(error.what, f"{error.remedy}; or the others alone: --classes {','.join(fine)}") from None


def _is_fine(name: str, root: str, one: str, folder: Folder | None) -> bool:
    try:
        datasets.check(name, root, [one], folder)
    except AdshiftError:
        return False
    return True


def columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that follow from the columns `group` and `domain` of a list.

    The clean domain is `clean`, or the first in the list; all others are shifted.
    """
    if values["dataset.name"] != "list":
        return {}
    listings = datasets.listings("list", values["dataset.root"], values["classes"])
    rows = [image.listed for listing in listings.values() for image in listing.images]
    wanted: dict[str, Any] = {"split.group": "group"} if any(row.get("group") for row in rows) else {}
    domains = list(dict.fromkeys(row["domain"] for row in rows if row.get("domain")))
    clean = CLEAN if CLEAN in domains else domains[0] if domains else ""
    shifted = [one for one in domains if one != clean]
    if shifted:
        wanted |= {
            "shift.kind": "recorded",
            "shift.recorded.column": "domain",
            "shift.recorded.pattern": "(.*)",
            "shift.recorded.shifted": shifted,
        }
    return wanted
