"""Every kind of data set, from what a user types to verdicts and a page."""

import contextlib
import html
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import trained
from adshift.data import manifest, split_file
from adshift.data.manifest import GOOD, UNLABELLED
from adshift.detectors.records import Predictions
from adshift.evaluation.pairs import PAIRS
from adshift.project import params
from adshift.project.paths import models_path, scores_path, split_path
from adshift.runtime import checksums
from adshift.runtime.files import read_json
from kinds import KINDS, Made


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, kind_run: Callable[[str], Made]) -> Iterator[Made]:
    """The run on a kind, whose folder is the current one."""
    run = kind_run(request.param)
    with contextlib.chdir(run.folder):
        yield run


def test_the_preset_says_what_is_there(made: Made) -> None:
    assert made.told[0].startswith(made.kind.line)
    assert all(any(line.startswith(words) for line in made.told) for words in made.kind.said), made.told
    assert made.told[-1] == "params.yaml rewritten; now: dvc repro"
    if made.kind.refused:
        assert made.refused is not None and re.search(made.kind.refused, made.refused), made.refused


def test_each_image_has_its_part_and_its_mask(made: Made) -> None:
    kind = made.kind
    assert manifest.class_names(kind.dataset, kind.classes) == kind.classes
    for one in kind.classes if kind.roles else ():
        domains = {"both": manifest.path_of(kind.dataset, one, "clean")}
        if "both" not in kind.roles:
            domains = {"clean": domains["both"], "shift": manifest.recorded_path(kind.dataset, one)}
        for domain, path in domains.items():
            items = manifest.read(path)
            roles = split_file.read(split_path(kind.dataset, one), "clean" if domain == "both" else domain)
            found = Counter(f"{roles[item.name]} {item.defect}" for item in items)
            assert dict(found) == kind.roles[domain]
            assert sum(bool(item.mask) for item in items) == kind.masks
            assert {item.mask for item in items if not item.mask and item.defect == GOOD} <= {""}
            assert {item.mask for item in items if not item.mask and item.defect != GOOD} <= {None}
            assert all(item.image.startswith(f"{made.folder}/raw") and Path(item.image).is_file() for item in items)
            assert manifest.anomalous(roles).sum() == sum(item.anomalous for item in items)
            assert (~manifest.labelled(roles)).sum() == sum(item.defect == UNLABELLED for item in items)


def test_what_the_images_cannot_tell_is_null_and_nothing_else(made: Made) -> None:
    columns, rows = checksums.read_table(made.folder / "metrics/tables/results.csv")
    figures: dict[tuple[str, str], dict[str, str]] = {}
    for row in (dict(zip(columns, row, strict=True)) for row in rows):
        figures.setdefault((row["class"], row["scenario"]), {})[row["metric"]] = row["value"]
    assert {name for name, _ in figures} >= {*made.kind.classes}
    for name in made.kind.classes:
        scenarios = {scenario: values for (one, scenario), values in figures.items() if one == name}
        for scenario, values in scenarios.items():
            assert {metric for metric, value in values.items() if value == ""} == made.kind.null(name), scenario
        if values["image_auroc"]:  # labels and masks are those of the images
            assert float(scenarios["clean"]["image_auroc"]) == 1
        if values["pixel_auroc"]:
            assert float(scenarios["clean"]["pixel_auroc"]) > made.kind.least


def test_the_packaged_model_says_what_the_pipeline_says(made: Made) -> None:
    """By the command line, on the test images of a class."""
    one, settings = next(iter(made.kind.classes)), params.load_all()
    method = settings.methods[0]
    scores = Predictions.load(scores_path("test", made.kind.dataset, method, one, PAIRS[0], one))
    items = {item.name: item for item in manifest.read(manifest.path_of(made.kind.dataset, one, "clean"))}
    model = models_path(made.kind.dataset, method) / one / "clean"
    with trained.one_network():
        told, code = trained.adshift("predict", str(model), *(items[name].image for name in scores.names), "--json")
    verdicts = [json.loads(line) for line in told.splitlines()]
    np.testing.assert_allclose([verdict["score"] for verdict in verdicts], scores.scores, rtol=1e-4)
    threshold = read_json(model / "threshold.json")["threshold"]
    assert [verdict["anomalous"] for verdict in verdicts] == [score >= threshold for score in scores.scores]
    assert code == (1 if any(verdict["anomalous"] for verdict in verdicts) else 0)
    assert read_json(model / "model.json")["features"]["bits"] == made.kind.bits


def test_the_page_and_the_card_show_every_class_by_its_real_name(made: Made) -> None:
    page = Path("report/index.html").read_text(encoding="utf-8")
    method = params.load_all().methods[0]
    for slug, real in made.kind.classes.items():
        assert f"<h2>{html.escape(real)}</h2>" in page
        assert slug == real or f">{slug}<" not in page
        assert real in (models_path(made.kind.dataset, method) / slug / "clean/README.md").read_text(encoding="utf-8")


def test_groups_stand_on_one_side_and_in_the_order_of_their_dates(kind_run: Callable[[str], Made]) -> None:
    with contextlib.chdir(kind_run("list with groups and dates").folder):
        items = manifest.read(manifest.path_of("list", "raw", "clean"))
        roles = split_file.read(split_path("list", "raw"), "clean")
    sides: dict[str, set[str]] = {}
    for item in items:
        sides.setdefault(item.listed["group"], set()).add(roles[item.name])
    assert len(sides) == 20 and all(len(one) == 1 for one in sides.values())
    normal = sorted((item.listed["date"], roles[item.name]) for item in items if not item.anomalous)
    assert [role for _, role in normal] == ["train"] * 36 + ["val"] * 3 + ["test"] * 6
