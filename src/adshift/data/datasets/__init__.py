"""The data sets, one adapter each, found by name. All become manifests (`adshift.data.manifest`), checked by one scan.

An adapter is a module with

    classes_under(root)                  names of the classes that lie there
    candidates(root, name)               -> the `Listing` of a class
    LAYOUT                               what a root is to hold, in words
    EMPTY_MASKS                          whether a defective image may have a mask without a pixel
    WHOLE                                only where its classes may lack test images of either kind: False
    PUBLISHED                            {class: (training, normal test, defective test images)} as its authors count
                                         them, where they do, for `adshift fetch`; a root may hold less
    generate(classes, out)               only for a set that is made, not found: writes it to `out/CLASS/...`,
    TRAIN, TEST_GOOD, TEST_DEFECTIVE     and makes so many images a class
    adapter(settings)                    only where `dataset.folder` of params.yaml describes it: gives all of these

A new data set is such a file and a line in `adshift.data.registry`. Classes are called here as in params.yaml and in
paths (`adshift.data.class_names`); adapters know them by their folders.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from adshift.data import findings, images
from adshift.data.class_names import by_slug, same
from adshift.data.findings import Facts
from adshift.data.listing import Candidate, Listing
from adshift.data.manifest import GOOD, Item
from adshift.data.registry import DATASETS as REGISTRY
from adshift.data.settings import NO_FOLDER, Folder, Recorded
from adshift.data.shift.recorded import assign
from adshift.errors import AdshiftError, warn
from adshift.project.paths import DOMAINS
from adshift.runtime import parallel

PROBLEMS_SHOWN = 10


def classes_under(name: str, root: str, folder: Folder | None = None) -> list[str]:
    """Classes of the data set `name` under `root`, sorted. Errors as `class_names`'s."""
    return list(class_names(name, root, folder))


def class_names(name: str, root: str, folder: Folder | None = None) -> dict[str, str]:
    """{class: what its folder is called}, sorted.

    Raises:
        AdshiftError: there is no such data set or root, or no class in it.
    """
    return {slug: names[0] for slug, names in _classes(name, root, folder).items()}


def _classes(name: str, root: str, folder: Folder | None) -> dict[str, list[str]]:
    adapter = _adapter(name, folder)
    if not os.path.exists(root):  # noqa: PTH110  (false for a name that is too long, where Path's own raises)
        raise AdshiftError(f"dataset.root: {root} does not exist", "set it to the folder that holds the data set")
    names = adapter.classes_under(Path(root))
    if not names:
        raise AdshiftError(f"dataset.root: {root} is no {name} data set", f"it is to hold {adapter.LAYOUT}")
    return by_slug(names)


def layout(name: str) -> str:
    """What a root of the data set `name` is to hold, in words."""
    return str(_adapter(name).LAYOUT)


def check(name: str, root: str, classes: Sequence[str], folder: Folder | None = None) -> dict[str, Counter[str]]:
    """Look for what is missing or out of place without opening an image: quick, for before hours of work.

    Returns:
        How many normal images each class has in each part.

    Raises:
        AdshiftError: naming up to `PROBLEMS_SHOWN` problems.
    """
    if counted := made(name, root, classes, folder):
        train, good, _ = counted
        return {one: Counter(train=train, test=good) for one in classes}
    return {one: _normal(listing.images) for one, listing in listings(name, root, classes, folder).items()}


def made(name: str, root: str, classes: Sequence[str], folder: Folder | None = None) -> tuple[int, int, int] | None:
    """How many images (training, normal test, defective test) of each class are made; None for a set that is found.

    Raises:
        AdshiftError: a class is not there.
    """
    adapter = _adapter(name, folder)
    if not hasattr(adapter, "generate"):
        return None
    chosen(name, root, classes, folder)
    return adapter.TRAIN, adapter.TEST_GOOD, adapter.TEST_DEFECTIVE


def domains(
    name: str, root: str, classes: Sequence[str], settings: Recorded, folder: Folder | None = None
) -> dict[str, Counter[str]]:
    """What `check` returns, of every class's clean and shifted domain, where drift was recorded.

    Raises:
        AdshiftError: as `check` and `shift.recorded.assign` do, or the set is made and so nothing was recorded.
    """
    if hasattr(_adapter(name, folder), "generate"):
        raise AdshiftError(f"params.yaml: shift.kind: recorded, but {name} is made here", "set shift.kind: synthetic")
    counted = {}
    for chosen, listing in listings(name, root, classes, folder).items():
        for domain, part in zip(DOMAINS, assign(listing.images, settings, chosen), strict=True):
            counted[f"{chosen}, {domain} domain"] = _normal(part)
    return counted


def counts(name: str, root: str) -> dict[str, tuple[int, int, int]]:
    """{class: (training, normal test, defective test images)} of all classes under `root`. Errors as `check`'s."""
    listed = listings(name, root, classes_under(name, root))
    return {
        chosen: (len(listing.of_part("train")), len(listing.of_part("test")), len(listing.defective()))
        for chosen, listing in listed.items()
    }


def incomplete(name: str, root: str) -> list[str]:
    """Where the classes under `root` differ from what the authors of the data set count, in words.

    Raises:
        AdshiftError: as `check` does.
    """
    published, counted = getattr(_adapter(name), "PUBLISHED", {}), counts(name, root)
    problems = [f"{root}: class {chosen} is missing" for chosen in published if chosen not in counted]
    for chosen, row in counted.items():
        if row != (expected := published.get(chosen, row)):
            problems.append(f"{root}: class {chosen} has {in_words(row)}, published are {in_words(expected)}")
    return problems


def in_words(row: tuple[int, int, int]) -> str:
    """A row of `counts`."""
    return "{} training, {} normal test and {} defective test images".format(*row)


def build(
    name: str,
    root: str,
    classes: Sequence[str],
    out: Path,
    home: Path | None = None,
    folder: Folder | None = None,
    bits: int | Literal["auto"] = "auto",
) -> dict[str, list[Item]]:
    """Open, check and hash every image of `classes`, after making them if the set is a generated one.

    What looks wrong but may be right is warned of (`adshift.data.findings`).

    Args:
        name: of the data set, a key of `REGISTRY`.
        root: folder of the raw data as the user wrote it; paths in the manifest begin with it.
        classes: which ones, in any order.
        out: where a generated set writes its images (`out/CLASS/...`); not touched by the others.
        home: what `out` will be renamed to, if it is; the manifest's paths of a generated set begin with it.
        folder: of the data set `folder`, what lies where.
        bits: of the camera; `auto` takes the smallest usual depth that holds the largest value of all images.

    Returns:
        Each class's items, sorted by name.

    Raises:
        AdshiftError: naming up to `PROBLEMS_SHOWN` problems, of all classes together.
    """
    adapter = _adapter(name, folder)
    check(name, root, classes, folder)
    moved = None
    if hasattr(adapter, "generate"):
        adapter.generate(classes, out)
        moved = out, home or out
        listed = _listed(adapter, out, {chosen: chosen for chosen in classes})
    else:
        listed = listings(name, root, classes, folder)
    candidates = [(chosen, candidate) for chosen in classes for candidate in listed[chosen].images]

    scan = partial(_scan, moved=moved, empty_masks=adapter.EMPTY_MASKS)
    results = parallel.map_ordered(scan, [candidate for _, candidate in candidates], what=f"check {name}")
    _report([problem for result in results if isinstance(result, list) for problem in result], adapter.LAYOUT)
    scanned: dict[str, list[tuple[Item, Facts]]] = {chosen: [] for chosen in classes}
    for (chosen, _), result in zip(candidates, results, strict=True):
        if isinstance(result, tuple):
            scanned[chosen].append(result)
    depth = findings.camera_bits(scanned) if bits == "auto" else bits
    for line in findings.warnings(scanned, depth):
        warn(line)
    items = {chosen: [replace(item, bits=depth) for item, _ in rows] for chosen, rows in scanned.items()}
    return {chosen: sorted(rows, key=lambda item: item.name) for chosen, rows in items.items()}


def listings(name: str, root: str, classes: Sequence[str], folder: Folder | None = None) -> dict[str, Listing]:
    """What lies of each of `classes`, of a set that is not made here.

    Raises:
        AdshiftError: naming up to `PROBLEMS_SHOWN` problems.
    """
    return _listed(_adapter(name, folder), Path(root), chosen(name, root, classes, folder))


def _adapter(name: str, folder: Folder | None = None) -> Any:
    if name not in REGISTRY:
        raise AdshiftError(f"dataset.name: {name!r} is unknown", f"choose from {', '.join(REGISTRY)}")
    module = import_module(REGISTRY[name])
    return module.adapter(folder or NO_FOLDER) if hasattr(module, "adapter") else module


def chosen(name: str, root: str, classes: Sequence[str], folder: Folder | None = None) -> dict[str, str]:
    """{class: its folder's name} of these classes, which params.yaml may call by their folders too.

    Raises:
        AdshiftError: one is not there, or cannot be told from another in paths.
    """
    available = _classes(name, root, folder)
    by_name = {same(one): one for names in available.values() for one in names}
    if missing := [wanted for wanted in classes if wanted not in available and same(wanted) not in by_name]:
        message = f"classes: {', '.join(missing)} not found under {root}"
        raise AdshiftError(message, f"choose from {', '.join(available)}")
    folders = {wanted: available.get(wanted) or [by_name[same(wanted)]] for wanted in classes}
    for wanted, names in folders.items():
        if len(names) > 1:
            message = f"classes: {' and '.join(names)} under {root} are both called {wanted} in paths"
            raise AdshiftError(message, f"rename the folder {names[-1]}")
    return {wanted: names[0] for wanted, names in folders.items()}


def _listed(adapter: Any, root: Path, classes: Mapping[str, str]) -> dict[str, Listing]:
    listed = {chosen: adapter.candidates(root, real) for chosen, real in classes.items()}
    problems = []
    for chosen, listing in listed.items():
        listing.problems += [f"{root}: class {classes[chosen]} has no {kind}" for kind in _lacking(adapter, listing)]
        problems += listing.problems + _odd(root, classes[chosen], listing.images)
    _report(problems, adapter.LAYOUT)
    return listed


def _odd(root: Path, name: str, candidates: Sequence[Candidate]) -> list[str]:
    """Names that stand twice or that no manifest can hold."""
    names, files = (Counter(getattr(one, key) for one in candidates) for key in ("name", "image"))
    problems = [f"{root}: class {name} has two images named {one}" for one, count in names.items() if count > 1]
    problems += [f"{one}: stands twice in the split" for one, count in files.items() if count > 1]
    problems += [
        f"{one.image}: has a mask and a defect that is called {GOOD}, as normal images are; rename the defect"
        for one in candidates
        if one.defect == GOOD and one.mask
    ]
    for path in (path for one in candidates for path in (one.image, one.mask) if path):
        if not _is_utf8(str(path)):
            problems.append(f"{str(path)!a}: the name is not UTF-8; rename it")
        elif re.search(r"[\x00-\x1f\x7f]", str(path)):
            problems.append(f"{str(path)!a}: the name holds a control character; rename it")
    return problems


def _normal(candidates: Sequence[Candidate]) -> Counter[str]:
    return Counter(candidate.part for candidate in candidates if candidate.defect == GOOD)


def _lacking(adapter: Any, listing: Listing) -> list[str]:
    wanted = {"normal training images": listing.of_part("train")}
    if getattr(adapter, "WHOLE", True):
        defective = [one for one in listing.defective() if one.part == "test"]
        wanted |= {"normal test images": listing.of_part("test"), "defective test images": defective}
    return [kind for kind, images in wanted.items() if not images]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _scan(candidate: Candidate, moved: tuple[Path, Path] | None, empty_masks: bool) -> tuple[Item, Facts] | list[str]:
    """The candidate's row of the manifest and what was seen in its files, or what is wrong with them.

    `moved` is as in `_written`.
    """
    try:
        data = images.read_bytes(candidate.image)
        picture = images.decode(data, candidate.image)
        height, width = picture.values.shape[:2]
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
    if problems:
        return problems
    item = Item(
        name=candidate.name,
        part=candidate.part,
        defect=candidate.defect,
        image=_written(candidate.image, moved),
        mask=_written(candidate.mask, moved) if candidate.mask else "" if candidate.defect == GOOD else None,
        sha256=images.digest(data),
        mask_sha256=images.digest(mask_data) if candidate.mask else "",
        width=width,
        height=height,
        listed=candidate.listed,
    )
    return item, Facts.of(picture, mask)


def _written(path: Path, moved: tuple[Path, Path] | None) -> str:
    """A path as the manifest has it: what is made here lies elsewhere when all of it is done."""
    return (moved[1] / path.relative_to(moved[0]) if moved else path).as_posix()


def _report(problems: list[str], layout: str) -> None:
    if not problems:
        return
    shown = problems[:PROBLEMS_SHOWN]
    if more := len(problems) - len(shown):
        shown.append(f"... and {more} more")
    message = shown[0] if len(shown) == 1 else f"{len(problems)} problems with the data set:\n  " + "\n  ".join(shown)
    raise AdshiftError(message, f"fix the files listed above and run again; nothing was written; expected is {layout}")
