"""Manifest items and split settings, without files."""

from adshift.data.manifest import Item
from adshift.data.settings import Split


def item(part: str, defect: str, stem: object) -> Item:
    return Item(f"{part}/{defect}/{stem}", part, defect, "image.png", "", "0", "", 8, 8)


def images(train: int, good: int, defects: dict[str, int]) -> list[Item]:
    groups = {("train", "good"): train, ("test", "good"): good, **{("test", kind): n for kind, n in defects.items()}}
    return [item(*group, f"{place:03d}") for group, count in groups.items() for place in range(count)]


def settings(
    train: float = 0.8, defects: float = 0.3, most: int | None = None, protocol: str = "study", bad: float = 0.0,
    group: str | None = None, order: str = "random",
) -> Split:  # fmt: skip
    return Split(
        protocol=protocol, train_fraction=train, val_defect_fraction=defects, max_train=most, contamination=bad,
        group=group, order=order,
    )  # fmt: skip
