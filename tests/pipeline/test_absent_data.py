"""Data sets that lack defects, masks or labels, from the split to the page: nulls where nothing can be told."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import kinds
from adshift.deploy import monitoring
from adshift.report import compare
from adshift.runtime import checksums
from kinds import ALL_NULL, METHOD, Made

GOOD_ONLY, MIXED = "good only", "list with classes and parts"


@pytest.fixture
def good_only(kind_run: Callable[[str], Made]) -> Path:
    """One class of good images, nothing else asked for."""
    return kind_run(GOOD_ONLY).folder


@pytest.fixture
def mixed(kind_run: Callable[[str], Made]) -> Path:
    """Three classes: good images alone, some masks and unlabelled images, no mask; drift, unified models, ablation."""
    return kind_run(MIXED).folder


def results(folder: Path, method: str, scenario: str = "clean") -> dict[str, dict[str, str]]:
    """{class: {metric: value}} of the table of all results."""
    columns, rows = checksums.read_table(folder / "metrics/tables/results.csv")
    found: dict[str, dict[str, str]] = {}
    for row in (dict(zip(columns, row, strict=True)) for row in rows):
        if (row["method"], row["scenario"]) == (method, scenario):
            found.setdefault(row["class"], {})[row["metric"]] = row["value"]
    return found


def test_good_images_alone_have_no_ranking_and_a_threshold(good_only: Path) -> None:
    for name, figures in results(good_only, METHOD).items():
        empty = {metric for metric, value in figures.items() if value == ""}
        assert empty == ALL_NULL, name
        assert figures["specificity"] != ""
    threshold = json.loads((good_only / f"models/mvtec/{METHOD}/nut/clean/threshold.json").read_text())
    assert (threshold["rule"], threshold["normal"], threshold["anomalous"]) == ("conformal", 6, 0)
    assert threshold["expected_fpr"]["value"] == 1 / 7
    assert "so few promise a false-alarm rate of 0.143, not 0.05" in threshold["reason"]


def test_what_was_not_asked_for_is_nowhere(good_only: Path) -> None:
    shifted = [path for path in good_only.rglob("*") if "shift" in path.name and "settings" not in path.parts
               and not path.is_relative_to(good_only / "src") and path.suffix != ".py"
               and not path.is_relative_to(good_only / "data/sources")]  # fmt: skip
    assert shifted == []
    assert not list(good_only.rglob("*unified*/*")) and not (good_only / "data/ablation").exists()
    tables = {path.stem for path in (good_only / "metrics/tables").glob("*.md")}
    assert tables & {"table6_unified", "table7_coreset", "cross_class", "unified_gap", "table4_shift_ranking"} == set()
    assert json.loads((good_only / "metrics/summary.json").read_text())[METHOD].keys() == {
        "clean",
        "clean_normalised",
        "clean_aligned",
        "clean_hardened",
    }  # levers need no drift


def test_false_alarms_and_what_stands_out(good_only: Path) -> None:
    report = json.loads((good_only / f"data/evaluation/mvtec/image/{METHOD}.json").read_text())
    found = report["normal"]["nut"]["clean"]
    assert found["images"] == 6 == len(found["most_anomalous"])
    assert found["observed_fpr"]["value"] == found["alarms"] / 6
    shown = (good_only / "metrics/tables/good_images.md").read_text()
    assert all(name in shown for name, _ in found["most_anomalous"])
    card = (good_only / f"models/mvtec/{METHOD}/nut/clean/README.md").read_text()
    assert f"| clean | nut | {found['alarms']} of 6 |" in card


def test_the_page_opens_with_what_can_be_told(good_only: Path, mixed: Path) -> None:
    alone = (good_only / "report/index.html").read_text()
    assert "<h1>How good is it on your images?</h1>" in alone
    assert "cannot be told without defective images" in alone
    assert 'id="drift"' not in alone and 'id="unified"' not in alone and 'id="coreset"' not in alone
    both = (mixed / "report/index.html").read_text()
    places = [both.index(text) for text in ("How good is it?", "What does it miss?", "Does it survive drift?")]
    assert places == sorted(places)
    assert 'id="unified"' in both and 'id="coreset"' in both


def test_means_are_of_the_classes_that_have_the_figure(mixed: Path) -> None:
    found = results(mixed, "patchcore")
    assert {name for name in ("dots", "rings", "waves") if found[name]["image_auroc"]} == {"rings", "waves"}
    assert {name for name in ("dots", "rings", "waves") if found[name]["pro"]} == {"rings"}
    mean = found["(mean)"]
    pair = [float(found[name]["image_auroc"]) for name in ("rings", "waves")]
    assert float(mean["image_auroc"]) == pytest.approx(sum(pair) / 2, abs=1e-6)
    assert mean["pro"] == found["rings"]["pro"]
    assert (mean["image_auroc_classes"], mean["pro_classes"]) == ("2", "1")
    assert "specificity_classes" not in mean
    table = (mixed / "metrics/tables/table2_clean.md").read_text()
    assert "image AUROC of 2" in table and "PRO of 1" in table
    assert "6 defective test images whose masks are unknown" in table


def test_pixel_metrics_leave_out_images_whose_masks_are_unknown(mixed: Path) -> None:
    found = json.loads((mixed / "data/evaluation/list/pixel/patchcore.json").read_text())
    counts = {name: (found[name]["clean-on-clean"]["images"], found[name]["clean-on-clean"]["unknown_masks"])
              for name in ("dots", "rings", "waves")}  # fmt: skip
    assert counts == {"dots": (6, 0), "rings": (10, 3), "waves": (6, 3)}  # two further ones of rings have no label
    assert found["waves"]["clean-on-clean"]["pro"] is None


def test_unlabelled_images_are_listed_and_counted_by_nothing(mixed: Path) -> None:
    report = json.loads((mixed / "data/evaluation/list/image/patchcore.json").read_text())
    for scenario, found in report["classes"]["rings"].items():
        assert (found["tn"] + found["fp"], found["fn"] + found["tp"]) == (6, 7), scenario
        unknown = report["unlabelled"]["rings"][scenario]
        assert unknown["images"] == 2
        assert {name for name, _ in unknown["scores"]} == {
            "test//rings_unknown_test_000",
            "test//rings_unknown_test_001",
        }
    assert "test//rings_unknown_test_000" in (mixed / "metrics/tables/unlabelled.csv").read_text()
    rows = (mixed / "plots/curves/scores.csv").read_text()
    assert re.search(r"^patchcore,rings,clean,test//rings_unknown_test_000,,,", rows, re.MULTILINE)


def test_the_headline_has_the_figures_of_one_line(good_only: Path, mixed: Path) -> None:
    assert json.loads((good_only / "metrics/headline.json").read_text())[METHOD].keys() == {
        "auroc", "recall", "fpr",
    }  # fmt: skip
    found = json.loads((mixed / "metrics/headline.json").read_text())
    assert found["data"] == "list"
    assert found["patchcore"].keys() == {
        "auroc", "recall", "fpr", "auroc_drift", "recall_drift", "fpr_drift",
    }  # fmt: skip
    mean = results(mixed, "patchcore")["(mean)"]
    assert found["patchcore"]["fpr"] == pytest.approx(1 - float(mean["specificity"]), abs=1e-4)


def test_runs_that_lack_figures_compare(good_only: Path, mixed: Path) -> None:
    runs = [compare.read(folder, "clean") for folder in (good_only, mixed)]
    table = compare.table(runs, good_only / "reference")
    assert table.frame.iloc[0, 2] is None
    assert "\N{EN DASH}" in table.markdown()


@pytest.mark.parametrize(
    ("kind", "model", "images"),
    [
        (GOOD_ONLY, f"mvtec/{METHOD}/nut", "raw/nut/*/good/*.png"),
        (MIXED, "list/patchcore/dots", "raw/dots/good/*/*.png"),
    ],
)
def test_a_model_of_good_images_is_recalibrated_and_watched(
    kind: str, model: str, images: str, kind_run: Callable[[str], Made], tmp_path: Path
) -> None:
    project = kind_run(kind).folder
    copied = shutil.copytree(project / "models" / model / "clean", tmp_path / "model")
    good = [str(path) for path in sorted(project.glob(images))]
    for number, path in enumerate(good):
        shutil.copy(path, tmp_path / f"{number}.png")
    path, found = monitoring.recalibrate(copied, str(tmp_path), None, None, None)
    assert path.is_file()
    assert (found.rule, found.normal, found.anomalous, found.before.recall) == ("conformal", len(good), 0, None)
    assert "recall" in monitoring.recalibration_lines(found)[1]
    assert monitoring.drift(copied, good)["verdict"] in ("fine", "recalibrate", "refit")


def test_equal_runs_give_equal_bytes(good_only: Path, tmp_path: Path) -> None:
    again = kinds.made(tmp_path, GOOD_ONLY).folder
    for name in (f"data/scores/test/mvtec/{METHOD}/nut/clean-on-clean/nut.npz",
                 f"models/mvtec/{METHOD}/nut/clean/threshold.json"):  # fmt: skip
        one, other = (folder / name for folder in (good_only, again))
        if one.suffix == ".npz":
            with np.load(one) as ours, np.load(other) as theirs:
                assert all(np.array_equal(ours[key], theirs[key]) for key in ours.files)
        else:
            assert one.read_bytes() == other.read_bytes()
