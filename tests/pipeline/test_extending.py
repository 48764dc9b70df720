"""CONTRIBUTING.md, followed to the letter: all that it adds is added to a copy, and the stages run."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from adshift.data.manifest import Item
from adshift.detectors.records import Predictions
from adshift.runtime.files import read_json
from tiny import ROOT, Project, write_tree

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
IMAGES = {"train": 6, "val": 3, "test": 4}


BLOCK = r"(?ms)^( *)<!-- (file|section|line|artifact|function|record): (\S+) -->\n\1```\w+\n(.*?)^\1```"
FILES = {"method": 3, "data set": 2, "image metric": 1, "pixel metric": 1, "scenario": 1}  # touched, at most


def blocks(text: str = PAGE) -> list[tuple[str, str, str]]:
    """(kind, path, text) of the page's blocks, without the indentation of the list that they stand in."""
    found = re.findall(BLOCK, text)
    assert found
    return [(kind, path, re.sub(f"(?m)^{indent}", "", inner)) for indent, kind, path, inner in found]


# As `adshift repro` does first, by the code of the project with its additions.
DERIVE = """
from pathlib import Path
from ruamel.yaml import YAML
from adshift.project import graph_lists

values = YAML().load(Path("params.yaml"))
values["graph"] = graph_lists.lists(values)
YAML().dump(values, Path("params.yaml"))
"""


def put(kind: str, path: Path, text: str) -> None:
    """Do with a file what the page says of a block of this kind."""
    before = path.read_text() if path.exists() else ""
    after = {
        "file": lambda: text,
        "section": lambda: f"{before}\n{text}",
        "line": lambda: re.sub(r"^DATASETS = \{\n", rf"\g<0>{text}", before, flags=re.MULTILINE),
        "artifact": lambda: before.replace("\nartifacts:\n", f"\nartifacts:\n{text}"),
        "function": lambda: before.replace("\nMETRICS = (\n", f"\n{text}\n\nMETRICS = (\n"),
        "record": lambda: re.sub(
            r"(?ms)^((?:METRICS|SCENARIOS) = \(\n.*?)^\)", rf"\g<1>{text.rstrip()},\n)", before, count=1
        ),
    }[kind]()
    assert after != before
    path.write_text(after)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the project to which all that the page says is added, and nothing else."""
    project = Project(tmp_path_factory.mktemp("project"), threads=1).copy()
    for kind, path, text in blocks():
        put(kind, project.folder / path, text)
    changed = {line[3:] for line in project.git("status", "--porcelain", "--untracked-files=all").splitlines()}
    assert changed == {path for _, path, _ in blocks()}
    return project


@pytest.mark.parametrize("what", FILES)
def test_an_addition_touches_few_files(what: str) -> None:
    [section] = re.findall(rf"(?ms)^## Add an? {what}\n(.*?)^## ", PAGE)
    assert len({path for _, path, _ in blocks(section)}) == FILES[what]


@pytest.fixture(scope="module")
def evaluated(project: Project, study: Path) -> Path:
    """Scores of a tiny study, and what the stages after them write with the metrics and the scenario of the page."""
    folder = project.folder.with_name(f"{project.folder.name}-evaluated")
    for part in ("src", "stages", "reference", ".dvc/plots"):
        shutil.copytree(project.folder / part, folder / part)
    for part in ("data", "photos"):
        shutil.copytree(study / part, folder / part)
    shutil.copy(study / "params.yaml", folder)
    copy = Project(folder, threads=1)
    copy.run("python", "-c", DERIVE)
    for stage in ("calibrate", "evaluate", "aggregate", "report"):
        if stage == "aggregate":
            for method in ("patchcore", "padim_diagonal"):
                copy.run("python", "stages/evaluate_pixels.py", "--method", method)
        copy.run("python", f"stages/{stage}.py")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_the_metrics_are_in_the_tables_and_on_the_page(evaluated: Path) -> None:
    found = {(*list(row.values())[:4],): row for row in rows(evaluated / "metrics/tables/results.csv")}
    for (method, scenario, name, metric), row in found.items():
        if metric == "balanced_accuracy":
            recall, specificity = (
                float(found[method, scenario, name, one]["value"]) for one in ("recall", "specificity")
            )
            assert float(row["value"]) == pytest.approx((recall + specificity) / 2, abs=1e-5)
            assert float(row["value_low"]) <= float(row["value"]) <= float(row["value_high"])
        if metric == "pixel_recall_at_one_percent":
            assert 0 <= float(row["value"]) <= 1 and not row["value_low"]
    assert {"balanced_accuracy", "pixel_recall_at_one_percent"} < {key[-1] for key in found}
    differences = rows(evaluated / "metrics/tables/differences_all.csv")
    assert "balanced_accuracy" in {row["metric"] for row in differences}
    page = (evaluated / "report/index.html").read_text()
    assert all(f"<th>{label}</th>" in page for label in ("balanced accuracy", "pixel recall at 1 % false alarms"))


def test_the_scenario_is_in_the_tables_the_charts_and_on_the_page(evaluated: Path) -> None:
    name, label = "shift_old_threshold", "Shift, refit, old threshold"
    tables = evaluated / "metrics/tables"
    for path in (tables / "results.csv", tables / "table5_shift_decisions.csv", tables / "table4_shift_ranking.csv",
                 evaluated / "plots/curves/scenarios.csv", evaluated / "plots/curves/roc.csv"):  # fmt: skip
        assert name in {row["scenario"] for row in rows(path)}, path.name
    assert f"| {label} |" in (tables / "table5_shift_decisions.md").read_text()
    assert name in read_json(evaluated / "metrics/summary.json")["patchcore"]
    page = (evaluated / "report/index.html").read_text()
    assert page.count(label) > 4 and "After drift, a refit and clean validation images" in page
    chosen = read_json(evaluated / "data/thresholds/mvtec/patchcore.json")["dots"]
    assert chosen[name] != chosen["shift_full_adaptation"]


def test_the_docs_follow_by_a_command(project: Project) -> None:
    project.run("python", "docs/records.py")
    text = (project.folder / "docs/metrics.md").read_text()
    assert "| `balanced_accuracy` |" in text and "| `pixel_recall_at_one_percent` |" in text
    assert "| `shift_old_threshold` | Shift, refit, old threshold | shifted | clean validation | shifted test |" in text


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
        "score@mean_patch-dots",
        "evaluate_pixels@mean_patch",
    ):
        assert stage in listed


def test_the_methods_stages_run(stored: Project) -> None:
    stored.run("python", "stages/sources.py")
    stored.run("python", "-c", DERIVE)
    stored.run("python", "stages/check.py")
    which = ("--dataset", "mvtec", "--method", "mean_patch", "--model", "dots")
    stored.run("python", "stages/fit.py", *which, "--seed", "42", "--domain", "clean")
    stored.run("python", "stages/score.py", *which, "--domains", "clean")

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
    before = (project.folder / "params.yaml").read_text()
    project.change(dataset__name="okay_broken", dataset__root="raw", classes=["dots"])
    project.run("adshift", "check")
    project.run("python", "stages/prepare.py")
    items = read(project.folder / "data/clean/okay_broken/dots/manifest.csv")
    assert counts(items) == {("train", "good"): 7, ("test", "good"): 3, ("test", "broken"): 4}
    assert all(Path(item.mask).name == Path(item.image).name for item in items if item.anomalous)

    (new / "marked/001.png").unlink()
    done = project.run("adshift", "check", ok=False)
    (project.folder / "params.yaml").write_text(before)  # tests run in any order
    assert "raw/dots/broken/001.png: has no mask" in done.stderr


def counts(items: list[Item]) -> dict[tuple[str, str], int]:
    keys = [(item.part, item.defect) for item in items]
    return {key: keys.count(key) for key in keys}
