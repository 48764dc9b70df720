"""Each data set from a small tree in its authors' layout: counts, official parts, masks, and what is refused."""

import json
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adshift.data import datasets, images
from adshift.data.datasets import btad, mvtec, visa
from adshift.data.manifest import anomalous
from adshift.errors import AdshiftError
from layouts import (
    SIZE,
    mask,
    picture,
    write_btad,
    write_mvtec,
    write_mvtec_ad_2,
    write_real_iad,
    write_visa,
    write_visa_folders,
)

# {data set: (tree, classes, normal images a part, defective ones a type)} a class
SETS = {
    "mvtec": (write_mvtec, ["bottle"], {"train": 4, "test": 2}, {"cut": 2, "hole": 1}),
    "mvtec_ad_2": (write_mvtec_ad_2, ["can"], {"train": 4, "val": 2, "test": 2}, {"bad": 3}),
    "visa": (write_visa, ["candle", "pcb1"], {"train": 4, "test": 2}, {"bad": 3}),
    "btad": (write_btad, ["01", "02", "03"], {"train": 5, "test": 2}, {"ko": 3}),
    "real_iad": (write_real_iad, ["audiojack"], {"train": 15, "test": 7}, {"BX": 3, "AK": 5}),
}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "raw"


def build(name, root, classes):
    return datasets.build(name, str(root), classes, Path("not/used"))


def refused(name, root, classes):
    """What `check` says, which opens no image, and `build` with it."""
    with pytest.raises(AdshiftError) as caught:
        datasets.check(name, str(root), classes)
    with pytest.raises(AdshiftError) as again:
        build(name, root, classes)
    assert str(again.value) == str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", SETS)
def test_counts_parts_and_masks(name, root):
    write, classes, normal, defective = SETS[name]
    write(root)
    assert datasets.classes_under(name, str(root)) == classes
    assert datasets.check(name, str(root), classes) == dict.fromkeys(classes, normal)
    for chosen, items in build(name, root, classes).items():
        assert Counter(item.part for item in items if not item.anomalous) == normal, chosen
        assert Counter(item.defect for item in items if item.anomalous) == defective, chosen
        assert all(item.part == "test" for item in items if item.anomalous)
        names = [item.name for item in items]
        assert len(set(names)) == len(names) == sum(normal.values()) + sum(defective.values())
        assert [one.split("/")[:2] for one in names] == [[item.part, item.defect] for item in items]
        assert all(one.count("/") == 2 for one in names)  # tables and file names rely on it
        assert anomalous(names).tolist() == [item.anomalous for item in items]
        assert all(item.image.startswith(f"{root}/") for item in items)
        assert all(bool(item.mask) == item.anomalous for item in items)
        for item in items:
            assert images.load_mask(item).any() == item.anomalous
            assert images.load_image(item).shape == (*SIZE, 3)


@pytest.mark.parametrize("name", SETS)
def test_another_sets_tree_is_refused_with_the_layout_expected(name, root):
    (root / "somewhere/else").mkdir(parents=True)
    error = refused(name, root, SETS[name][1])
    assert error.what == f"dataset.root: {root} is no {name} data set"
    assert SETS[name][1][0] not in error.remedy and "it is to hold" in error.remedy and "/" in error.remedy


@pytest.mark.parametrize("name", ["mvtec_ad_2", "btad", "real_iad", "visa"])
def test_masks_and_images_pair(name, root):
    write, classes, *_ = SETS[name]
    write(root)
    item = next(item for item in build(name, root, classes)[classes[0]] if item.anomalous)
    Path(item.mask).unlink()
    error = refused(name, root, classes)
    assert f"{Path(item.image).stem}" in error.what.splitlines()[-1]
    assert f"expected is {datasets.import_module(datasets.REGISTRY[name]).LAYOUT}" in error.remedy
    mask(Path(item.mask))
    Path(item.image).unlink()
    what = refused(name, root, classes).what
    assert f"{item.mask}: is a mask without its image" in what or f"{item.image}: is not there, but listed" in what


@pytest.mark.parametrize(
    ("name", "folder", "lacking"),
    [
        ("mvtec", "bottle/train/good", "class bottle has no normal training images"),
        ("mvtec_ad_2", "can/train/good", "class can has no normal training images"),
        ("mvtec_ad_2", "can/validation/good", "can: has no validation images, in validation/good"),
        ("btad", "02/train/ok", "class 02 has no normal training images"),
        ("btad", "02/test/ok", "class 02 has no normal test images"),
    ],
)
def test_an_empty_folder(name, folder, lacking, root):
    write, classes, *_ = SETS[name]
    write(root)
    for path in (root / folder).iterdir():
        path.unlink()
    error = refused(name, root, classes)
    assert lacking in error.what
    assert "expected is CLASS/train/" in error.remedy


@pytest.mark.parametrize(("name", "folder"), [("mvtec_ad_2", "can/validation/bad"), ("btad", "01/train/ko")])
def test_defective_images_where_none_belong(name, folder, root):
    SETS[name][0](root)
    picture(root / folder / "000.png")
    assert f"{root / folder}: images of {folder.split('/')[1]} are normal" in refused(name, root, SETS[name][1]).what


def test_private_parts_of_mvtec_ad_2_are_passed_over(root):
    write_mvtec_ad_2(root)
    assert not [
        item
        for item in build("mvtec_ad_2", root, ["can"])["can"]
        if "test_private" in item.image.removeprefix(str(root))
    ]


def test_mvtec_ad_is_not_taken_for_mvtec_ad_2(root):
    write_mvtec(root)
    assert "is no mvtec_ad_2 data set" in refused("mvtec_ad_2", root, ["bottle"]).what
    assert "is no btad data set" in refused("btad", root, ["bottle"]).what


def test_visa_rearranged(root):
    write_visa_folders(root)
    items = build("visa", root, ["candle"])["candle"]
    assert Counter((item.part, item.defect) for item in items) == {
        ("train", "good"): 4, ("test", "good"): 2, ("test", "bad"): 3}  # fmt: skip


def test_every_kind_of_defect_of_a_downloaded_visa_mask_counts(root):
    write_visa(root)
    item = next(item for item in build("visa", root, ["candle"])["candle"] if item.anomalous)
    assert np.argwhere(images.load_mask(item)).tolist() == [[1, 1], [2, 2]]


def visa_rows(root, change):
    path = root / visa.SPLIT
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines)) + "\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:-1], "Masks/Anomaly/0002.png: is not listed in"),
        (lambda lines: [*lines, lines[1].replace("0000", "0099")], "Normal/0099.JPG: is not there, but listed in"),
        (lambda lines: [*lines, lines[1].replace("test", "train")], "Normal/0000.JPG: stands twice in the split"),
        (lambda lines: [*lines, lines[1]], "class candle has two images named test/good/0000"),
        (lambda lines: [line.replace(",test,anomaly", ",train,anomaly") for line in lines], "no anomaly in train"),
        (lambda lines: [line.replace("normal", "fine") for line in lines], "label fine"),
        (lambda lines: [*lines[:-1], lines[-1].rsplit(",", 1)[0] + ","], "expected a mask for an anomaly"),
        (lambda lines: [*lines, "candle,test,normal,../../etc/0.JPG,"], "leads out of the folder"),
        (lambda lines: ["a,b,c", *lines[1:]], "expected columns object, split, label, image, mask"),
    ],
)
def test_a_split_of_visa_that_is_wrong(root, change, words):
    write_visa(root, ("candle",))
    visa_rows(root, change)
    assert words in refused("visa", root, ["candle"]).what


def test_the_masks_of_normal_images_of_btad_are_passed_over(root):
    write_btad(root, ("01",))
    mask(root / "01/ground_truth/ok/0000.png", ())
    assert len(build("btad", root, ["01"])["01"]) == 10


@pytest.mark.parametrize("size", ["realiad_256", "realiad_1024", "realiad_raw"])
@pytest.mark.parametrize("nested", [True, False])
def test_real_iad_wherever_its_archives_put_it(root, size, nested):
    write_real_iad(root, ("audiojack", "zipper"), nested=nested, size=size)
    (root / "realiad_jsons/toy.json").write_text("{}")  # a class whose images were not fetched
    assert datasets.classes_under("real_iad", str(root)) == ["audiojack", "zipper"]
    items = build("real_iad", root, ["zipper"])["zipper"]
    hidden = [item for item in items if "/NG/BX/" in item.image and not item.anomalous]
    assert len(hidden) == 2  # the views that do not show the defect
    assert all(item.name.startswith("test/good/NG_BX_S0001_zipper__0001_NG_BX_C") for item in hidden)


def test_views_of_one_stem_in_several_samples_keep_their_own_names(root):
    write_real_iad(root)
    path = root / "realiad_jsons/realiad_jsons/audiojack.json"
    content = json.loads(path.read_text())
    for entry in content["train"]:
        old = root / "realiad_256/audiojack" / entry["image_path"]
        camera = old.stem.split("_C")[1][0]
        entry["image_path"] = f"{Path(entry['image_path']).parent}/C{camera}.jpg"
        old.rename(root / "realiad_256/audiojack" / entry["image_path"])
    path.write_text(json.dumps(content))
    items = build("real_iad", root, ["audiojack"])["audiojack"]
    assert "train/good/OK_S0002_C5" in {item.name for item in items}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["train"].append(c["test"][-1]), "is defective and in train"),
        (lambda c: c["test"].append(c["test"][0]), "stands twice in the split"),
        (lambda c: c["test"].append(c["train"][0]), "stands twice in the split"),
        (lambda c: c["test"][-1].update(mask_path=None), "has no mask"),
        (lambda c: c["test"][0].update(image_path="../../x.jpg"), "leads out of the folder"),
        (lambda c: c["meta"].update(prefix="/etc"), "leads out of the folder"),
        (lambda c: c["test"][0].update(image_path="OK/S9/gone.jpg"), "OK/S9/gone.jpg: is not there, but listed in"),
        (lambda c: c.pop("meta"), "audiojack.json: not a readable split (KeyError: 'meta')"),
        (lambda c: c["train"][0].pop("anomaly_class"), "not a readable split (KeyError: 'anomaly_class')"),
        (lambda c: c.update(train=[]), "class audiojack has no normal training images"),
    ],
)
def test_a_split_of_real_iad_that_is_wrong(root, change, words):
    write_real_iad(root)
    path = root / "realiad_jsons/realiad_jsons/audiojack.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    error = refused("real_iad", root, ["audiojack"])
    assert words in error.what
    assert "realiad_jsons/CLASS.json" in error.remedy


def test_two_resolutions_of_real_iad_are_not_chosen_from(root):
    write_real_iad(root)
    write_real_iad(root, size="realiad_512")
    assert "holds audiojack in realiad_256 and realiad_512" in refused("real_iad", root, ["audiojack"]).what


def test_images_are_not_held(root):
    """300 images of 200 KB decoded: what prepare keeps of each is its row."""
    write_real_iad(root, samples=1)
    path = root / "realiad_jsons/realiad_jsons/audiojack.json"
    content = json.loads(path.read_text())
    source = picture(root / "one.jpg", (256, 256)).read_bytes()
    for number in range(300):
        name = f"OK/S{number + 9:04}/C1.jpg"
        (root / "realiad_256/audiojack" / name).parent.mkdir()
        (root / "realiad_256/audiojack" / name).write_bytes(source)
        content["train"].append({"anomaly_class": "OK", "image_path": name, "mask_path": None, "category": "audiojack"})
    path.write_text(json.dumps(content))
    build("real_iad", root, ["audiojack"])  # what is imported on the way does not count
    tracemalloc.start()
    items = build("real_iad", root, ["audiojack"])["audiojack"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(items) > 300
    assert peak < 300 * 256 * 256 * 3 / 10


@pytest.mark.parametrize(
    ("module", "classes", "train", "normal", "defective"),
    [(mvtec, 15, 3629, 467, 1258), (visa, 12, 8659, 962, 1200), (btad, 3, 1799, 451, 290)],
)
def test_published_counts_sum_to_the_papers(module, classes, train, normal, defective):
    counts = list(module.PUBLISHED.values())
    assert len(counts) == classes
    assert [sum(column) for column in zip(*counts, strict=True)] == [train, normal, defective]


def test_what_a_root_lacks_of_the_published_counts(root, monkeypatch):
    write_btad(root)
    monkeypatch.setattr(btad, "PUBLISHED", {"01": (5, 2, 3), "02": (5, 2, 3), "03": (5, 2, 3)})
    assert datasets.incomplete("btad", str(root)) == []
    (root / "02/train/ok/0000.png").unlink()
    monkeypatch.setitem(btad.PUBLISHED, "04", (1, 1, 1))
    assert datasets.incomplete("btad", str(root)) == [
        f"{root}: class 04 is missing",
        f"{root}: class 02 has 4 training, 2 normal test and 3 defective test images, "
        "published are 5 training, 2 normal test and 3 defective test images",
    ]
