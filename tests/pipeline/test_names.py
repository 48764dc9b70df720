"""Classes and defects that bear words of ours, or of a format's: none is taken for anything but a name."""

import csv
import json
import re
from pathlib import Path
from typing import cast

import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

import fake_run
from adshift.data import datasets
from adshift.detectors import registry
from adshift.errors import AdshiftError
from adshift.evaluation.scenarios import SCENARIOS
from adshift.project import params
from adshift.report import compare, page, payload, pictures, plots, published, tables
from adshift.report.labels import MACRO
from adshift.report.results import Results
from adshift.report.results import collect as collect_results
from adshift.report.table import Table, write
from adshift.studies import declare, results
from fake_run import measured, texts
from layouts import write_real_iad, write_tiles

ROOT = Path(__file__).parents[2]
WORDS = ("macro", "mean", "clean", "shift", "both", "tie", "all", "val", "good", "patchcore", "null", "nan", "true",
         "01", "1e5", "constructor", "__proto__", "toString", "items")  # fmt: skip
FEW = ("macro", "clean", "01", "constructor", "__proto__", "items")
DEFECTS = ("Good", "clean", "macro", "constructor", "__proto__", "null")
MORE = tuple(f"test/{defect}/900" for defect in DEFECTS)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose classes and defects are called so; each class has an F1 of its own."""
    monkeypatch.chdir(tmp_path)
    for name in (".dvc/plots", "reference"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    fake_run.make(classes=FEW, more=MORE)
    for method in fake_run.METHODS:
        path = Path(f"data/evaluation/sample/image/{method}.json")
        image = json.loads(path.read_text())
        for place, name in enumerate(FEW):
            for scenario in SCENARIOS:
                image["classes"][name][scenario.name]["f1"] = 1 - place / 10
        path.write_text(json.dumps(image))
    return tmp_path


def collect() -> Results:
    return collect_results("sample", FEW, fake_run.METHODS, fake_run.RATIOS)


def by_class(table: Table, **where: str) -> dict[str, list[dict[str, str]]]:
    """Rows of a table's CSV."""
    found: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(table.csv().splitlines()):
        if all(row[column] == value for column, value in where.items()):
            found.setdefault(row["class"], []).append(row)
    return found


def test_a_class_may_be_called_so_and_the_mean_may_not() -> None:
    name = TypeAdapter(params.Name)
    assert [name.validate_python(word) for word in WORDS] == [*WORDS]
    for word in (MACRO, ""):
        with pytest.raises(ValidationError):
            name.validate_python(word)
    assert not {MACRO, tables.TIE, registry.UNIFIED, ""} & {*registry.REGISTRY}


def test_tables_keep_the_mean_and_the_class_apart(run: Path) -> None:
    found = collect()
    long = by_class(tables.long(found), method="padim", scenario="clean", metric="image_f1")
    expected = {name: 1 - place / 10 for place, name in enumerate(FEW)} | {MACRO: 0.75}
    assert {name: float(row["value"]) for name, [row] in long.items()} == pytest.approx(expected)
    assert tables.summary(found)["padim"]["clean"]["image_f1"] == 0.75
    assert {name for _, name, _ in found.thresholds()} == {*FEW}
    for table in tables.all_tables("sample", found, "resnet50", Path("reference")):
        if "class" in table.columns and table.name not in ("table1_splits", "differences"):
            rows = by_class(table)
            assert MACRO in rows and ({*rows} == {MACRO} or [*rows] == [*FEW, MACRO]), table.name
            shown = [row[table.columns.index("class")] for row in table.cells()[1:]]
            assert [*dict.fromkeys(shown)] == [*(name for name in rows if name != MACRO), "mean of classes"]


def test_the_page_and_its_data_have_every_class(run: Path) -> None:
    found = collect()
    album = pictures.Album("sample", 32, None, found.thresholds())
    shown = pictures.choose("sample", FEW, 4)
    data = json.loads(json.dumps(payload.build(found, album, shown, 12)))
    assert data["classes"] == [*data["images"]] == [*FEW]
    assert all([*cells] == [*FEW] for scenarios in data["cells"].values() for cells in scenarios.values())
    assert {*MORE} <= {*data["images"]["macro"]["clean"]["names"]}
    judged = page.judgements(found, 0.8)["padim"]
    assert [*judged] == [*FEW, MACRO]
    assert judged["macro"]["clean"].figures[0].value == 1 and judged[MACRO]["clean"].figures[0].value == 0.75
    html = page.build(
        "sample", found, album, backbone="b", drift="synthetic", shown=shown, count=12, required=0.8,
        reference=Path("reference"),
    )  # fmt: skip
    heads = re.findall(r'<th scope="rowgroup"[^>]*>(?:<a href="#class-\d+">)?([^<]+)', html)
    assert heads == [*FEW, "mean of classes"]


def test_charts_have_every_class_and_scenarios_the_mean_alone(run: Path) -> None:
    found = plots.rows("sample", collect())
    assert {row["class"] for row in found["scenarios"]} == {*FEW, MACRO}
    for name in ("coreset", "unified_gap", "cross_class"):
        written = {text for text, _, _ in texts(plots.svg(plots.fill(plots.CHARTS[name], found[name])))}
        assert {*FEW} <= written and ("mean of classes" in written) == (name != "cross_class")
    [test] = [one["filter"] for one in json.loads(Path(".dvc/plots/scenarios.json").read_text())["transform"]
              if "filter" in one]  # fmt: skip
    assert test == f"datum.class == '{MACRO}'"


def test_runs_are_compared_by_the_mean(run: Path) -> None:
    write(run / "here", [tables.long(collect())])
    assert compare.read(run / "here", "clean").methods["padim"]["image_f1"].value == 0.75


def test_a_study_takes_neither_a_class_for_the_mean_nor_for_a_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    where = declare.read("coreset").published
    published = results._published(where)
    row = {"dataset": "mvtec", "backbone": "resnet50", "coreset": 0.05, "scenario": "clean", "method": "patchcore",
           "metric": "image_f1"}  # fmt: skip
    assert results.look_up(where, published, {**row, "class": MACRO}) == 0.966
    assert results.look_up(where, published, {**row, "class": "macro"}) is None
    assert results._text("class", "clean") == "clean" and results._text("class", "01") == "01"
    assert results._text("class", MACRO) == "mean of classes"
    assert results._text("scenario", "clean") == "Clean"


def test_results_of_an_earlier_version_are_read_as_they_were_meant() -> None:
    old = published.with_means(measured(0.5, ("nut", "macro")))
    assert {row["class"] for row in old} == {"nut", MACRO}
    new = published.with_means(measured(0.5, ("macro", MACRO)))
    assert {row["class"] for row in new} == {"macro", MACRO}


def test_a_class_called_like_another_ones_shift_has_pictures_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = []
    monkeypatch.setattr(pictures, "samples", lambda *_: Image.new("L", (1, 1)))
    monkeypatch.setattr(pictures, "qualitative", lambda *_: Image.new("L", (1, 1)))
    monkeypatch.setattr(Image.Image, "save", lambda _, path, **__: written.append(path.name))
    shown: pictures.Shown = {(name, domain): [] for name in ("nut", "nut_shift") for domain in ("clean", "shift")}
    pictures.write(tmp_path, cast(pictures.Album, None), shown, [])
    assert len({*written}) == len(written) == 5


@pytest.mark.parametrize("name", ["magnetic_tile", "real_iad"])
def test_a_defect_called_good_is_not_taken_for_a_normal_image(tmp_path: Path, name: str) -> None:
    if name == "magnetic_tile":
        chosen = "tile"
        write_tiles(tmp_path)
        (tmp_path / "MT_Fray").rename(tmp_path / "MT_Good")
    else:
        chosen = "audiojack"
        write_real_iad(tmp_path)
        [split] = tmp_path.rglob("audiojack.json")
        split.write_text(split.read_text().replace('"anomaly_class": "BX"', '"anomaly_class": "good"'))
    with pytest.raises(AdshiftError, match="has a mask and a defect that is called good"):
        datasets.check(name, str(tmp_path), (chosen,))
