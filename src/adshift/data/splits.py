"""Which image trains, validates and tests. One CSV a class: name, role, domain.

Protocol `study` (the study, 4.1):

train   floor(train_fraction * n) of train/good; all of it where the data set has validation images of its own
val     the rest of train/good or those validation images, and floor(val_defect_fraction * n) of the defective test
        images, spread over the defect types in proportion
test    all else
unused  training images beyond `max_train`; they belong to no part

The domain is `both` where the shift makes two images of each. Where drift was recorded, an image belongs to one domain,
`clean` or `shift`, and each domain is split by itself.

Protocol `official`, as most papers have it: train/good trains, the official test images test, all of them, and no image
validates. What looks for validation images finds the test images instead (`images_of`), so a threshold is chosen on
them and says so (`calibrated_on`): an upper bound, not a result. Validation images of the data set are `unused`.

Under both, `contamination` moves defective images from test to train until they are that share of the training set (the
largest number that does not exceed it). More contamination moves the same images and further ones; validation stays.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction

from adshift.data.manifest import GOOD, Item
from adshift.data.settings import Split
from adshift.data.split_file import BOTH, OFFICIAL
from adshift.errors import AdshiftError
from adshift.runtime import seeding


def split(items: list[Item], settings: Split, seed: int, name: str, domain: str = BOTH) -> dict[str, str]:
    """The role of every image of the class `name` in a domain, which only messages name.

    Each image draws its own place in the order, by its name, so one image more moves no more than its neighbours.
    Whatever `max_train` is, val and test stay the same, and fewer training images are a subset of more.

    Raises:
        AdshiftError: a part would be without normal or without defective images, there are too few defective ones to
            contaminate with, or two images have one name.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for item in items:
        groups.setdefault((item.part, item.defect), []).append(item.name)
    for (part, defect), names in groups.items():
        if part not in ("train", "val", "test") or (part != "test" and defect != GOOD):
            what = f"class {name}: {names[0]} lies in {part}/{defect}, expected train/good, val/good or test/*"
            raise AdshiftError(what, "move it to test/, or remove it")
        names.sort(key=lambda image: (seeding.generator(seed, "split", name, image).random(), image))

    official = settings.protocol == OFFICIAL
    normal, held_out = groups.get(("train", GOOD), []), groups.get(("val", GOOD), [])
    counts_of = {"train": len(normal), "val": len(held_out)}
    used, trained = _used(settings, counts_of), _trainable(settings, counts_of)
    roles = [(image, "train") for image in normal[:used]]
    roles += [(image, "unused") for image in normal[used:trained]]
    roles += [(image, "val") for image in normal[trained:]]
    roles += [(image, "unused" if official else "val") for image in held_out]
    roles += [(image, "test") for image in groups.get(("test", GOOD), [])]

    defects = {defect: names for (_, defect), names in sorted(groups.items()) if defect != GOOD}
    counts = {defect: len(names) for defect, names in defects.items()}
    shares = apportion(0 if official else _floor(settings.val_defect_fraction, sum(counts.values())), counts)
    left = []
    for defect, names in defects.items():
        roles += [(image, "val") for image in names[: shares[defect]]]
        left += names[shares[defect] :]
    moved = _contaminating(settings, used)
    if moved and moved >= len(left):
        raise AdshiftError(
            f"class {name}: split.contamination: {settings.contamination} moves {moved} defective test images to "
            f"{used} normal training images, but only {len(left)} are there, of which one has to stay",
            "lower split.contamination, or set split.max_train, or take the class out of `classes`",
        )
    left.sort(key=lambda image: (seeding.generator(seed, "contamination", name, image).random(), image))
    roles += [(image, "train" if place < moved else "test") for place, image in enumerate(left)]

    twice = [image for image, count in Counter(image for image, _ in roles).items() if count > 1]
    if twice:
        raise AdshiftError(f"class {name}: two images are named {twice[0]}", "rename one of them")
    assert len(roles) == len(items)
    where = f"class {name}" if domain == BOTH else f"class {name}, {domain} domain"
    _check(roles, {item.name: item.anomalous for item in items}, where, official)
    return dict(roles)


def training_count(settings: Split, normal: Mapping[str, int]) -> int:
    """How many images of a class train, of its `normal` images a part (see `datasets.check`), defective ones too."""
    used = _used(settings, normal)
    return used + _contaminating(settings, used)


def _used(settings: Split, normal: Mapping[str, int]) -> int:
    """How many of its normal images train."""
    trained = _trainable(settings, normal)
    return trained if settings.max_train is None else min(trained, settings.max_train)


def _contaminating(settings: Split, used: int) -> int:
    """How many defective images beside `used` normal ones are no more than the wanted share of them all."""
    share = Fraction(repr(settings.contamination))
    return math.floor(share * used / (1 - share))


def _trainable(settings: Split, normal: Mapping[str, int]) -> int:
    """How many of them need not validate."""
    if settings.protocol == OFFICIAL or normal.get("val"):
        return normal["train"]
    return _floor(settings.train_fraction, normal["train"])


def apportion(total: int, counts: dict[str, int]) -> dict[str, int]:
    """`total` spread over `counts` in proportion, by largest remainder; ties go to the first in alphabetical order."""
    quotas = {key: Fraction(total * count, sum(counts.values())) for key, count in counts.items()}
    shares = {key: math.floor(quota) for key, quota in quotas.items()}
    left = total - sum(shares.values())
    for key in sorted(quotas, key=lambda key: (shares[key] - quotas[key], key))[:left]:
        shares[key] += 1
    return shares


def _floor(fraction: float, count: int) -> int:
    """floor(fraction * count) of the fraction as it is written: 0.29 of 100 is 29, though the product falls below."""
    return math.floor(Fraction(repr(fraction)) * count)


def _check(roles: list[tuple[str, str]], anomalous: dict[str, bool], where: str, official: bool) -> None:
    found = Counter((role, anomalous[image]) for image, role in roles)
    total = Counter(anomalous.values())
    for part, defective in [("train", False), ("val", False), ("test", False), ("val", True), ("test", True)]:
        if not found[part, defective] and not (official and part == "val"):
            kind = "defective" if defective else "normal"
            raise AdshiftError(
                f"{where}: no {kind} image is left for {part} ({total[False]} normal, {total[True]} defective)",
                f"add {kind} images to {'train/good' if part != 'test' and not defective else 'test/'}, "
                "or mend split.* in params.yaml, or take the class out of `classes`",
            )


def check_copies(placed: Iterable[tuple[Item, str]]) -> None:
    """Refuse images of equal bytes in two parts: a model would be tested on what trained it or set its threshold.

    Args:
        placed: every image of a run and its role. Of all classes, since the unified model trains on all of them, and of
            both domains where drift was recorded.

    Raises:
        AdshiftError: naming two such images.
    """
    first: dict[str, tuple[Item, str]] = {}
    for item, role in placed:
        if role == "unused":
            continue
        other, part = first.setdefault(item.sha256, (item, role))
        if part != role:
            raise AdshiftError(
                f"{other.image} ({part}) and {item.image} ({role}) have the same bytes: one image in two parts",
                "remove one of the two files, then `dvc repro`",
            )
