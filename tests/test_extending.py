"""CONTRIBUTING.md, followed to the letter: its method and its data set are added to a copy, and the stages run."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from adshift.data.manifest import Item
from adshift.detectors.records import Predictions
from adshift.runtime.files import read_json
from tiny import ROOT, Project, write_tree

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
IMAGES = {"train": 6, "val": 3, "test": 4}


def blocks(kind: str) -> dict[str, str]:
    """{path: text} of the page's blocks of a kind, without the indentation of the list that they stand in."""
    found = re.findall(rf"(?ms)^( *)<!-- {kind}: (\S+) -->\n\1```\w+\n(.*?)^\1```", PAGE)
    assert found, kind
    return {path: re.sub(f"(?m)^{indent}", "", text) for indent, path, text in found}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project to which all that the page says is added, and nothing else."""
    project = Project(tmp_path_factory.mktemp("project"), threads=1).copy()
    folder = project.folder
    for path, text in blocks("file").items():
        (folder / path).write_text(text)
    for path, text in blocks("section").items():
        (folder / path).write_text((folder / path).read_text() + "\n" + text)
    for path, text in blocks("line").items():
        before = (folder / path).read_text()
        (folder / path).write_text(re.sub(r"^(REGISTRY|DATASETS) = \{\n", r"\g<0>" + text, before, flags=re.MULTILINE))
        assert (folder / path).read_text() != before
    return project


@pytest.fixture(scope="module")
def stored(project: Project) -> Project:
    """The project with feature maps and a split of a class, as the stages before the fit leave them."""
    project.change(methods=["mean_patch"], classes=["dots"], dataset__name="mvtec", dataset__root="photos")
    write_tree(project.folder / "photos", ("dots",))
    names = [f"{part}/good/{index}" for part, count in IMAGES.items() for index in range(count)]
    split = project.folder / "data/split/mvtec/dots.csv"
    split.parent.mkdir(parents=True)
    split.write_text("\n".join(["name,role,domain", *(f"{name},{name.split('/')[0]},both" for name in names)]) + "\n")
    maps = np.random.default_rng(0).normal(size=(len(names), 4, 4, 3)).astype(np.float16)
    maps[-1, 2, 1] += 20  # the last test image has a defect
    folder = project.folder / "data/features/clean/mvtec/dots"
    folder.mkdir(parents=True)
    for level in (1, 2):
        np.save(folder / f"level{level}.npy", maps)
    layers = [{"name": f"layer{level}", "file": f"level{level}.npy", "shape": [4, 4, 3]} for level in (1, 2)]
    record = {"backbone": "none", "size": 32, "layers": layers, "names": names}
    (folder / "features.json").write_text(json.dumps(record))
    return project


def test_the_method_is_in_the_graph(stored: Project) -> None:
    listed = stored.dvc("stage", "list", "--all")
    for stage in (
        "fit@mean_patch-dots-shift",
        "score_unified@mean_patch-unified",
        "evaluate_pixels@mean_patch",
    ):
        assert stage in listed


def test_the_methods_stages_run(stored: Project) -> None:
    stored.run("python", "stages/sources.py")
    stored.run("python", "stages/check.py")
    which = ("--dataset", "mvtec", "--method", "mean_patch", "--model", "dots")
    stored.run("python", "stages/fit.py", *which, "--seed", "42", "--domain", "clean")
    stored.run("python", "stages/score.py", *which, "--pairs", "clean-on-clean")

    sources = read_json(stored.folder / "data/sources/methods/mean_patch.json")
    assert {"src/adshift/detectors/mean_patch.py", "src/adshift/features/store.py"} <= set(sources["files"])
    assert read_json(stored.folder / "data/settings/mean_patch/fit.json") == {"layers": [2]}
    found = Predictions.load(stored.folder / "data/scores/test/mvtec/mean_patch/dots/clean-on-clean/dots.npz")
    assert len(found.names) == IMAGES["test"]
    assert found.scores.argmax() == IMAGES["test"] - 1
    row, column = np.unravel_index(found.maps[-1].argmax(), (4, 4))
    assert (row, column) == (2, 1)


def test_a_misspelt_knob_of_the_method_is_told(stored: Project) -> None:
    path = stored.folder / "params.yaml"
    before = path.read_text()
    path.write_text(before.replace("mean_patch:\n", "mean_patch:\n  smothing: 1.0\n"))
    try:
        done = stored.run("python", "stages/check.py", ok=False)
    finally:
        path.write_text(before)
    assert done.returncode == 1
    assert "mean_patch.smothing: extra" in done.stderr


def test_the_data_set_becomes_a_manifest(project: Project) -> None:
    from adshift.data.manifest import read

    write_tree(project.folder / "mvtec", ("dots",))
    old, new = project.folder / "mvtec/dots", project.folder / "raw/dots"
    for source, target in (("train/good", "okay"), ("test/hole", "broken"), ("ground_truth/hole", "marked")):
        (new / target).mkdir(parents=True)
        for path in (old / source).iterdir():
            path.rename(new / target / path.name.replace("_mask", ""))
    project.change(dataset__name="okay_broken", dataset__root="raw", classes=["dots"])
    project.run("adshift", "check")
    project.run("python", "stages/prepare.py")
    items = read(project.folder / "data/clean/okay_broken/dots/manifest.csv")
    assert counts(items) == {("train", "good"): 7, ("test", "good"): 3, ("test", "broken"): 4}
    assert all(Path(item.mask).name == Path(item.image).name for item in items if item.anomalous)

    (new / "marked/001.png").unlink()
    done = project.run("adshift", "check", ok=False)
    assert "raw/dots/broken/001.png: has no mask" in done.stderr


def counts(items: list[Item]) -> dict[tuple[str, str], int]:
    keys = [(item.part, item.defect) for item in items]
    return {key: keys.count(key) for key in keys}
