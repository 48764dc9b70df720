"""Models of a tiny data set, made by the pipeline's own stages in this process, as `dvc repro package` would."""

import contextlib
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from adshift.project.paths import DOMAINS
from adshift.project.presets import apply
from tiny import CLASSES, ROOT, write_tree

NAMES = CLASSES[:2]
METHODS = ("patchcore", "padim_diagonal")  # one whose score is not its map's peak, and one whose score is


def stage(script: str, **options: str) -> None:
    """Run `stages/SCRIPT.py --KEY VALUE...` here."""
    arguments = [word for key, value in options.items() for word in (f"--{key}", *value.split())]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(str(ROOT / "stages" / f"{script}.py"), run_name="__main__")


def make(folder: Path, **features: object) -> Path:
    """The pipeline's outputs up to the models in `folder`, which looks like the project; small images, batches of 1.

    `features`: of that section of params.yaml, in place of a square of 72 pixels cropped to 64.
    """
    write_tree(folder / "photos", NAMES)
    for name in ("src", "stages"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "params.yaml", folder)
    with contextlib.chdir(folder):
        apply("mvtec", "photos")
        yaml = YAML()
        params = yaml.load(Path("params.yaml").read_text())
        params["classes"], params["methods"] = list(NAMES), list(METHODS)
        params["features"] |= {"resize": 72, "crop": 64, "batch": 1} | features
        params["patchcore"]["coreset"] = 0.1
        params["evaluate"]["bootstrap"] = 100
        with Path("params.yaml").open("w") as file:
            yaml.dump(params, file)
        of, seed = {"dataset": "mvtec"}, str(params["seed"])
        for script in ("sources", "check", "check_network", "prepare", "split"):
            stage(script)
        for name in NAMES:
            stage("shift", **of, seed=seed, name=name)
            for domain in DOMAINS:
                stage("embed", **of, name=name, domain=domain)
        for method in METHODS:
            for name in NAMES:
                for domain in DOMAINS:
                    stage("fit", **of, seed=seed, method=method, model=name, domain=domain)
                stage("score", **of, method=method, model=name, domains="clean shift")
            stage("fit", **of, seed=seed, method=method, model="unified", domain="clean")
            stage("score", **of, method=method, model="unified", domains="clean")
            stage("evaluate_pixels", method=method)
        for name in NAMES:
            stage("ablate", name=name, domain="shift")
        stage("score_ablation", domain="shift")
        for script in ("evaluate_ablation", "calibrate", "evaluate", "package"):
            stage(script)
    return folder
