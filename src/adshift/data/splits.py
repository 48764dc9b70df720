"""The role of each image: train, val, test or unused. One CSV per class: name, role, domain.

Protocol `study` (the study, 4.1):

train   floor(train_fraction * n) of train/good; all of it if the data set has validation and normal test images
val     the rest of train/good or the data set's own validation images, and floor(val_defect_fraction * n) of the
        defective test images, spread over the defect types in proportion, unless it has defective validation images
test    all other images; without normal test images, also the later half of the rest of train/good
unused  training images beyond `max_train`; they belong to no part

All images of a group (`split.group`) are in one part: train, val or test. A group with a defective image is in val or
test, its normal images too. A group with images of the data set's own validation or test part is in that part. Without
`split.group`, each image is its own group.

Groups have an order (`split.order`): random, by name, or by a column such as a date. The first groups are in train, the
next in val, the last in test. scikit-learn's group splitters have no such order, and draw anew when an image is added.

The domain is `both` if drift is synthetic, which makes a second image of each. If drift was recorded, an image belongs
to one domain, `clean` or `shift`, and each domain is split separately; a group in both domains is in the same part.

Protocol `official`, as in most papers: train/good is train, all official test images are test, and val is empty. The
test images replace the validation images (`images_of`), so they set the threshold, and its record says so
(`calibrated_on`): figures are upper bounds, not results. Validation images of the data set are `unused`.

In both protocols, `contamination` moves defective images from test to train, as many as do not exceed that share of the
training set. It moves whole groups in which all images are defective. More contamination moves the same images and
further ones; validation does not change. Images without a label are always in test.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

from adshift.data.groups import RANDOM, Group, grouped
from adshift.data.manifest import GOOD, UNLABELLED, Item
from adshift.data.settings import Split
from adshift.data.split_file import BOTH, OFFICIAL
from adshift.errors import AdshiftError
from adshift.runtime import seeding

FEW = 20  # fewer training images bring a warning


def split(
    items: list[Item], settings: Split, seed: int, name: str, domain: str = BOTH,
    settled: Mapping[str, str] | None = None,
) -> dict[str, str]:  # fmt: skip
    """The role of every image of the class `name` in a domain.

    Each group draws its rank from its own name, so a further group changes the roles of its neighbours at most.
    `max_train` does not change val and test, and a smaller training set is a subset of a larger one.

    Args:
        items: all images of the class in the domain.
        settings: the section `split` of params.yaml.
        seed: of the draw.
        name: of the class.
        domain: for messages.
        settled: {group: its part in the other domain}, see `sides`.

    Raises:
        AdshiftError: a part would have no normal image, a group would be in two parts, there are too few defective
            images for the contamination, or two images have the same name.
    """
    _check_parts(items, name)
    official = settings.protocol == OFFICIAL
    judged = [item for item in items if item.defect != UNLABELLED]
    groups = grouped(judged, settings, seed, name)
    roles = {item.name: "test" for item in items if item.defect == UNLABELLED}
    if official:
        roles |= _official(groups, settings, name)
    else:
        roles |= _study(groups, settings, name, settled or {})
    trained = sum(role == "train" for role in roles.values())
    roles |= dict.fromkeys(_contaminating(groups, roles, settings, trained, seed, name), "train")
    assert len(roles) == len(items)
    _check(roles, items, f"class {name}" if domain == BOTH else f"class {name}, {domain} domain", official)
    return roles


def sides(items: list[Item], roles: Mapping[str, str], settings: Split, seed: int, name: str) -> dict[str, str]:
    """{group: its part} of a split, for the split of the other domain; empty without `split.group`."""
    if settings.group is None:
        return {}
    return {
        group.name: roles[item.name]
        for group in grouped([item for item in items if item.defect != UNLABELLED], settings, seed, name)
        for item in group.items
        if roles[item.name] != "unused"
    }


def training_count(settings: Split, normal: Mapping[str, int]) -> int:
    """Number of training images of a class, defective ones included, from its `normal` images of each part.

    `datasets.check` gives `normal`. With groups, the number is approximate.
    """
    trained = _trainable(settings, normal)
    used = trained if settings.max_train is None else min(trained, settings.max_train)
    return used + _share(settings.contamination, used)


def _check_parts(items: list[Item], name: str) -> None:
    twice = [image for image, count in Counter(item.name for item in items).items() if count > 1]
    if twice:
        raise AdshiftError(f"class {name}: two images are named {twice[0]}", "rename one of them")
    for item in items:
        if item.part not in ("train", "val", "test") or (item.part == "train" and item.defect != GOOD):
            message = (
                f"class {name}: {item.name} lies in {item.part}/{item.defect}, expected train/good, val/* or test/*"
            )
            raise AdshiftError(message, "move it to test/, or remove it")


def _official(groups: Sequence[Group], settings: Split, name: str) -> dict[str, str]:
    roles: dict[str, str] = {}
    trained = 0
    for group in groups:
        parts = {item.part for item in group.items} - {"val"}
        if len(parts) > 1:
            raise AdshiftError(
                f"class {name}: split.group: {group.name} has images in train and in test, which split.protocol: "
                "official leaves where they are",
                "set split.protocol: study, or empty split.group",
            )
        for item in group.items:
            role = {"val": "unused"}.get(item.part, item.part)
            if role == "train":
                trained += 1
                role = "unused" if settings.max_train is not None and trained > settings.max_train else role
            roles[item.name] = role
    return roles


def _study(groups: Sequence[Group], settings: Split, name: str, settled: Mapping[str, str]) -> dict[str, str]:
    """{image: role} before contamination."""
    side: dict[str, str] = {}
    for group in groups:
        fixed = group.fixed | ({settled[group.name]} if group.name in settled else set())
        if len(fixed) > 1:
            raise AdshiftError(
                f"class {name}: split.group: {group.name} has images in {' and in '.join(sorted(fixed))}",
                "move its images to one of them, or change split.group",
            )
        for one in fixed:
            side[group.name] = one
    free = [group for group in groups if group.name not in side]
    validated = any(item.part == "val" and item.anomalous for item in _all(groups))
    side |= _defective_sides([group for group in free if group.defects], settings, validated)
    side |= _normal_sides([group for group in free if not group.defects], groups, settings, side)
    roles: dict[str, str] = {}
    trained = 0
    for group in groups:
        for item in group.items:
            role = side[group.name]
            if role == "train" and item.anomalous:
                role = "unused"  # its group is in train in the other domain
            elif role == "train":
                trained += 1
                role = "unused" if settings.max_train is not None and trained > settings.max_train else role
            roles[item.name] = role
    return roles


def _all(groups: Iterable[Group]) -> Iterator[Item]:
    return (item for group in groups for item in group.items)


def _defective_sides(groups: Sequence[Group], settings: Split, validated: bool) -> dict[str, str]:
    """{group: part} of groups with defective images. If groups are ordered by name or column, the first are in val; at
    random, those are that fit into the remaining share of each of their defects.
    """
    counts = sum((group.defects for group in groups), Counter[str]())
    total = 0 if validated else _floor(settings.val_defect_fraction, counts.total())
    if settings.order != RANDOM:
        first = _fitting([group.defects.total() for group in groups], total)
        return {group.name: "val" if index < first else "test" for index, group in enumerate(groups)}
    left = Counter(apportion(total, dict(counts)))
    assigned = {}
    for group in groups:
        fits = all(count <= left[defect] for defect, count in group.defects.items())
        assigned[group.name] = "val" if fits else "test"
        left -= group.defects if fits else Counter()
    return assigned


def _normal_sides(
    free: Sequence[Group], groups: Sequence[Group], settings: Split, side: Mapping[str, str]
) -> dict[str, str]:
    """{group: part} of groups that hold only normal training images.

    Args:
        free: these groups, in the split's order.
        groups: all groups.
        settings: the section `split`.
        side: {group: its part} of all other groups.
    """
    normal = Counter(item.part for item in _all(groups) if not item.anomalous)
    sizes = [len(group.items) for group in free]
    there = Counter(
        side[group.name] for group in groups if group.name in side for item in group.items if not item.anomalous
    )
    lacking = [not normal[part] for part in ("val", "test")]
    ends = [len(free), len(free)]
    if any(lacking):
        spare = sum(not there[part] for part in ("val", "test"))  # groups that other parts need
        ends[0] = _cut(sizes, _trainable(settings, normal), spare)
        rest = sizes[ends[0] :]
        wanted = math.ceil((sum(rest) + there["val"] + there["test"]) / 2) - there["val"]
        validating = _cut(rest, wanted, not there["test"], least=not there["val"])
        ends[1] = ends[0] + (validating if all(lacking) else len(rest) if lacking[0] else 0)
    names = [group.name for group in free]
    return {
        group: role
        for role, start, end in zip(("train", "val", "test"), [0, *ends], [*ends, len(free)], strict=True)
        for group in names[start:end]
    }


def _cut(sizes: Sequence[int], most: int, spare: int, least: int = 1) -> int:
    """Number of groups, from the first, for a part of at most `most` images, if `spare` groups have to be left.

    The part gets at least `least` groups if there are enough for all parts.
    """
    count = _fitting(sizes, most)
    return min(max(count, least), len(sizes) - spare) if len(sizes) >= spare + least else count


def _fitting(sizes: Sequence[int], most: int) -> int:
    """Number of groups, from the first, that hold at most `most` images."""
    count = total = 0
    while count < len(sizes) and total + sizes[count] <= most:
        total += sizes[count]
        count += 1
    return count


def _trainable(settings: Split, normal: Mapping[str, int]) -> int:
    """Number of normal training images that val and test do not need."""
    needed = (not normal.get("val")) + (not normal.get("test"))
    if settings.protocol == OFFICIAL or not needed:
        return normal.get("train", 0)
    count = normal.get("train", 0)
    wanted = _floor(settings.train_fraction, count)
    return min(max(wanted, 1), count - needed) if count > needed else wanted


def _contaminating(
    groups: Sequence[Group], roles: Mapping[str, str], settings: Split, used: int, seed: int, name: str
) -> list[str]:
    """The defective test images that move to train beside `used` normal ones."""
    moved = _share(settings.contamination, used)
    left = [group for group in groups if all(item.anomalous and roles[item.name] == "test" for item in group.items)]
    count = sum(len(group.items) for group in left)
    if moved and moved >= count:
        raise AdshiftError(
            f"class {name}: split.contamination: {settings.contamination} moves {moved} defective test images to "
            f"{used} normal training images, but only {count} are there, of which one has to stay",
            "lower split.contamination, or set split.max_train, or take the class out of `classes`",
        )
    left.sort(key=lambda group: (seeding.generator(seed, "contamination", name, group.name).random(), group.name))
    taken = left[: _fitting([len(group.items) for group in left], moved)]
    return [item.name for item in _all(taken)]


def _share(contamination: float, used: int) -> int:
    """Largest number of defective images that do not exceed the wanted share beside `used` normal ones."""
    share = Fraction(repr(contamination))
    return math.floor(share * used / (1 - share))


def apportion(total: int, counts: dict[str, int]) -> dict[str, int]:
    """Divide `total` in proportion to `counts`, by largest remainder; ties go to the first in alphabetical order."""
    quotas = {key: Fraction(total * count, sum(counts.values())) for key, count in counts.items()}
    shares = {key: math.floor(quota) for key, quota in quotas.items()}
    left = total - sum(shares.values())
    for key in sorted(quotas, key=lambda key: (shares[key] - quotas[key], key))[:left]:
        shares[key] += 1
    return shares


def _floor(fraction: float, count: int) -> int:
    """floor(fraction * count) in exact decimals: 0.29 of 100 is 29, although the float product is smaller."""
    return math.floor(Fraction(repr(fraction)) * count)


def _check(roles: Mapping[str, str], items: Sequence[Item], subject: str, official: bool) -> None:
    counts = Counter((roles[item.name], item.anomalous) for item in items if item.defect != UNLABELLED)
    total = Counter(item.anomalous for item in items if item.defect != UNLABELLED)
    needed = [("train", False), ("test", False), ("test", True)] if official else [(part, False) for part in PARTS]
    for part, defective in needed:
        if not counts[part, defective]:
            kind = "defective" if defective else "normal"
            raise AdshiftError(
                f"{subject}: no {kind} image is left for {part} ({total[False]} normal, {total[True]} defective)",
                f"add {kind} images to {'train/good' if part != 'test' and not defective else 'test/'}, "
                "or change split.* in params.yaml, or take the class out of `classes`",
            )


PARTS = ("train", "val", "test")


def warnings(items: Sequence[Item], roles: Mapping[str, str], subject: str) -> list[str]:
    """Warnings: figures that a split cannot give. None of them stops a run."""
    counts = Counter((roles[item.name], item.anomalous) for item in items if item.defect != UNLABELLED)
    lines = []
    if 0 < (count := counts["train", False]) < FEW:
        lines.append(few(subject, count))
    if not counts["test", True]:
        lines.append(f"{subject}: no defective image tests, so figures that need one are empty: AUROC, recall, F1")
    if not counts["val", True] and counts["test", True]:
        lines.append(f"{subject}: no defective image validates, so thresholds come from normal images alone")
    if conflicting := sum(roles[item.name] == "unused" and item.anomalous for item in items):
        lines.append(f"{subject}: {conflicting} defective images are not used, since their groups train")
    return lines


def few(subject: str, count: int) -> str:
    """The warning of too few training images."""
    return (
        f"{subject}: {count} training images, fewer than {FEW}; a model of so few calls much that is normal anomalous, "
        "and its thresholds differ much from draw to draw"
    )


def check_copies(placed: Iterable[tuple[Item, str]]) -> None:
    """Refuse images of equal bytes in two parts: a test image would have fitted the model or set its threshold.

    Args:
        placed: every image of a run and its role, of all classes, since the unified model is fitted on all of them, and
            of both domains if drift was recorded.

    Raises:
        AdshiftError: naming two such images.
    """
    first: dict[str, tuple[Item, str]] = {}
    for item, role in placed:
        if role == "unused" or item.defect == UNLABELLED:
            continue
        other, part = first.setdefault(item.sha256, (item, role))
        if part != role:
            raise AdshiftError(
                f"{other.image} ({part}) and {item.image} ({role}) have the same bytes: one image in two parts",
                "remove one of the two files, then `dvc repro`",
            )
