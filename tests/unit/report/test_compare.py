"""Runs side by side: what is read, what is printed beside the published figures, and what the radar draws."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

import fake_run
from adshift.errors import AdshiftError
from adshift.report import compare, plots, tables
from adshift.report.labels import MACRO
from adshift.report.results import collect
from adshift.report.table import write
from fake_run import texts
from tiny import ROOT

REFERENCE = ROOT / "reference"


@pytest.fixture
def folders(run: Path) -> list[Path]:
    """A project with its tables, and a folder of results as an earlier version wrote them."""
    results = collect("sample", fake_run.CLASSES, fake_run.METHODS, fake_run.RATIOS)
    write(run / "here/metrics/tables", [tables.long(results)])
    with (run / "here/metrics/tables/results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "padim" and row["metric"] != "aupimo"]
    (run / "old").mkdir()
    with (run / "old/results.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["method", "scenario", "class", "metric", "value"], extrasaction="ignore")
        table.writeheader()
        table.writerows({**row, "class": row["class"].replace(MACRO, "macro")} for row in rows)
    return [run / "here", run / "old"]


def test_each_run_and_method_has_a_row_and_the_published_ones_follow(folders: list[Path]) -> None:
    table = compare.table([compare.read(folder, "clean") for folder in folders], REFERENCE)
    first = table.frame[["data", "method"]].values.tolist()
    assert first[:3] == [["here", "patchcore"], ["here", "padim"], ["old", "padim"]]
    assert len(first) == 3 + 6
    rows = list(csv.DictReader(table.csv().splitlines()))
    assert rows[1]["image_f1"] == rows[2]["image_f1"] and rows[1]["image_f1_low"] and not rows[2]["image_f1_low"]
    assert (rows[1]["aupimo"], rows[2]["aupimo"]) == ("0.4", "")
    assert (rows[-1]["data"], rows[-1]["method"], rows[-1]["image_auroc"]) == (
        "published, MVTec AD",
        "patchcore",
        "0.991",
    )
    assert "| published, MVTec AD | DRAEM | 0.980 |" in table.markdown()


def test_another_scenario_and_thresholds_chosen_on_test(folders: list[Path]) -> None:
    path = folders[1] / "results.csv"
    path.write_text(path.read_text().replace("image_f1,", "image_f1_on_test,"))
    clean, shifted = (compare.read(folders[1], name) for name in ("clean", "shift_no_adaptation"))
    assert clean.name == "old (thresholds chosen on test)"
    assert clean.methods["padim"]["image_auroc"] != shifted.methods["padim"]["image_auroc"]


def test_what_cannot_be_compared_is_named(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(AdshiftError, match=r"no results\.csv or metrics/tables/results\.csv"):
        compare.read(tmp_path / "nowhere", "clean")
    with pytest.raises(AdshiftError, match="nothing about the scenario dusk"):
        compare.read(folders[0], "dusk")
    (folders[1] / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(AdshiftError, match="no table of results"):
        compare.read(folders[1], "clean")


def test_the_radar_draws_the_metrics_that_all_runs_have(folders: list[Path]) -> None:
    run, old = (compare.read(folder, "clean") for folder in folders)
    spec = compare.radar([run, old])
    assert [chart["title"] for chart in spec["hconcat"]] == ["PatchCore", "PaDiM"]
    assert {text for text, *_ in texts(plots.svg(spec))} >= {"image AUROC", "image F1", "pixel AUROC", "here", "old"}
    assert "PRO" not in json.dumps(spec) and "AUPIMO" not in json.dumps(spec)  # the fake run has no PRO
    lines = spec["hconcat"][1]["layer"][-1]["data"]["values"]
    assert {row["run"] for row in lines} == {"here", "old"}
    first = [row for row in lines if row["run"] == "here"]
    assert first[0]["x"] == 0 and first[0]["y"] == pytest.approx(run.methods["padim"]["image_auroc"].value, abs=1e-6)
    assert (first[0]["x"], first[0]["y"]) == (first[-1]["x"], first[-1]["y"])  # closed
    for row in first:
        assert (row["x"] ** 2 + row["y"] ** 2) ** 0.5 == pytest.approx(row["value"], abs=1e-5)
    few = compare.Run("few", {"padim": {"image_auroc": run.methods["padim"]["image_auroc"]}})
    with pytest.raises(AdshiftError, match="1 metrics in common"):
        compare.radar([run, few])


def test_the_command(folders: list[Path], run: Path) -> None:
    command = [sys.executable, "-m", "adshift.cli", "compare", "here", "old", "--to", "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| here | PatchCore |" in done.stdout
    assert {path.name for path in (run / "out").iterdir()} == {"comparison.csv", "comparison.md", "radar.png"}
    done = subprocess.run([*command[:4], "nowhere"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "nowhere" in done.stderr
