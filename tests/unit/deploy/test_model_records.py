"""What a model directory's JSON files say of themselves: checksums, class and domain."""

import json
import shutil
from pathlib import Path

import pytest

from adshift.deploy import export
from adshift.detectors import registry
from adshift.errors import AdshiftError
from adshift.evaluation import threshold_file
from adshift.runtime.files import read_json, write_json

RECORD = {"threshold": 12.25, "rule": "f1_grid", "val": "clean", "on": "val", "normal": 12, "anomalous": 7}
SCORE = {"smoothing": 4.0}


def test_a_digit_that_flipped_is_told_and_older_files_load(tmp_path: Path) -> None:
    path = tmp_path / "threshold.json"
    write_json(path, RECORD, checksum=True)
    assert threshold_file.read(path).threshold == 12.25
    path.write_text(path.read_text().replace("12.25", "12.35"))
    with pytest.raises(AdshiftError, match=r"threshold\.json: not readable \(damaged"):
        threshold_file.read(path)
    write_json(path, RECORD)
    assert threshold_file.read(path).threshold == 12.25
    path = tmp_path / "score.json"
    write_json(path, SCORE, checksum=True)
    assert registry.settings("padim", "score", path).smoothing == 4.0
    path.write_text(path.read_text().replace("4.0", "6.0"))
    with pytest.raises(AdshiftError, match=r"score\.json: not readable \(damaged"):
        registry.settings("padim", "score", path)


def test_a_packaged_model_carries_checksums(study: Path, tmp_path: Path) -> None:
    folder = study / "models/tiny/patchcore/dots/clean"
    folder = folder if folder.is_dir() else next(study.glob("models/*/*/*/clean"))
    for path in (*folder.glob("threshold*.json"), folder / "score.json", folder / "card.json"):
        content = json.loads(path.read_text())
        assert len(content["checksum"]) == 8, path.name
        assert read_json(path) == {key: value for key, value in content.items() if key != "checksum"}
    copied = shutil.copytree(folder, tmp_path / "renamed")
    about = json.loads((folder / "card.json").read_text())["model"]
    assert export.fitted_on(copied) == {"class": about["class"], "domain": about["domain"]}


def test_class_and_domain_come_from_the_card(tmp_path: Path) -> None:
    folder = tmp_path / "line-7" / "copy of copy"
    folder.mkdir(parents=True)
    assert export.fitted_on(folder) == {"class": "line-7", "domain": "copy of copy"}  # as `fit` leaves a model
    write_json(folder / "card.json", {"model": {"class": "hazelnut", "domain": "shift"}}, checksum=True)
    assert export.fitted_on(folder) == {"class": "hazelnut", "domain": "shift"}
    (folder / "card.json").write_text("{}")
    with pytest.raises(AdshiftError, match=r"card\.json: does not say"):
        export.fitted_on(folder)
