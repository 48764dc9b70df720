"""Studies: what they may declare, what they stand for, how they go on after a stop, what they write."""

import csv
import json
import math
import os
import re
import shutil
import signal
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ruamel.yaml import YAML

from adshift.data.shift import synthetic
from adshift.detectors import registry
from adshift.errors import AdshiftError
from adshift.project import params
from adshift.report import plots
from adshift.runtime import signals
from adshift.studies import command, declare, queue, results
from fake_run import measured
from tiny import CLASSES, PIPELINE, ROOT, Project, write_tree

STUDIES = sorted(path.stem for path in (ROOT / "studies").glob("*.yaml"))
SMALL: dict[str, Any] = {
    "title": "Small",
    "grid": {"calibrate.rule": ["f1_grid", "f1_exact"]},
    "columns": {"backbone": "features.backbone"},
    "table": {"metrics": ["image_auroc", "image_f1"], "where": {"scenario": ["clean"]}},
    "plot": {"kind": "points", "x": "class", "series": "method", "metrics": ["image_auroc"]},
}
PUBLISHED = {
    "file": "theirs.csv",
    "match": {"category": "class"},
    "value": {"image_auroc": "auroc"},
    "when": {"scenario": ["clean"]},
    "rename": {"class": {"(mean)": "mean"}},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """params.yaml, the sample's recipe and the shipped studies, as the working directory."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "src/adshift/data/datasets", tmp_path / "src/adshift/data/datasets")
    shutil.copytree(ROOT / "studies", tmp_path / "studies", ignore=shutil.ignore_patterns("results"))
    (tmp_path / "reference").symlink_to(ROOT / "reference")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, **changes: Any) -> declare.Study:
    """studies/small.yaml: SMALL with other keys, read back."""
    with (folder / "studies/small.yaml").open("w") as file:
        YAML().dump({key: value for key, value in {**SMALL, **changes}.items() if value is not None}, file)
    return declare.read("small")


def expand(study: declare.Study, code: str = "code") -> list[declare.Experiment]:
    return declare.expand("small", study, {}, code)


# What a study may declare


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grids": {}}, "grids: Extra inputs"),
        ({"title": None}, "title: Field required"),
        ({"set": {1: 2}}, "set.1"),
        ({"grid": None}, "neither grid nor points"),
        ({"grid": {"seed": []}}, "seed: at least one value"),
        ({"grid": {"seed": [1, 2, 1]}}, "none of them twice"),
        ({"preset": "mvtecc"}, "preset mvtecc: known are sample"),
        ({"points": [{"labels": {"a": 1}}, {"labels": {"b": 1}}]}, "not all have the same labels"),
        ({"points": [{"label": {"a": 1}}]}, r"points.0.label: Extra inputs"),
        ({"columns": {"method": "seed"}}, "columns: method: reserved"),
        ({"table": {"metrics": ["auroc"]}}, "table.metrics: .*unknown: auroc"),
        ({"table": {"metrics": ["pro"], "over": "sead"}}, "table: no column sead"),
        ({"plot": {**SMALL["plot"], "series": "ratio"}}, "plot: no column ratio"),
        ({"plot": {**SMALL["plot"], "kind": "pie"}}, "plot.kind"),
        ({"plot": {**SMALL["plot"], "kind": "heat"}}, "a heat map has x and y"),
        ({"published": {**PUBLISHED, "match": {"category": "klass"}}}, "published: no column klass"),
    ],
)
def test_what_a_study_cannot_say_is_named(folder: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(AdshiftError, match=said) as error:
        write(folder, **changes)
    assert "studies/small.yaml" in error.value.what


def test_a_study_that_is_not_there(folder: Path) -> None:
    with pytest.raises(AdshiftError, match=r"studies/none\.yaml: not there") as error:
        declare.read("none")
    assert "drift" in error.value.remedy


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"set": {"padim.n_feature": 3}}, "no parameter padim.n_feature"),
        ({"set": {"split": 3}}, "split is a section"),
        ({"set": {"split.train_fraction": 3}}, r"split\.train_fraction: .*less than 1"),
        ({"grid": {"calibrate.rule": ["f1"]}}, r"calibrate\.rule"),
        ({"columns": {"colour": "shift.colour"}}, "no parameter shift.colour"),
        ({"preset": "mvtec"}, "raw/mvtec does not exist"),
    ],
)
def test_what_params_refuse_is_named_before_anything_runs(folder: Path, changes: dict[str, Any], said: str) -> None:
    study = write(folder, **changes)
    with pytest.raises(AdshiftError, match=said):
        expand(study)


# What it stands for


def test_grid_and_points_are_crossed(folder: Path) -> None:
    points = [{"labels": {"kind": "few"}, "set": {"padim.n_features": 50}}, {"labels": {"kind": "as set"}}]
    study = write(
        folder, points=points, set={"padim.n_features": 70}, grid={"seed": [1, 2], "patchcore.coreset": [0.1]}
    )
    found = expand(study)
    assert [(one.columns["kind"], one.columns["seed"]) for one in found] == [
        ("few", 1), ("few", 2), ("as set", 1), ("as set", 2)]  # fmt: skip
    assert [one.changes["padim.n_features"] for one in found] == [50, 50, 70, 70]
    assert found[0].changes == {"padim.n_features": 50, "seed": 1, "patchcore.coreset": 0.1}
    assert found[0].columns == {
        "dataset": "sample", "kind": "few", "backbone": "tf_efficientnet_lite0", "seed": 1, "coreset": 0.1}  # fmt: skip
    assert list(found[0].columns) == [*study.id_columns()[:5]]


def test_a_preset_is_under_what_the_study_sets(folder: Path) -> None:
    write_tree(folder / "pictures", ("dots", "waves"))
    study = write(folder, preset="mvtec", set={"classes": ["waves"]})
    (one, _) = declare.expand("small", study, {"mvtec": "pictures"}, "code")
    assert one.changes["classes"] == ["waves"]
    assert one.changes["dataset.root"] == str(folder / "pictures")  # absolute: an experiment runs elsewhere
    assert one.columns["dataset"] == "mvtec"


def test_other_classes_than_the_presets_are_enough(folder: Path) -> None:
    """The preset `shift_study` names three; of one that is missing the command would tell."""
    write_tree(folder / "pictures", ("waves",))
    with pytest.raises(AdshiftError, match="hazelnut, carpet, zipper not found"):
        declare.expand("small", write(folder, preset="shift_study"), {"mvtec": "pictures"}, "code")
    study = declare.changed("small", write(folder, preset="shift_study"), ["classes=[waves]"])
    (one, _) = declare.expand("small", study, {"mvtec": "pictures"}, "code")
    assert (one.changes["classes"], one.changes["patchcore.reweight"]) == (["waves"], "softmax")


def test_names_are_stable_and_differ_with_settings_and_code(folder: Path) -> None:
    first, second = expand(write(folder))
    assert first.name.startswith("small-") and first.name != second.name
    swapped = expand(write(folder, grid={"calibrate.rule": ["f1_exact", "f1_grid"]}, title="Other"))
    assert [one.name for one in swapped] == [second.name, first.name]
    assert expand(write(folder), code="other")[0].name != first.name
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text + "# a comment\n")
    assert expand(write(folder))[0].name == first.name
    (folder / "params.yaml").write_text(text.replace("seed: 42", "seed: 7"))
    assert expand(write(folder))[0].name != first.name


def test_a_setting_for_all_of_it(folder: Path) -> None:
    study = declare.changed("coreset", declare.read("coreset"), ["split.max_train=7", "features.layers=[a, b]"])
    for one in expand(study):
        assert (one.changes["split.max_train"], one.changes["features.layers"]) == (7, ["a", "b"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("patchcore.coreset=0.1", "varies patchcore.coreset itself"),
        ("split.max_train", "no KEY=VALUE"),
        ("split.max_train=[", "no KEY=VALUE"),
    ],
)
def test_a_setting_that_cannot_be(folder: Path, change: str, said: str) -> None:
    with pytest.raises(AdshiftError, match=said):
        declare.changed("coreset", declare.read("coreset"), [change])


@pytest.mark.parametrize("name", [name for name in STUDIES if name != "xai"])  # which needs three data sets
def test_what_is_shipped_is_sound(folder: Path, name: str) -> None:
    study = declare.read(name)
    if name == "pq" and "patchcore_pq" not in registry.REGISTRY:
        pytest.skip("the method is not there")
    found = expand(study)
    assert len({one.name for one in found}) == len(found) > 1
    if study.published:
        assert results._published(study.published)


def test_classes_that_are_added_to_the_data_are_seen(tmp_path: Path) -> None:
    for classes in (CLASSES[:1], CLASSES[:2]):
        write_tree(tmp_path, classes)
        assert declare._preset("mvtec", {"mvtec": str(tmp_path)}, ())["classes"] == list(classes)


def test_the_xai_study(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(declare, "_preset", lambda name, roots, classes: declare.presets.values_of(name))
    study = declare.read("xai")
    found = expand(study)
    assert [(one.columns["dataset"], one.columns["backbone"]) for one in found] == [
        ("mvtec", "resnet18"), ("mvtec", "wide_resnet50_2"), ("visa", "resnet18"), ("btad", "resnet18")]  # fmt: skip
    published = results._published(study.published)

    def theirs(point: int, kind: str, metric: str) -> float | None:
        row = {**found[point].columns, "scenario": "clean", "class": kind, "metric": metric}
        return results.look_up(study.published, published, row)

    assert theirs(0, "bottle", "image_auroc") == 0.9952
    assert theirs(0, "(mean)", "image_f1_on_test") == 0.8767
    assert theirs(1, "bottle", "pixel_auroc") == 0.9790
    assert theirs(2, "pcb1", "pixel_best_f1_upper_bound") == 0.3722
    assert theirs(3, "01", "image_auroc") == 1.0  # not class 1
    assert theirs(3, "01", "image_f1") is None


def test_which_drift_hurts_switches_every_family_alone(folder: Path) -> None:
    study = declare.read("drift")
    seen = {}
    for one in expand(study):
        values = params.read()
        declare._set_all(values, one.changes, Path("drift"))
        drawn = [
            synthetic.draw(params.validate(values, Path("drift")).shift, 1, "x", str(place)) for place in range(20)
        ]
        moves = {
            "rotation": any(draw.geometry.rotation for draw in drawn),  # type: ignore[union-attr]
            "scale": any(draw.geometry.scale != 1 for draw in drawn),  # type: ignore[union-attr]
            "translation": any(draw.geometry.shift_x for draw in drawn),  # type: ignore[union-attr]
            "colour": any(draw.color for draw in drawn),
            **{key: all(getattr(draw, key) for draw in drawn) for key in ("blur", "noise", "illumination")},
        }
        assert [key for key, value in moves.items() if value] == [one.columns["family"]]
        seen.setdefault(one.columns["family"], []).append(one.columns["severity"])
    assert seen == {family: [1, 2, 3] for family in moves}


# How it runs


class FakeQueue:
    """A queue whose worker takes one experiment a look; `fails` do not end well the first time."""

    def __init__(self, fails: Iterable[str] = (), lost: Iterable[str] = ()) -> None:
        self.refs: dict[str, str] = {}
        self.entries: dict[str, str] = {}
        self.puts: list[str] = []
        self.fails, self.lost = set(fails), set(lost)
        self.alive, self.stopped, self.killed = False, 0, set[str]()
        self.at_look: Callable[[int], None] = lambda look: None
        self.looks = 0

    def finished(self) -> dict[str, str]:
        return dict(self.refs)

    def states(self) -> dict[str, str]:
        self.looks += 1
        self.at_look(self.looks)
        running = [name for name, state in self.entries.items() if state == queue.RUNNING]
        if self.alive and running:
            if running[0] in self.fails:
                self.fails.remove(running[0])
                self.entries[running[0]] = queue.FAILED
            else:
                self.entries[running[0]] = "Success"
                self.refs[running[0]] = f"commit of {running[0]}"
        elif self.alive:
            waiting = [name for name, state in self.entries.items() if state == queue.QUEUED]
            if waiting:
                self.entries[waiting[0]] = queue.RUNNING
        return dict(self.entries)

    def put(self, experiment: declare.Experiment) -> None:
        self.puts.append(experiment.name)
        if experiment.name not in self.lost:
            self.entries[experiment.name] = queue.QUEUED

    def start(self, jobs: int) -> None:
        self.alive = True

    def working(self) -> bool:
        return self.alive

    def stop(self) -> None:
        self.alive = False
        self.stopped += 1

    def kill(self, names: Iterable[str]) -> None:
        for name in names:
            if self.entries.get(name) == queue.RUNNING:
                self.entries[name] = queue.FAILED
                self.killed.add(name)

    def log(self, name: str) -> str:
        return "".join(f"line {number} of {name}\n" for number in range(40)) + "error: no such layer\n"


def some(count: int) -> list[declare.Experiment]:
    return [declare.Experiment(f"small-{number}", {}, {"seed": number}) for number in range(count)]


def go(experiments: list[declare.Experiment], fake: FakeQueue, jobs: int = 1) -> tuple[dict[str, str], list[str]]:
    told: list[str] = []
    return queue.run(experiments, fake, jobs, lambda line, ended: told.append(line), wait=0), told


def test_all_run_and_a_second_time_none(capsys: pytest.CaptureFixture[str]) -> None:
    fake, experiments = FakeQueue(), some(3)
    failures, told = go([*experiments, experiments[0]], fake)
    assert not failures and set(fake.refs) == {one.name for one in experiments}
    assert fake.puts == [one.name for one in experiments]  # one that is listed twice runs once
    assert told[0] == "0 of 3 experiments are done"
    assert told[1:] == [f"[{place + 1}/3] done: seed {place} (small-{place})" for place in range(3)]
    assert go(experiments, fake) == ({}, ["3 of 3 experiments are done"])
    assert len(fake.puts) == 3


def test_a_larger_grid_runs_what_is_missing() -> None:
    fake = FakeQueue()
    go(some(2), fake)
    go(some(4), fake)
    assert fake.puts == ["small-0", "small-1", "small-2", "small-3"]


def test_an_interrupt_stops_the_queue_and_a_later_run_goes_on() -> None:
    fake, experiments = FakeQueue(), some(4)

    def interrupt(look: int) -> None:
        if look == 5:
            raise KeyboardInterrupt

    fake.at_look = interrupt
    with pytest.raises(KeyboardInterrupt):
        go(experiments, fake)
    assert fake.stopped == 1 and not fake.alive
    assert fake.killed == {"small-1"} and set(fake.refs) == {"small-0"}
    assert fake.entries["small-2"] == queue.QUEUED  # is not queued again
    failures, told = go(experiments, fake)
    assert not failures and len(fake.refs) == 4
    assert told[0] == "1 of 4 experiments are done"
    assert fake.puts == ["small-0", "small-1", "small-2", "small-3", "small-1"]


def test_a_failure_is_told_with_its_last_lines_and_the_rest_runs() -> None:
    fake = FakeQueue(fails=["small-1"])
    failures, told = go(some(3), fake)
    assert set(fake.refs) == {"small-0", "small-2"}
    assert set(failures) == {"small-1"} and failures["small-1"].splitlines()[-1] == "error: no such layer"
    assert len(failures["small-1"].splitlines()) == 12
    (line,) = (line for line in told if "failed" in line)
    assert line.startswith("[2/3] failed: seed 1 (small-1)\n    line 29 of small-1") and "no such layer" in line
    failures, _ = go(some(3), fake)
    assert not failures and len(fake.refs) == 3 and fake.puts.count("small-1") == 2


def test_what_a_dead_worker_left_running_is_killed_and_queued_again() -> None:
    fake = FakeQueue()
    fake.entries["small-0"] = queue.RUNNING
    failures, _ = go(some(1), fake)
    assert not failures and fake.killed == {"small-0"} and fake.puts == ["small-0"]


def test_a_worker_that_dies_is_started_again() -> None:
    fake = FakeQueue()

    def die(look: int) -> None:
        fake.alive = fake.alive and look != 4

    fake.at_look = die
    failures, _ = go(some(3), fake)
    assert not failures and len(fake.refs) == 3


def test_what_vanishes_from_the_queue_counts_as_failed() -> None:
    failures, _ = go(some(2), FakeQueue(lost=["small-0"]))
    assert set(failures) == {"small-0"}


def test_no_job_is_refused() -> None:
    with pytest.raises(AdshiftError, match="--jobs 0"):
        go(some(1), FakeQueue(), jobs=0)


def test_folders_of_data_sets(folder: Path) -> None:
    coreset, xai = declare.read("coreset"), declare.read("xai")
    assert command.roots_of("coreset", coreset, ["sample=x", "mvtec=a=b"]) == {"sample": "x", "mvtec": "a=b"}
    assert command.roots_of("coreset", coreset, ["/pictures"]) == {"sample": "/pictures"}
    with pytest.raises(AdshiftError, match=r"of which data set.*btad, mvtec, visa"):
        command.roots_of("xai", xai, ["/pictures"])
    with pytest.raises(AdshiftError, match="no data set mvtek"):
        command.roots_of("xai", xai, ["mvtek=/pictures"])


# What it writes


def rows_of(study: declare.Study, values: Iterable[float], theirs: Iterable[dict[str, str]] = ()) -> results.Rows:
    return [
        row
        for experiment, value in zip(expand(study), values, strict=True)
        for row in results.tidy(study, experiment, measured(value), {"nut": {"share": 0.1, "pixels": 0.01}}, [*theirs])
    ]


def test_published_figures_stand_beside_ours(folder: Path) -> None:
    study = write(folder, published=PUBLISHED)
    theirs = [{"category": "nut", "auroc": "0.5"}, {"category": "mean", "auroc": "0.75"}]
    rows = rows_of(study, (0.625, 0.5), theirs)
    assert {row["published"] for row in rows if row["scenario"] == "unified" or row["metric"] != "image_auroc"} == {
        None
    }
    text = results.markdown(study, rows, "note")
    assert "| rule | method | class | image AUROC | published | difference | image F1 |" in text
    assert "| f1_grid | PatchCore | nut | 0.625 | 0.500 | +0.125 | 0.625 |" in text
    assert "| f1_exact | PaDiM | mean of classes | 0.375 | 0.750 | -0.375 | 0.375 |" in text
    assert "Throughout: dataset sample; backbone tf efficientnet lite0; scenario Clean." in text and text.endswith(
        "note\n"
    )


def test_a_long_published_table_is_matched_by_metric_too(folder: Path) -> None:
    where = declare.read("coreset").published
    published = results._published(where)
    row = {"dataset": "mvtec", "backbone": "resnet50", "coreset": 0.05, "scenario": "shift_no_adaptation",
           "method": "patchcore", "class": "(mean)", "metric": "specificity"}  # fmt: skip
    printed = {
        float(line["value"]) for line in published
        if (line["scenario"], line["method"], line["class"], line["metric"])
        == ("shift_no_adaptation", "patchcore", "macro", "specificity")
    }  # fmt: skip
    assert {results.look_up(where, published, row)} == printed
    for change in ({"backbone": "resnet18"}, {"coreset": 0.1}, {"dataset": "sample"}, {"class": "screw"}):
        assert results.look_up(where, published, {**row, **change}) is None


def test_two_published_figures_for_one_of_ours_are_refused(folder: Path) -> None:
    study = write(folder, published=PUBLISHED)
    theirs = [{"category": "nut", "auroc": "0.5"}, {"category": "nut", "auroc": "0.6"}]
    with pytest.raises(AdshiftError, match=r"theirs.csv: 0\.5 and 0\.6 for category nut"):
        rows_of(study, (0.5, 0.5), theirs)


def test_mean_and_standard_deviation(folder: Path) -> None:
    table = {"metrics": ["pro"], "where": {"scenario": ["clean"], "class": ["nut"]}, "over": "seed"}
    plot = {"kind": "points", "x": "scenario", "metrics": ["pro"]}
    study = write(folder, grid={"seed": [1, 2, 3]}, table=table, plot=plot)
    text = results.markdown(study, rows_of(study, (0.5, 0.6, 0.7)), "")
    assert "| method | PRO | standard deviation |" in text
    assert "| PatchCore | 0.600 | 0.100 |" in text and "| PaDiM | 0.475 | 0.100 |" in text


def test_a_cell_of_two_figures_is_refused(folder: Path) -> None:
    study = write(folder)
    rows = rows_of(study, (0.5, 0.5))
    with pytest.raises(AdshiftError, match="2 figures for one cell"):
        results.markdown(study, [*rows, *rows], "")


def test_contamination_is_in_the_rows_of_its_class(folder: Path) -> None:
    study = write(folder, contamination=True)
    (one, _) = expand(study)
    shares = {"nut": {"share": 0.1, "pixels": 0.01}, "rug": {"share": 0.3, "pixels": 0.03}}
    found = {row["class"]: row for row in results.tidy(study, one, measured(0.5, ("nut", "rug", "(mean)")), shares, [])}
    assert (found["rug"]["defective_images"], found["rug"]["defective_pixels"]) == (0.3, 0.03)
    assert math.isclose(found["(mean)"]["defective_images"], 0.2)
    assert math.isclose(found["(mean)"]["defective_pixels"], 0.02)


@pytest.mark.parametrize(
    "plot",
    [
        {"kind": "line", "x": "rule", "series": "method", "panel": "scenario", "metrics": ["image_auroc", "pro"]},
        {"kind": "points", "x": "class", "series": "rule", "metrics": ["image_auroc"]},
        {
            "kind": "heat",
            "x": "rule",
            "y": "method",
            "panel": "scenario",
            "metrics": ["pro"],
            "where": {"class": ["nut"]},
        },
    ],
)
def test_files_of_a_study(folder: Path, plot: dict[str, Any]) -> None:
    study = write(folder, plot=plot, published=PUBLISHED)
    rows = rows_of(study, (0.625, 0.5), [{"category": "nut", "auroc": "0.5"}])
    place = results.write("small", study, expand(study), rows)
    with (place / "small.csv").open() as file:
        (first, *rest) = csv.DictReader(file)
    assert list(first) == ["experiment", *study.id_columns(), "metric", "value", "published", "difference"]
    assert (first["value"], first["published"], first["difference"]) == ("0.625", "0.5", "0.125")
    assert len(rest) + 1 == len(rows)
    assert "Incomplete" not in (place / "small.md").read_text()
    drawn = (place / "small.svg").read_text()
    assert drawn.startswith("<svg") and ">Small<" in drawn and 'fill="white"' in drawn
    assert ">PaDiM<" in drawn or plot.get("series") == "rule"
    shown = results.specification(study, rows)["data"]["values"]
    assert {row["source"] for row in shown} == ({"ours"} if plot["metrics"] == ["pro"] else {"ours", "published"})


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (1, 2, 3)])
def test_every_figure_stands_under_its_own_labels(folder: Path, order: tuple[int, ...]) -> None:
    """Whatever order the rows have, and with a panel that lacks a metric."""
    plot = {"kind": "heat", "x": "class", "y": "scenario", "panel": "method", "metrics": ["image_auroc", "image_f1"]}
    study = write(folder, plot=plot)
    cells = [("a", "image_auroc", 0.11), ("a", "image_f1", 0.12), ("b", "image_auroc", 0.21), ("b", "image_f1", 0.22)]
    common = {"class": "nut", "scenario": "clean", "published": None}
    rows = [{**common, "method": cells[i][0], "metric": cells[i][1], "value": cells[i][2]} for i in order]
    drawn = plots.svg(results.specification(study, rows))
    places = dict(_texts(ET.fromstring(drawn)))
    for i in order:
        method, metric, value = cells[i]
        x, y = places[f"{value:.2f}"]
        panels = [place for text, place in _texts(ET.fromstring(drawn)) if text == method]
        assert any(abs(x - place[0]) < 40 and place[1] < y for place in panels), (method, value)
        others = [places[f"{cells[j][2]:.2f}"][1] for j in order if cells[j][1] == metric]
        assert max(others) - min(others) < 5
        assert abs(places[results.label(metric)][1] - y) < 40


def _texts(element: ET.Element, x: float = 0, y: float = 0) -> Iterable[tuple[str, tuple[float, float]]]:
    """Texts of an SVG and where they stand."""
    if moved := re.match(r"translate\(([-\d.]+),\s*([-\d.]+)\)", element.get("transform", "")):
        x, y = x + float(moved[1]), y + float(moved[2])
    if element.tag.endswith("text") and element.text:
        yield element.text, (x, y)
    for child in element:
        yield from _texts(child, x, y)


def test_a_part_of_a_study_says_so_and_none_of_it_is_refused(folder: Path) -> None:
    study = write(folder)
    rows = rows_of(study, (0.625, 0.5))
    half = [row for row in rows if row["rule"] == "f1_grid"]
    place = results.write("small", study, expand(study), half)
    assert "**Incomplete: 1 of 2 experiments.**" in (place / "small.md").read_text()
    with pytest.raises(AdshiftError, match="none of 2 experiments is finished"):
        results.write("small", study, expand(study), [])
    none = write(folder, table={"metrics": ["pixel_auroc"]})
    with pytest.raises(AdshiftError, match="table: no row is left"):
        results.write("small", none, expand(none), rows)


# All of it, through DVC


def test_a_study_runs_through_dvcs_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two experiments of one cheap detector that share all but thresholds; the second finds the rest in the cache."""
    project = Project(tmp_path)
    write_tree(tmp_path / "raw", ("dots",))
    project.copy()
    project.git("config", "user.name", "test")
    project.git("config", "user.email", "test@example.org")
    project.run("adshift", "preset", "mvtec", "--data-root", "raw")
    project.change(
        methods=["padim_diagonal"], ablation__ratios=[], shift__kind="none", unified=False,
        features__resize=72, features__crop=64, evaluate__bootstrap=100,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write(tmp_path, columns=None, contamination=True, set={"split.contamination": 0.2})
    project.commit("tiny")

    (tmp_path / "stages/new.py").write_text("")
    assert "not committed: stages/new.py" in project.run("adshift", "study", "run", "small", ok=False).stderr
    (tmp_path / "stages/new.py").unlink()

    said = project.run("adshift", "study", "run", "small").stdout
    assert "0 of 2 experiments are done" in said and "[2/2] done: dataset mvtec, rule f1_exact" in said
    with (tmp_path / "studies/results/small/small.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["rule"] for row in rows} == {"f1_grid", "f1_exact"}
    assert {row["defective_images"] for row in rows} == {"0.2"}  # 2 beside 8 normal ones
    assert all(math.isclose(float(row["defective_pixels"]), 2 * 144 / (10 * 64 * 64), abs_tol=1e-6) for row in rows)
    aurocs = [float(row["value"]) for row in rows if row["metric"] == "image_auroc"]
    assert aurocs and all(0 <= value <= 1 for value in aurocs)
    assert "PaDiM, diagonal" in (tmp_path / "studies/results/small/small.md").read_text()
    (last,) = {row["experiment"] for row in rows if row["rule"] == "f1_exact"}
    log = project.dvc("queue", "logs", last)
    assert "Running stage 'calibrate'" in log and f"Running stage '{PIPELINE}:embed@" not in log
    assert json.loads((tmp_path / "metrics/summary.json").read_text()) == json.loads(
        (ROOT / "metrics/summary.json").read_text()
    )  # the workspace is left as it was

    again = project.run("adshift", "study", "run", "small").stdout
    assert "2 of 2 experiments are done" in again and "[" not in again


def test_what_a_command_leaves_running_is_not_waited_for() -> None:
    """`dvc queue start` leaves workers that hold its output open."""
    left = int(queue._run("sh", "-c", "sleep 60 & echo $!"))
    try:
        assert signals.alive(left)
    finally:
        os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize("broken", [0, 1, queue.READS - 1, queue.READS])
def test_a_file_that_dvc_is_writing_is_read_again(broken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    answers = iter([json.JSONDecodeError("half of it", "", 0)] * broken + [[{"name": "one", "status": "Queued"}]])

    def status() -> object:
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    celery = SimpleNamespace(experiments=SimpleNamespace(celery_queue=SimpleNamespace(status=status)))
    monkeypatch.setattr("dvc.repo.Repo", lambda: nullcontext(celery))
    monkeypatch.setattr(queue, "PAUSE", 0)
    if broken == queue.READS:
        with pytest.raises(json.JSONDecodeError):
            queue.DvcQueue().states()
    else:
        assert queue.DvcQueue().states() == {"one": "Queued"}
