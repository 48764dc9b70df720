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
from adshift.project.paths import models_path, scores_path, split_path
from adshift.runtime import checksums
from kinds import KINDS, METHOD, Made


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
    for (name, scenario), values in figures.items():
        if name in made.kind.classes:
            print("VAL", name, scenario, {k: v for k, v in values.items() if k in ("image_auroc", "pixel_auroc", "pro", "specificity", "recall")})
            assert {metric for metric, value in values.items() if value == ""} == made.kind.null(name), scenario
