"""The data sets, one adapter each, found by name. All become manifests (`adshift.data.manifest`), checked by one scan.

An adapter is a module with

    classes_under(root)                  names of the classes that lie there
    candidates(root, name)               -> (candidates of a class, problems found while listing)
    LAYOUT                               what a root is to hold, in words
    EMPTY_MASKS                          whether a defective image may have a mask without a pixel
    PUBLISHED                            {class: (training, normal test, defective test images)} as its authors count
                                         them, where they do, for `adshift fetch`; a root may hold less
    generate(classes, out)               only for a set that is made, not found: writes it to `out/CLASS/...`,
    TRAIN                                and makes so many normal training images a class

A new data set is such a file and a line in `adshift.data.registry`.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from adshift.data import images
from adshift.data.manifest import GOOD, Item
from adshift.data.registry import DATASETS as REGISTRY
from adshift.data.settings import Recorded
from adshift.data.shapes import Proposal, propose
from adshift.data.shift.recorded import assign
from adshift.errors import AdshiftError
from adshift.project.paths import DOMAINS
from adshift.runtime import parallel

PROBLEMS_SHOWN = 10
SAMPLED = 200  # images at least, where there are so many, that propose the input's shape
COMPANIONS = (".txt", ".md", ".json", ".csv", ".xml", ".db", ".ini")  # lie beside images and are no samples


@dataclass(frozen=True)
class Candidate:
    """An image as it lies on disk, not opened yet.

    Attributes:
        part: `train`, `val` or `test`, as the data set has it.
        defect: its type, `GOOD` for a normal image.
        image, mask: paths; the mask is none for a normal image.
        key: what tells it from the others of its part and defect, without a slash; empty for the file's stem.
    """

    part: str
    defect: str
    image: Path
    mask: Path | None = None
    key: str = ""

    @property
    def name(self) -> str:
        return f"{self.part}/{self.defect}/{self.key or self.image.stem}"


Listing = tuple[list[Candidate], list[str]]  # and the problems met on the way


def classes_under(name: str, root: str) -> list[str]:
    """Classes of the data set `name` under `root`, sorted.

    Raises:
        AdshiftError: there is no such data set or root, or no class in it.
    """
    adapter = _adapter(name)
    if not os.path.exists(root):  # noqa: PTH110  (false for a name that is too long, where Path's own raises)
        raise AdshiftError(f"dataset.root: {root} does not exist", "set it to the folder that holds the data set")
    found = adapter.classes_under(Path(root))
    if not found:
        raise AdshiftError(f"dataset.root: {root} is no {name} data set", f"it is to hold {adapter.LAYOUT}")
    return sorted(found)


def layout(name: str) -> str:
    """What a root of the data set `name` is to hold, in words."""
    return str(_adapter(name).LAYOUT)


def check(name: str, root: str, classes: Sequence[str]) -> dict[str, Counter[str]]:
    """Look for what is missing or out of place without opening an image: quick, for before hours of work.

    Returns:
        How many normal images each class has in each part.

    Raises:
        AdshiftError: naming up to `PROBLEMS_SHOWN` problems.
    """
    available = classes_under(name, root)
    if missing := [wanted for wanted in classes if wanted not in available]:
        what = f"classes: {', '.join(missing)} not found under {root}"
        raise AdshiftError(what, f"choose from {', '.join(available)}")
    if hasattr(adapter := _adapter(name), "generate"):
        return {chosen: Counter(train=adapter.TRAIN) for chosen in classes}
    return {chosen: _normal(rows) for chosen, rows in _list(name, Path(root), classes).items()}


def domains(name: str, root: str, classes: Sequence[str], settings: Recorded) -> dict[str, Counter[str]]:
    """What `check` returns, of every class's clean and shifted domain, where drift was recorded.

    Raises:
        AdshiftError: as `check` and `shift.recorded.assign` do, or the set is made and so nothing was recorded.
    """
    if hasattr(_adapter(name), "generate"):
        raise AdshiftError(f"params.yaml: shift.kind: recorded, but {name} is made here", "set shift.kind: synthetic")
    found = {}
    for chosen, rows in _list(name, Path(root), classes).items():
        for domain, part in zip(DOMAINS, assign(rows, settings, chosen), strict=True):
            found[f"{chosen}, {domain} domain"] = _normal(part)
    return found


def counts(name: str, root: str) -> dict[str, tuple[int, int, int]]:
    """{class: (training, normal test, defective test images)} of all classes under `root`. Errors as `check`'s."""
    listed = _list(name, Path(root), classes_under(name, root))
    normal = {chosen: _normal(rows) for chosen, rows in listed.items()}
    return {
        chosen: (normal[chosen]["train"], normal[chosen]["test"], sum(row.defect != GOOD for row in rows))
        for chosen, rows in listed.items()
    }


def proposal(name: str, root: str, classes: Sequence[str]) -> Proposal | None:
    """The shape of the network's input that suits the images of these classes, a sample of them; None if none is there.

    Raises:
        AdshiftError: as `check` does.
    """
    if hasattr(_adapter(name), "generate"):
        return None
    files = [row.image for rows in _list(name, Path(root), classes).values() for row in rows]
    shapes = []
    for file in files[:: max(1, len(files) // SAMPLED)]:
        with suppress(AdshiftError):  # the scan will tell
            shapes.append(images.shape_of(file))
    return propose(shapes) if shapes else None


def incomplete(name: str, root: str) -> list[str]:
    """Where the classes under `root` differ from what the authors of the data set count, in words.

    Raises:
        AdshiftError: as `check` does.
    """
    published, found = getattr(_adapter(name), "PUBLISHED", {}), counts(name, root)
    problems = [f"{root}: class {chosen} is missing" for chosen in published if chosen not in found]
    for chosen, row in found.items():
        if row != (expected := published.get(chosen, row)):
            problems.append(f"{root}: class {chosen} has {in_words(row)}, published are {in_words(expected)}")
    return problems


def in_words(row: tuple[int, int, int]) -> str:
    """A row of `counts`."""
    return "{} training, {} normal test and {} defective test images".format(*row)


def build(name: str, root: str, classes: Sequence[str], out: Path, home: Path | None = None) -> dict[str, list[Item]]:
    """Open, check and hash every image of `classes`, after making them if the set is a generated one.

    Args:
        name: of the data set, a key of `REGISTRY`.
        root: folder of the raw data as the user wrote it; paths in the manifest begin with it.
        classes: which ones, in any order.
        out: where a generated set writes its images (`out/CLASS/...`); not touched by the others.
        home: what `out` will be renamed to, if it is; the manifest's paths of a generated set begin with it.

    Returns:
        Each class's items, sorted by name.

    Raises:
        AdshiftError: naming up to `PROBLEMS_SHOWN` problems, of all classes together.
    """
    check(name, root, classes)
    adapter = _adapter(name)
    source = written = Path(root)
    if hasattr(adapter, "generate"):
        adapter.generate(classes, out)
        source, written = out, home or out
    found = _list(name, source, classes)
    listed = [(chosen, candidate) for chosen in classes for candidate in found[chosen]]

    scan = partial(_scan, source=source, written=written, empty_masks=adapter.EMPTY_MASKS)
    results = parallel.map_ordered(scan, [candidate for _, candidate in listed], what=f"check {name}")
    _report([problem for result in results if isinstance(result, list) for problem in result], adapter.LAYOUT)
    items: dict[str, list[Item]] = {chosen: [] for chosen in classes}
    for (chosen, _), result in zip(listed, results, strict=True):
        if isinstance(result, Item):
            items[chosen].append(result)
    return {chosen: sorted(rows, key=lambda item: item.name) for chosen, rows in items.items()}


def files_in(folder: Path, suffixes: Sequence[str] = images.SUFFIXES) -> tuple[dict[str, Path], list[str]]:
    """Images of `suffixes` in a folder by stem, sorted, and problems: two files of one stem, what is no image, folders.

    A folder that is not there holds nothing. Hidden files and `COMPANIONS` are passed over.
    """
    found: dict[str, Path] = {}
    problems = []
    for path in entries_of(folder):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or suffix in COMPANIONS:
            continue
        if path.is_dir():
            problems.append(f"{path}: a folder among the images; images lie directly in {folder}")
        elif suffix not in images.SUFFIXES:
            problems.append(f"{path}: not an image that is read here ({' '.join(images.SUFFIXES)})")
        elif suffix in suffixes and path.stem in found:
            problems.append(f"{path}: has the same stem as {found[path.stem].name}; rename one")
        elif suffix in suffixes:
            found[path.stem] = path
    return found, problems


def not_there(paths: Iterable[Path | None], listed_in: Path) -> list[str]:
    """Problems: files that a list of the data set names and that are missing."""
    return [f"{path}: is not there, but listed in {listed_in}" for path in paths if path and not path.is_file()]


def folders_in(folder: Path) -> list[Path]:
    """The visible folders in a folder, sorted; none if it is not there."""
    return [path for path in entries_of(folder) if path.is_dir() and not path.name.startswith(".")]


def entries_of(folder: Path) -> list[Path]:
    """What lies in a folder, sorted; nothing if it is not there.

    Raises:
        AdshiftError: it may not be looked into.
    """
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise AdshiftError(f"{folder}: cannot be read ({error.strerror})", "mend its rights") from None


def _adapter(name: str) -> Any:
    if name not in REGISTRY:
        raise AdshiftError(f"dataset.name: {name!r} is unknown", f"choose from {', '.join(REGISTRY)}")
    return import_module(REGISTRY[name])


def _list(name: str, root: Path, classes: Sequence[str]) -> dict[str, list[Candidate]]:
    adapter = _adapter(name)
    found, problems = {}, []
    for chosen in classes:
        found[chosen], met = adapter.candidates(root, chosen)
        problems += met + [f"{root}: class {chosen} has no {kind}" for kind in _lacking(found[chosen])]
        names, files = (Counter(getattr(one, key) for one in found[chosen]) for key in ("name", "image"))
        problems += [f"{root}: class {chosen} has two images named {one}" for one, count in names.items() if count > 1]
        problems += [f"{one}: stands twice in the split" for one, count in files.items() if count > 1]
        problems += [
            f"{one.image}: has a mask and a defect that is called {GOOD}, as normal images are; rename the defect"
            for one in found[chosen]
            if one.defect == GOOD and one.mask
        ]
        for path in (path for one in found[chosen] for path in (one.image, one.mask) if path):
            if not _is_utf8(str(path)):
                problems.append(f"{str(path)!a}: the name is not UTF-8; rename it")
            elif re.search(r"[\x00-\x1f\x7f]", str(path)):
                problems.append(f"{str(path)!a}: the name holds a control character; rename it")
    _report(problems, adapter.LAYOUT)
    return found


def _normal(candidates: list[Candidate]) -> Counter[str]:
    return Counter(candidate.part for candidate in candidates if candidate.defect == GOOD)


def _lacking(candidates: list[Candidate]) -> list[str]:
    counts = Counter((candidate.part, candidate.defect == GOOD) for candidate in candidates)
    wanted = {
        ("train", True): "normal training images",
        ("test", True): "normal test images",
        ("test", False): "defective test images",
    }
    return [kind for key, kind in wanted.items() if not counts[key]]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _scan(candidate: Candidate, source: Path, written: Path, empty_masks: bool) -> Item | list[str]:
    """The candidate's row of the manifest, or what is wrong with its files."""
    try:
        data = images.read_bytes(candidate.image)
        height, width, _ = images.decode_image(data, candidate.image).shape
        mask_data = images.read_bytes(candidate.mask) if candidate.mask else b""
        mask = images.decode_mask(mask_data, candidate.mask) if candidate.mask else None
    except AdshiftError as error:
        return [error.what]
    problems = []
    if mask is not None and mask.shape != (height, width):
        size = f"{mask.shape[1]}x{mask.shape[0]}"
        problems.append(f"{candidate.mask}: is {size}, but its image {candidate.image} is {width}x{height}")
    if mask is not None and not mask.any() and not empty_masks:
        problems.append(f"{candidate.mask}: marks no pixel of a defective image")
    return problems or Item(
        name=candidate.name,
        part=candidate.part,
        defect=candidate.defect,
        image=(written / candidate.image.relative_to(source)).as_posix(),
        mask=(written / candidate.mask.relative_to(source)).as_posix() if candidate.mask else "",
        sha256=images.digest(data),
        mask_sha256=images.digest(mask_data) if candidate.mask else "",
        width=width,
        height=height,
    )


def _report(problems: list[str], layout: str) -> None:
    if not problems:
        return
    shown = problems[:PROBLEMS_SHOWN]
    if more := len(problems) - len(shown):
        shown.append(f"... and {more} more")
    what = shown[0] if len(shown) == 1 else f"{len(problems)} problems with the data set:\n  " + "\n  ".join(shown)
    raise AdshiftError(what, f"mend what is named and run again, nothing was written; expected is {layout}")
