"""The study's table 1, and what a split must keep whatever the counts."""

import csv
import hashlib
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as checks
from hypothesis import strategies as st
from PIL import Image

from adshift.data import contamination, split_file, splits
from adshift.data.images import sha256
from adshift.data.manifest import Item
from adshift.data.settings import Split
from adshift.errors import AdshiftError
from adshift.runtime import checksums
from items import images, item, settings
from tiny import ROOT, Project, write_tree

TABLE = Path(__file__).parents[3] / "reference" / "shift_study_splits.csv"
# MVTec AD: train good, test good, defective test images by (made-up) type
COUNTS = {
    "hazelnut": (391, 40, {"crack": 18, "cut": 17, "hole": 18, "print": 17}),
    "carpet": (280, 28, {"color": 19, "cut": 17, "hole": 17, "metal": 17, "thread": 19}),
    "zipper": (
        240,
        32,
        {"broken": 19, "combine": 16, "border": 17, "fabric": 16, "rough": 17, "split": 18, "tab": 16},
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_table_1_of_the_study(name: str) -> None:
    with TABLE.open(encoding="utf-8") as file:
        published = {row.pop("class"): {key: int(value) for key, value in row.items()} for row in csv.DictReader(file)}
    expected = published[name]
    if name == "zipper":  # a misprint: the printed row sums to one image more than the class has
        assert sum(expected.values()) == 240 + 32 + 119 + 1
        expected["val_anomalous"] = 35
    roles = splits.split(images(*COUNTS[name]), settings(), 42, name)
    found = Counter((role, "/good/" in image) for image, role in roles.items())
    assert expected == {
        f"{part}_{kind}": found[part, kind == "normal"]
        for part in ("train", "val", "test")
        for kind in ("normal", "anomalous")
    }


def test_defects_are_spread_in_proportion() -> None:
    _, _, defects = COUNTS["zipper"]
    roles = splits.split(images(*COUNTS["zipper"]), settings(), 42, "zipper")
    val = Counter(image.split("/")[1] for image in split_file.names_of(roles, "val"))
    assert all(abs(val[kind] - 35 * count / 119) < 1 for kind, count in defects.items())


def test_largest_remainder_by_hand() -> None:
    # 7 of 20: quotas 3.5, 2.8, 0.7; floors 3, 2, 0; the two left go to 0.8 and 0.7.
    assert splits.apportion(7, {"a": 10, "b": 8, "c": 2}) == {"a": 3, "b": 3, "c": 1}
    # Equal remainders: the alphabetically first, in whatever order they come.
    assert splits.apportion(2, {"c": 5, "b": 5, "a": 5}) == {"a": 1, "b": 1, "c": 0}


@checks(deadline=None)  # the machine may be busy
@given(st.dictionaries(st.text("abcdef", min_size=1), st.integers(1, 40), min_size=1), st.floats(0, 1))
def test_apportion_keeps_the_total_and_never_exceeds_a_count(counts: dict[str, int], fraction: float) -> None:
    total = int(fraction * sum(counts.values()))
    shares = splits.apportion(total, counts)
    assert sum(shares.values()) == total
    assert all(0 <= shares[key] <= counts[key] for key in counts)


def test_fractions_are_taken_as_written() -> None:
    assert 0.29 * 100 < 29  # the product in floating point
    roles = splits.split(images(100, 5, {"cut": 100}), settings(train=0.29, defects=0.29), 0, "x")
    assert len(split_file.names_of(roles, "train")) == 29
    assert sum("/cut/" in image for image in split_file.names_of(roles, "val")) == 29


def test_every_image_has_one_role_and_official_test_images_never_train() -> None:
    items = images(60, 20, {"cut": 10, "hole": 20})
    roles = splits.split(items, settings(), 42, "x")
    assert set(roles) == {item.name for item in items}
    assert all(item.part == "train" and not item.anomalous for item in items if roles[item.name] == "train")
    assert all(roles[item.name] == "test" for item in items if item.part == "test" and not item.anomalous)


def test_the_draw_depends_on_seed_and_class_but_not_on_order() -> None:
    items = images(60, 20, {"cut": 10, "hole": 20})
    roles = splits.split(items, settings(), 42, "x")
    assert splits.split(items[::-1], settings(), 42, "x") == roles
    assert splits.split(items, settings(), 43, "x") != roles
    assert splits.split(items, settings(), 42, "y") != roles
    trained = sorted(int(name[-3:]) for name in split_file.names_of(roles, "train"))
    assert trained != list(range(48))  # drawn, not the first 48


def test_one_image_more_moves_no_other_group_and_at_most_one_image() -> None:
    items = images(60, 20, {"cut": 10, "hole": 20})
    before = splits.split(items, settings(), 42, "x")
    after = splits.split([*items, item("train", "good", "new")], settings(), 42, "x")
    moved = [name for name in before if before[name] != after[name]]
    assert len(moved) <= 1
    assert all(name.startswith("train/good/") for name in moved)


def test_max_train_leaves_the_other_parts_alone_and_nests() -> None:
    items = images(60, 20, {"cut": 10})
    full, ten, five = (splits.split(items, settings(most=most), 42, "x") for most in (None, 10, 5))
    trained = [set(split_file.names_of(roles, "train")) for roles in (five, ten, full)]
    assert split_file.names_of(full, "val") == split_file.names_of(ten, "val")
    assert split_file.names_of(full, "test") == split_file.names_of(ten, "test")
    assert trained[0] < trained[1] < trained[2]
    assert [len(names) for names in trained] == [5, 10, 48]
    assert split_file.names_of(ten, "train", "unused") == split_file.names_of(full, "train")


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([], "no normal image is left for train"),
        (images(0, 5, {"cut": 9}), "no normal image is left for train"),
        (images(1, 5, {"cut": 9}), "no normal image is left for train"),
        (images(2, 0, {"cut": 9}), "no normal image is left for test"),
        ([*images(60, 5, {"cut": 9}), item("train", "cut", 0)], "train/cut"),
        ([*images(60, 5, {"cut": 9}), item("validation", "good", 0)], "validation/good"),
        (images(60, 5, {"cut": 9}) * 2, "two images are named train/good/"),
    ],
)
def test_too_few_or_misplaced_images_are_refused(items: list[Item], said: str) -> None:
    with pytest.raises(AdshiftError, match=said) as error:
        splits.split(items, settings(), 42, "nut")
    assert "class nut" in error.value.what
    assert error.value.remedy


@pytest.mark.parametrize(
    ("defects", "fraction", "said"),
    [
        ({"cut": 9}, 0.12, []),
        ({"cut": 9}, 0.1, ["x: no defective image validates"]),
        ({"cut": 3}, 0.3, ["x: no defective image validates"]),
        ({}, 0.3, ["x: no defective image tests"]),
    ],
)
def test_what_defective_images_cannot_give_is_told(defects: dict[str, int], fraction: float, said: list[str]) -> None:
    items = images(60, 5, defects)
    told = splits.warnings(items, splits.split(items, settings(defects=fraction), 42, "x"), "x")
    assert len(told) == len(said)
    assert all(line.startswith(words) for line, words in zip(told, said, strict=True))


def test_an_official_validation_part_validates_and_leaves_the_training_images_whole() -> None:
    items = [*images(60, 20, {"bad": 30}), *(item("val", "good", number) for number in range(7))]
    roles = splits.split(items, settings(), 42, "can")
    assert Counter((name.split("/")[0], role) for name, role in roles.items() if "/good/" in name) == {
        ("train", "train"): 60, ("val", "val"): 7, ("test", "test"): 20}  # fmt: skip
    assert Counter(role for name, role in roles.items() if "/bad/" in name) == {"val": 9, "test": 21}
    few = splits.split(items, settings(most=10), 42, "can")
    assert Counter(few.values()) == {"train": 10, "unused": 50, "val": 16, "test": 41}


def test_official_trains_on_all_and_tests_on_the_whole_official_test_part() -> None:
    items = images(60, 20, {"cut": 10, "hole": 3})
    roles = splits.split(items, settings(protocol="official"), 42, "x")
    assert roles == {one.name: one.part for one in items}
    assert (
        split_file.images_of(roles, "val") == split_file.images_of(roles, "test") == split_file.names_of(roles, "test")
    )
    assert len(split_file.images_of(roles, "test")) == 33 and len(split_file.images_of(roles, "train")) == 60
    thinned = splits.split(items, settings(protocol="official", most=5), 42, "x")
    assert Counter(thinned.values()) == {"train": 5, "unused": 55, "test": 33}


def test_official_does_without_the_validation_part_and_without_enough_defects_for_one() -> None:
    items = [*images(60, 20, {"cut": 1}), item("val", "good", 0)]
    roles = splits.split(items, settings(protocol="official"), 42, "x")
    assert roles["val/good/0"] == "unused"
    with pytest.raises(AdshiftError, match="no normal image is left for test"):
        splits.split(images(60, 0, {"cut": 1}), settings(protocol="official"), 42, "x")


def test_under_study_no_image_is_in_two_parts() -> None:
    roles = splits.split(images(60, 20, {"cut": 10}), settings(), 42, "x")
    parts = [set(split_file.images_of(roles, part)) for part in ("train", "val", "test")]
    assert all(parts)
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


def test_the_protocol_says_on_what_thresholds_are_chosen() -> None:
    assert (split_file.calibrated_on("study"), split_file.calibrated_on("official")) == ("val", "test")


def test_training_count_is_what_trains() -> None:
    for held in (0, 4):
        for chosen in (settings(), settings(most=9), settings(protocol="official"), settings(most=9, bad=0.2)):
            items = [*images(60, 20, {"cut": 10}), *(item("val", "good", number) for number in range(held))]
            trained = split_file.names_of(splits.split(items, chosen, 42, "x"), "train")
            assert splits.training_count(chosen, {"train": 60, "val": held, "test": 20}) == len(trained)


@pytest.mark.parametrize("protocol", ["study", "official"])
def test_contamination_moves_defective_test_images_to_train_and_nothing_else(protocol: str) -> None:
    items = images(60, 20, {"cut": 20, "hole": 20})
    clean, tenth, fifth = (
        splits.split(items, settings(most=40, protocol=protocol, bad=bad), 42, "x") for bad in (0.0, 0.1, 0.2)
    )
    moved = [{name for name in clean if clean[name] != roles[name]} for roles in (tenth, fifth)]
    assert [len(names) for names in moved] == [4, 10]  # 4 of 44, 10 of 50
    assert moved[0] < moved[1]
    assert {(clean[name], fifth[name], "/good/" in name) for name in moved[1]} == {("test", "train", False)}
    assert {name.split("/")[1] for name in moved[1]} == {"cut", "hole"}
    parts = [set(split_file.images_of(fifth, part)) for part in ("train", "test")]
    assert not parts[0] & parts[1]


def test_contamination_is_drawn_by_seed_and_class() -> None:
    items, chosen = images(60, 20, {"cut": 40}), settings(protocol="official", bad=0.1)

    def moved(seed: int, name: str) -> set[str]:
        return {
            image
            for image in split_file.images_of(splits.split(items, chosen, seed, name), "train")
            if "/cut/" in image
        }

    assert moved(42, "x") == moved(42, "x")
    assert moved(42, "x") != moved(43, "x") != moved(42, "y") != moved(42, "x")


def test_contamination_leaves_a_defective_test_image() -> None:
    items = images(60, 20, {"cut": 13})  # of which 3 validate; 48 normal images train
    kept = splits.split(items, settings(bad=0.16), 42, "nut")
    assert sum("/cut/" in name for name in split_file.images_of(kept, "train")) == 9
    with pytest.raises(AdshiftError, match=r"class nut: split.contamination: 0.18 moves 10 .* only 10") as error:
        splits.split(items, settings(bad=0.18), 42, "nut")
    assert "max_train" in error.value.remedy


def test_contaminated_pixels_by_hand(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[:2, :4] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    bad = replace(item("test", "cut", 0), mask=str(tmp_path / "mask.png"), mask_sha256=sha256(tmp_path / "mask.png"))
    items = [item("train", "good", 0), item("train", "good", 1), item("test", "good", 0), bad]
    roles = {one.name: "train" for one in items} | {"test/good/0": "test"}
    found = contamination.measure(items, roles)
    assert (found.images, found.defective, found.share) == (3, 1, 1 / 3)
    assert found.pixels == 8 / (3 * 64)
    assert contamination.measure(items[:2], roles).pixels == 0


def test_file_round_trip(tmp_path: Path) -> None:
    roles = splits.split([*images(60, 20, {"cut": 10}), item("test", "cut", 'a,"b')], settings(most=9), 42, "x")
    split_file.write(tmp_path / "ds" / "x.csv", {"both": roles})
    assert (
        split_file.read(tmp_path / "ds" / "x.csv", "clean")
        == split_file.read(tmp_path / "ds" / "x.csv", "shift")
        == roles
    )
    first, second, *_ = (tmp_path / "ds" / "x.csv").read_text(encoding="utf-8").splitlines()
    assert first.startswith("name,role,domain,checksum=")
    assert second.startswith("test/cut/000,")


@pytest.mark.parametrize(
    "content",
    ["", "name,part,domain\na,train,both\n", "name,role,domain\na,training,both\n",
     "name,role,domain\na,train,clean\na,test,shift\n", "name,role,domain\na,train\n",
     "name,role,domain\na,train,dusk\n", "name,role,domain\na,train,both,1\n", b"\xff\xfe\x00"],
)  # fmt: skip
def test_a_damaged_file_is_refused(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AdshiftError, match=r"x\.csv"):
        split_file.read(path, "clean")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdshiftError, match=r"none\.csv"):
        split_file.read(tmp_path / "none.csv", "clean")


def placed(*images: tuple[str, str, str]) -> list[tuple[Item, str]]:
    """(item, role) of (path, content, role)."""
    return [(replace(item("test", "good", path), image=path, sha256=content), role) for path, content, role in images]


@pytest.mark.parametrize(("one", "other"), [("train", "test"), ("val", "test"), ("train", "val"), ("test", "train")])
def test_equal_bytes_in_two_parts_are_refused_with_both_names(one: str, other: str) -> None:
    with pytest.raises(AdshiftError, match=rf"^a\.png \({one}\) and c\.png \({other}\) have the same bytes") as caught:
        splits.check_copies(placed(("a.png", "1", one), ("b.png", "1", one), ("c.png", "1", other)))
    assert caught.value.remedy == "remove one of the two files, then `dvc repro`"


def test_copies_behind_an_unused_image_are_refused() -> None:
    with pytest.raises(AdshiftError, match="same bytes"):
        splits.check_copies(placed(("a", "1", "unused"), ("b", "2", "train"), ("c", "2", "test")))


def test_copies_within_a_part_and_unused_ones_are_left_alone() -> None:
    splits.check_copies(placed(("a", "1", "unused"), ("b", "1", "train"), ("c", "1", "train"), ("d", "2", "test")))


def run_stage(name: str) -> str:
    """What a stage says if it fails."""
    command = [sys.executable, str(ROOT / "stages" / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize(
    ("protocol", "source", "copy", "fits"),
    [
        ("study", "dots/train/good/000", "dots/test/good/copy", False),
        ("official", "dots/train/good/000", "dots/test/hole/copy", False),
        ("official", "dots/train/good/000", "rings/test/good/copy", False),
        ("official", "dots/train/good/000", "dots/train/good/copy", True),
        ("official", "dots/test/hole/000", "dots/test/hole/copy", True),
        ("official", "dots/test/hole/000", "rings/test/hole/copy", True),
    ],
)
def test_the_stage_refuses_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, source: str, copy: str, fits: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    write_tree(Path("raw"), ("dots", "rings"))
    Project(tmp_path).change(
        dataset__name="mvtec", dataset__root="raw", classes=["dots", "rings"], split__protocol=protocol
    )
    shutil.copy(f"raw/{source}.png", f"raw/{copy}.png")
    if "hole" in copy:
        mask = copy.replace("/test/", "/ground_truth/")
        shutil.copy("raw/dots/ground_truth/hole/000_mask.png", f"raw/{mask}_mask.png")
    assert run_stage("prepare") == ""
    said = run_stage("split")
    assert bool(said) == (not fits)
    assert fits or all(f"raw/{path}.png (" in said for path in (source, copy))
    assert fits or ("have the same bytes" in said and "remove one of the two files" in said)
    assert [path.name for path in Path("data").glob("split*/*")] == (["mvtec"] if fits else [])


def test_the_stage_refuses_copies_in_two_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean training image among the shifted test images, where drift was recorded."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    write_tree(Path("raw"), ("dots",))
    for path in sorted(Path("raw").rglob("*.png")):  # half of each folder was taken under another exposure
        exposure, end = 1 + int(path.stem[:3]) % 2, path.name.partition("_")[2]
        path.rename(path.with_name(f"exp{exposure}_{path.stem[:3]}{'_' * bool(end)}{end or '.png'}"))
    Project(tmp_path).change(
        dataset__name="mvtec", dataset__root="raw", classes=["dots"], split__protocol="official",
        shift__kind="recorded", shift__recorded__shifted=["2"],
    )  # fmt: skip
    assert run_stage("prepare") == run_stage("split") == ""
    shutil.copy("raw/dots/train/good/exp1_000.png", "raw/dots/test/good/exp2_copy.png")
    assert run_stage("prepare") == ""
    assert "exp1_000.png (train) and raw/dots/test/good/exp2_copy.png (test) have the same bytes" in run_stage("split")


# By hand: the order of the images follows from the seeds alone, and the counts from the text of the module.


def order(seed: int, kind: str, name: str, names: list[str]) -> list[str]:
    """The images in the order of their own draws, as `seeding` documents it."""

    def drawn(image: str) -> float:
        digest = hashlib.sha256(f"{kind}\0{name}\0{image}".encode()).digest()
        words = [int.from_bytes(digest[start : start + 4], "little") for start in range(0, 16, 4)]
        return np.random.default_rng([seed, *words]).random()

    return sorted(names, key=drawn)


def expected(items: list[Item], chosen: Split, seed: int, name: str) -> dict[str, str]:
    """The role of every image, from what the module says, step by step."""
    by_group: dict[str, list[str]] = {}
    for one in items:
        by_group.setdefault(f"{one.part}/{one.defect}", []).append(one.name)
    for group, names in by_group.items():
        by_group[group] = order(seed, "split", name, names)
    roles = {image: "test" for group, names in by_group.items() if group.startswith("test/") for image in names}
    normal, held_out = by_group["train/good"], by_group.get("val/good", [])
    official = chosen.protocol == "official"
    whole = len(normal)
    if not official and not held_out:
        whole = int(Decimal(str(chosen.train_fraction)) * len(normal))
    for place, image in enumerate(normal):
        inside = chosen.max_train is None or place < chosen.max_train
        roles[image] = "val" if place >= whole else "train" if inside else "unused"
    for image in held_out:
        roles[image] = "unused" if official else "val"
    defects = {group: names for group, names in by_group.items() if group.startswith("test/") and group != "test/good"}
    total = sum(map(len, defects.values()))
    wanted = 0 if official else int(Decimal(str(chosen.val_defect_fraction)) * total)
    taken = {group: wanted * len(names) // total for group, names in defects.items()}
    remainder = {group: wanted * len(names) % total for group, names in defects.items()}
    for group in sorted(defects, key=lambda group: (-remainder[group], group))[: wanted - sum(taken.values())]:
        taken[group] += 1
    for group, names in defects.items():
        for image in names[: taken[group]]:
            roles[image] = "val"
    trains = sum(role == "train" for role in roles.values())
    moved = 0
    while Decimal(moved + 1) / (trains + moved + 1) <= Decimal(str(chosen.contamination)):
        moved += 1
    left = [image for names in defects.values() for image in names if roles[image] == "test"]
    for image in order(seed, "contamination", name, left)[:moved]:
        roles[image] = "train"
    return roles


@pytest.mark.parametrize("seed", [0, 42])
@pytest.mark.parametrize("held_out", [0, 7])
@pytest.mark.parametrize(
    "chosen",
    [
        settings(),
        settings(train=0.29, defects=0.57),
        settings(most=9, bad=0.1),
        settings(most=31, bad=0.2),
        settings(most=1000, bad=0.05),
        settings(protocol="official"),
        settings(protocol="official", most=8, bad=0.2),
        settings(defects=0.999),
    ],
)
def test_every_role_by_hand(chosen: Split, held_out: int, seed: int) -> None:
    items = images(100, 11, {"cut": 10, "hole": 7, "color": 13, "a": 1})
    items += [item("val", "good", number) for number in range(held_out)]
    for name in ("nut", "screw"):
        roles = splits.split(items[::-1], chosen, seed, name)
        assert roles == expected(items, chosen, seed, name)
        assert set(roles.values()) <= {"train", "val", "test", "unused"}


def test_fractions_round_down_as_they_are_written() -> None:
    """0.57 * 100 and 0.58 * 100 fall to the wrong side of a whole number in floating point."""
    for fraction, count, trained in [(0.57, 100, 57), (0.58, 100, 58), (0.7, 10, 7), (0.999, 1000, 999), (0.8, 9, 7)]:
        assert splits.training_count(settings(train=fraction), {"train": count, "val": 0, "test": 9}) == trained
        assert splits.training_count(settings(train=fraction), {"train": count, "test": 9}) == trained
        assert splits.training_count(settings(train=fraction), {"train": count}) == min(trained, count - 2)  # val, test
    for share, trained, moved in [(0.1, 9, 1), (0.1, 8, 0), (0.2, 40, 10), (0.3, 7, 3), (0.3, 6, 2), (0.5, 6, 6)]:
        chosen = settings(protocol="official", bad=share)
        assert splits.training_count(chosen, {"train": trained}) == trained + moved
    assert splits.training_count(settings(most=5), {"train": 100, "test": 9}) == 5
    assert splits.training_count(settings(most=500), {"train": 100, "test": 9}) == 80
    assert splits.training_count(settings(most=500), {"train": 100, "val": 1, "test": 9}) == 100


def test_a_class_is_split_whatever_other_classes_and_domains_there_are() -> None:
    items = images(60, 20, {"cut": 10, "hole": 20})
    roles = splits.split(items, settings(), 42, "x")
    assert splits.split(items, settings(), 42, "x", "shift") == roles  # the domain is for messages
    fewer = splits.split([one for one in items if one.defect != "hole"], settings(), 42, "x")
    normal = [one.name for one in items if not one.anomalous]
    assert [fewer[image] for image in normal] == [roles[image] for image in normal]


def test_messages_name_class_and_domain() -> None:
    few = images(60, 5, {"cut": 0})
    for domain, where in [("both", "class nut: no"), ("shift", "class nut, shift domain: no")]:
        with pytest.raises(AdshiftError, match=f"^{where}") as error:
            splits.split(few, settings(protocol="official"), 42, "nut", domain)
        assert error.value.what.endswith("no defective image is left for test (65 normal, 0 defective)")
        assert error.value.remedy == (
            "add defective images to test/, or change split.* in params.yaml, or take the class out of `classes`"
        )
    few_normal = [
        (images(1, 5, {"cut": 9}), "train", "train/good"),
        (images(2, 0, {"cut": 9}), "test", "test/"),
        (images(60, 0, {}), "test", "test/"),  # before the defective ones, which are not there either
    ]
    for items, part, place in few_normal:
        with pytest.raises(AdshiftError, match=f"no normal image is left for {part}") as error:
            splits.split(items, settings(protocol="official" if len(items) == 60 else "study"), 42, "nut")
        assert f"add normal images to {place}, " in error.value.remedy


def test_the_official_protocol_needs_a_defective_test_image() -> None:
    with pytest.raises(AdshiftError, match="no defective image is left for test") as error:
        splits.split(images(60, 5, {}), settings(protocol="official"), 42, "nut")
    assert error.value.remedy.startswith("add defective images to test/, ")


def test_the_last_defective_image_of_a_part_does() -> None:
    """One image of each kind is enough, and so is the one defective image that contamination leaves."""
    roles = splits.split(images(2, 1, {"cut": 2}), settings(train=0.5, defects=0.5), 42, "x")
    assert Counter(roles.values()) == {"train": 1, "val": 2, "test": 2}
    roles = splits.split(images(9, 1, {"cut": 3}), settings(protocol="official", bad=0.2), 42, "x")
    assert Counter(roles.values()) == {"train": 11, "test": 2}
    with pytest.raises(AdshiftError, match="only 2 are there, of which one has to stay"):
        splits.split(images(9, 1, {"cut": 2}), settings(protocol="official", bad=0.2), 42, "x")


def test_each_domain_is_read_back_with_its_images_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    split_file.write(path, {"shift": {"test/good/2": "test", "test/a/1": "unused"}, "clean": {"train/good/9": "train"}})
    assert path.read_text().splitlines()[1:] == [
        "test/a/1,unused,shift", "test/good/2,test,shift", "train/good/9,train,clean"]  # fmt: skip
    assert split_file.read(path, "clean") == {"train/good/9": "train"}
    assert list(split_file.read(path, "shift").items()) == [("test/a/1", "unused"), ("test/good/2", "test")]
    assert list(split_file.read_all(path)) == ["clean", "shift"]
    split_file.write(path, {"clean": {"test/b/1": "test"}, "both": {"test/a/1": "val"}, "shift": {"test/c/1": "train"}})
    assert list(split_file.read(path, "clean").items()) == [("test/a/1", "val"), ("test/b/1", "test")]
    assert split_file.read(path, "shift") == {"test/a/1": "val", "test/c/1": "train"}


def test_images_of_a_part_are_its_own_and_sorted() -> None:
    roles = {"d": "train", "c": "val", "a": "test", "e": "unused", "b": "val", "0": "train"}
    assert split_file.images_of(roles, "train") == ("0", "d")
    assert split_file.images_of(roles, "val") == ("b", "c")
    assert split_file.images_of(roles, "test") == ("a",)
    assert split_file.names_of(roles, "unused", "val") == ("b", "c", "e")
    assert split_file.names_of(roles) == ()
    assert split_file.images_of({"a": "train"}, "test") == ()
    assert split_file.images_of({"a": "test", "b": "train"}, "train") == ("b",)
    assert split_file.images_of({"a": "test", "b": "val"}, "train") == ()  # only validation is stood in for


@pytest.mark.parametrize("content", ["", "name,role,domain\na,training,both\n"])
def test_a_damaged_split_says_how_to_make_it_again(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(AdshiftError, match=r"x\.csv: not a readable split \(") as error:
        split_file.read_all(path)
    assert "adshift repair" in error.value.remedy


def test_a_misplaced_image_is_named_with_the_places_that_there_are() -> None:
    with pytest.raises(AdshiftError) as error:
        splits.split([*images(60, 5, {"cut": 9}), item("train", "cut", 7)], settings(), 42, "nut")
    assert error.value.what == ("class nut: train/cut/7 lies in train/cut, expected train/good, val/* or test/*")
    assert error.value.remedy == "move it to test/, or remove it"


def test_messages_are_whole() -> None:
    items = images(60, 20, {"cut": 13})
    with pytest.raises(AdshiftError) as error:
        splits.split(items, settings(bad=0.18), 42, "nut")
    assert error.value.what == (
        "class nut: split.contamination: 0.18 moves 10 defective test images to 48 normal training images, "
        "but only 10 are there, of which one has to stay"
    )
    assert error.value.remedy == (
        "lower split.contamination, or set split.max_train, or take the class out of `classes`"
    )
    with pytest.raises(AdshiftError) as error:
        splits.split([*items, items[-1]], settings(), 42, "nut")
    assert error.value.what == f"class nut: two images are named {items[-1].name}"
    assert error.value.remedy == "rename one of them"


@pytest.mark.parametrize(
    "content",
    ["name,part,domain\na,train,both\n", "name,role,domain\na,training,both\n", "name,role,domain\na,train,dusk\n",
     "name,role,domain\na,train,clean\na,test,shift\n"],
)  # fmt: skip
def test_a_damaged_split_says_what_is_expected(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(content)
    with pytest.raises(AdshiftError) as error:
        split_file.read_all(path)
    assert error.value.what == (
        f"{path}: not a readable split (expected columns name, role, domain, each name once, "
        "roles train, val, test, unused)"
    )
    assert error.value.remedy == checksums.REMEDY


# Groups and orders.


def photos(names: dict[str, str], part: str = "train") -> list[Item]:
    """Images `GROUP_NUMBER` of one part: {stem: defect}; the list has each one's group."""
    return [
        replace(
            item("test" if defect != "good" else part, defect, stem),
            image=f"raw/{stem}.png",
            listed={"group": stem.split("_")[0], "day": stem.split("_")[1]},
        )
        for stem, defect in names.items()
    ]


@pytest.mark.parametrize("group", ["group", r"^(\w+?)_"])
def test_a_group_has_one_side_and_its_defective_image_takes_the_normal_ones_along(group: str) -> None:
    names = {
        f"p{part:02}_{view}": "cut" if part % 4 == 0 and view == 0 else "good"
        for part in range(40)
        for view in (0, 1, 2)
    }
    for seed in range(5):
        roles = splits.split(photos(names), settings(group=group), seed, "x")
        sides: dict[str, set[str]] = {}
        for name, role in roles.items():
            sides.setdefault(name.split("/")[2].split("_")[0], set()).add(role)
        assert all(len(one) == 1 for one in sides.values())
        defective = [next(iter(sides[f"p{part:02}"])) for part in range(0, 40, 4)]
        assert Counter(defective) == {"val": 3, "test": 7}
        trained = [name for name, role in roles.items() if role == "train"]
        assert len(trained) == 87  # of 110 normal images 88 at most, three a part, none of a part with a defect
        assert Counter(roles.values())["val"] + Counter(roles.values())["test"] == 120 - 87


def test_a_group_on_two_sides_of_the_data_sets_own_parts_is_refused() -> None:
    items = [*photos({"a_1": "good"}, "val"), *photos({"a_2": "good"}, "test"), *images(20, 0, {})]
    items = [replace(one, listed=one.listed or {"group": ""}) for one in items]
    with pytest.raises(AdshiftError, match=r"class x: split.group: a has images in test and in val"):
        splits.split(items, settings(group="group"), 0, "x")
    train_and_test = [*photos({"a_1": "good", "b_1": "good"}), *photos({"a_2": "cut", "c_2": "good"}, "test")]
    with pytest.raises(AdshiftError, match=r"split.group: a has images in train and in test"):
        splits.split(train_and_test, settings(group="group", protocol="official"), 0, "x")


def test_a_training_group_follows_its_test_images() -> None:
    items = [*photos({"a_1": "good"}), *photos({"a_2": "good"}, "test"), *photos({f"b{n}_1": "good" for n in range(9)})]
    assert splits.split(items, settings(group="group"), 0, "x")["train/good/a_1"] == "test"


def test_images_stand_in_the_order_that_is_asked_for() -> None:
    names = {f"p{number:02}_{100 - number}": "good" for number in range(20)}
    by_name = splits.split(photos(names), settings(order="name"), 0, "x")
    by_day = splits.split(photos(names), settings(order="day"), 0, "x")
    ordered = ["train"] * 16 + ["val"] * 2 + ["test"] * 2
    assert [by_name[name] for name in sorted(by_name)] == ordered
    assert [by_day[name] for name in sorted(by_day)] == ordered[::-1]
    assert by_name == splits.split(photos(names), settings(order="name"), 1, "x")  # nothing is drawn
    numbers = {f"p_{number}": "good" for number in range(20)}  # 2 before 10
    roles = splits.split(photos(numbers), settings(order="day"), 0, "x")
    assert [roles[f"train/good/p_{number}"] for number in range(20)] == ordered


def test_the_first_defective_images_in_time_validate() -> None:
    names = {f"p_{number:02}": "cut" if number >= 20 else "good" for number in range(30)}
    roles = splits.split(photos(names), settings(order="day"), 0, "x")
    assert [roles[f"test/cut/p_{number}"] for number in range(20, 30)] == ["val"] * 3 + ["test"] * 7


@pytest.mark.parametrize("sizes", [(60, 50, 5), (10, 10, 80), (80, 5, 5)])
def test_few_large_groups_leave_no_side_empty(sizes: tuple[int, int, int]) -> None:
    names = {f"d{day}_{number}": "good" for day, count in enumerate(sizes) for number in range(count)}
    roles = splits.split(photos(names), settings(group="group", order="name"), 0, "x")
    assert Counter(roles.values()) == dict(zip(("train", "val", "test"), sizes, strict=True))
    with pytest.raises(AdshiftError, match="no normal image is left for"):
        splits.split(photos({f"d_{number}": "good" for number in range(9)}), settings(group="group"), 0, "x")


def test_a_group_keeps_its_side_in_the_other_domain() -> None:
    chosen = settings(group="group")
    clean = photos({f"p{part}_1": "good" for part in range(30)})
    shifted = photos({f"p{part}_2": "cut" if part < 15 else "good" for part in range(60)})
    roles = splits.split(clean, chosen, 3, "x", "clean")
    settled = splits.sides(clean, roles, chosen, 3, "x")
    other = splits.split(shifted, chosen, 3, "x", "shift", settled)
    for part in range(30):
        here, there = roles[f"train/good/p{part}_1"], next(other[n] for n in other if n.endswith(f"/p{part}_2"))
        assert there == here or (here, there, part < 15) == ("train", "unused", True)
    assert "unused" in other.values()
    told = splits.warnings(shifted, other, "x")
    assert any("are not used, since their groups train" in line for line in told)
    assert splits.sides(clean, roles, settings(), 3, "x") == {}


def test_contamination_moves_whole_groups() -> None:
    names = {f"p{part:02}_{view}": "cut" for part in range(20) for view in (1, 2)} | {
        f"g{n}_1": "good" for n in range(60)
    }
    roles = splits.split(photos(names), settings(group="group", bad=0.1), 1, "x")
    moved = [name for name, role in roles.items() if role == "train" and "/cut/" in name]
    assert len(moved) == 4  # 5 of 53 would be more than a tenth, and 5 is no number of pairs
    assert Counter(name.split("/")[2].split("_")[0] for name in moved) == dict.fromkeys(
        {n.split("/")[2][:3] for n in moved}, 2
    )


def test_unlabelled_images_test_and_are_no_copies() -> None:
    extra = [replace(item("test", "", number), sha256="same") for number in range(3)]
    items = [*(replace(one, sha256=one.name) for one in images(60, 5, {"cut": 9})), *extra]
    roles = splits.split(items, settings(), 42, "x")
    assert {roles[one.name] for one in extra} == {"test"}
    assert roles == splits.split(items[:-3], settings(), 42, "x") | {one.name: "test" for one in extra}
    twin = replace(items[0], sha256="same")
    splits.check_copies([(twin, "train"), *((one, "test") for one in extra)])


def test_a_column_or_a_group_that_is_not_there() -> None:
    with pytest.raises(AdshiftError, match=r"split.group: the data set has no column part") as error:
        splits.split(photos({"a_1": "good"}), settings(group="part"), 0, "x")
    assert error.value.remedy == "choose from day, group"
    with pytest.raises(AdshiftError, match=r"split.order: the data set has no column date"):
        splits.split(images(9, 2, {}), settings(order="date"), 0, "x")
    with pytest.raises(AdshiftError, match=r"class x: raw/a_1.png names no group: no 'lot\(.\)' in its name"):
        splits.split(photos({"a_1": "good"}), settings(group="lot(.)"), 0, "x")
