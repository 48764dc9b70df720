"""Thresholds from pasted defects: scores as the packaged models give them, no say for defective images."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from adshift.data import manifest, split_file
from adshift.data.images import load_image
from adshift.data.pasting import CELLS, COPIES, Patch, draw, paste
from adshift.deploy import directory
from adshift.errors import AdshiftError
from adshift.evaluation.image_level import ablation
from adshift.evaluation.pasted import Copies
from adshift.evaluation.scenarios import SCENARIOS
from adshift.evaluation.settings import Calibrate
from adshift.evaluation.stored_predictions import predictions
from adshift.project import params
from adshift.project.paths import split_path
from tiny import rewrite
from trained import METHODS, NAMES, one_network, stage

SET, NAME = "mvtec", NAMES[0]


@pytest.fixture(scope="module")
def pasted(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study with `calibrate.rule: pasted`, its thresholds set anew."""
    folder = tmp_path_factory.mktemp("pasted") / "study"
    shutil.copytree(study, folder, symlinks=True, copy_function=os.link)
    (folder / "params.yaml").unlink()
    shutil.copy(study / "params.yaml", folder)
    with contextlib.chdir(folder):
        rewrite(Path("params.yaml"), {"calibrate.rule": "pasted", "graph.paste": ["pasted"],
                                      "graph.calibrated": ["pasted"]})  # fmt: skip
        stage("check")
        for name in NAMES:
            with one_network():
                stage("paste", dataset=SET, seed=str(params.load_all().seed), name=name)
        for script in ("calibrate", "evaluate_ablation", "evaluate", "package"):
            stage(script)
    return folder


@pytest.fixture(autouse=True)
def _there(pasted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pasted)


def stored(method: str, model: str, pair: str) -> np.ndarray:
    return np.array(
        json.loads(Path(f"data/scores/pasted/{SET}/{NAME}/{method}/{model}/{pair}.json").read_text())["scores"]
    )


def normal(domain: str) -> list[manifest.Item]:
    roles = split_file.read(split_path(SET, NAME), domain)
    items = manifest.read(manifest.path_of(SET, NAME, domain))
    return [item for item in items if item.name in split_file.images_of(roles, "val") and item.defect == "good"]


def copies(domain: str) -> list[np.ndarray]:
    """Pasted images, drawn here."""
    items, seed = normal(domain), params.load_all().seed
    each = -(-COPIES // len(items))
    pairs = [(item, turn) for item in items for turn in range(each)]
    return [
        paste(load_image(item), draw(*CELLS[number % 9], seed, item.name, str(turn)))[0]
        for number, (item, turn) in enumerate(pairs)
    ]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("variant", "model", "pair"), [
    ("clean", NAME, "clean-on-clean"), ("clean", NAME, "clean-on-shift"), ("shift", NAME, "shift-on-shift"),
    ("normalise", f"{NAME}-normalise", "clean-on-clean"), ("align", f"{NAME}-align", "clean-on-clean"),
    ("harden", f"{NAME}-harden", "clean-on-clean"), ("unified", "unified", "clean-on-clean"),
])  # fmt: skip
def test_every_model_scores_the_copies_as_its_package_does(method: str, variant: str, model: str, pair: str) -> None:
    folder = Path("models", SET, method, *(("unified", "clean") if variant == "unified" else (NAME, variant)))
    packaged = directory.DirectoryModel(folder)
    ours, _ = packaged.score([packaged.read(image, "copy") for image in copies(pair.rsplit("-", 1)[1])])
    np.testing.assert_allclose(stored(method, model, pair), ours, rtol=1e-5)


def test_scores_are_there_for_every_threshold_but_those_of_normal_images_alone() -> None:
    written = {path.relative_to(f"data/scores/pasted/{SET}/{NAME}") for path in
               Path(f"data/scores/pasted/{SET}/{NAME}").rglob("*-on-*.json")}  # fmt: skip
    assert len(written) == len(METHODS) * 7
    assert not [path for path in written if "adapt" in str(path)]


def test_patches_are_recorded() -> None:
    for domain in ("clean", "shift"):
        records = json.loads(Path(f"data/scores/pasted/{SET}/{NAME}/{domain}/patches.json").read_text())["copies"]
        images = {item.name for item in normal(domain)}
        assert {record["image"] for record in records} == images
        made = [paste(load_image(item), Patch.of(record["patch"]))[0] for record in records
                for item in normal(domain) if item.name == record["image"]]  # fmt: skip
        assert all(np.array_equal(one, other) for one, other in zip(made, copies(domain), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_the_threshold_has_the_largest_sum_of_specificity_and_recall(method: str) -> None:
    for scenario in SCENARIOS:
        chosen = json.loads(Path(f"data/thresholds/{SET}/{method}.json").read_text())[NAME][scenario.name]
        assert chosen["rule"] == ("conformal" if scenario.by_rate else "pasted")
        if scenario.by_rate or scenario.absolute:
            continue
        of = predictions("val", SET, method, scenario, NAME)
        good = of.scores[[name.split("/")[1].startswith("good") for name in of.names]].astype(float)
        bad = stored(method, scenario.model_of(NAME), scenario.pair("val"))
        tried = np.linspace(min(good.min(), bad.min()), max(good.max(), bad.max()), params.load_all().calibrate.steps)
        sums = [(good < one).mean() + (bad >= one).mean() for one in tried]
        assert chosen["specificity"] + chosen["recall"] == pytest.approx(max(sums), abs=1e-12), scenario.name
        assert (chosen["tp"] + chosen["fn"], chosen["tn"] + chosen["fp"]) == (len(bad), len(good))
        assert chosen["reason"].endswith(f": {len(good)} normal images, {len(bad)} with pasted defects")


def test_the_card_says_pasted() -> None:
    card = Path(f"models/{SET}/patchcore/{NAME}/clean/README.md").read_text()
    assert f"| pasted | {len(normal('clean'))} normal and {len(copies('clean'))} pasted clean val images |" in card


def test_nothing_is_pasted_for_the_ablation() -> None:
    """Its thresholds are those of normal images alone."""
    settings = params.load_all()
    rule = {"min_normal": 1_000_000, "min_defective": 1, "steps": 2, "target_fpr": settings.calibrate.target_fpr}
    of = ablation(SET, NAMES, settings.ablation.ratios, Calibrate(rule="auto", **rule), "val")
    assert json.loads(Path(f"data/evaluation/{SET}/ablation.json").read_text())["classes"] == of["classes"]


def test_without_a_normal_validation_image_nothing_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split_file, "images_of", lambda *_: ())
    with pytest.raises(AdshiftError, match=f"^{NAME}, shift: no normal validation image to paste a defect onto"):
        Copies(SET, NAME, 0, tmp_path).of("shift")
