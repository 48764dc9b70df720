"""Runs on data sets that lack something, by the pipeline's own stages in this process, from manifests made here.

Tiny images, one of several kinds a test: a class's images are given as (role, defect, whether the mask is known).
"""

import contextlib
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from adshift.data import manifest, split_file
from adshift.data.manifest import GOOD, UNLABELLED, Item
from adshift.detectors import registry
from adshift.project import graph, params, paths
from adshift.project.paths import contamination_path, split_path
from adshift.runtime.files import write_json
from tiny import CLASSES, ROOT, texture
from trained import stage

METHODS = ("patchcore", "padim_diagonal")
Kind = tuple[str, str, bool, int]  # role, defect, whether the mask is known, how many
GOOD_ONLY: tuple[Kind, ...] = (("train", GOOD, True, 8), ("val", GOOD, True, 6), ("test", GOOD, True, 6))
DEFECTS: tuple[Kind, ...] = (("val", "hole", True, 3), ("test", "hole", True, 4))


def items_of(folder: Path, name: str, kinds: Sequence[Kind]) -> tuple[list[Item], dict[str, str]]:
    """Images of a class, drawn, and the role of each."""
    items, roles = [], {}
    for role, defect, known, count in kinds:
        part = "train" if defect == GOOD and role != "test" else "test"
        for index in range(count):
            key = f"{role}-{index:03}"
            rng = np.random.default_rng([CLASSES.index(name), len(role), ord((defect or "?")[0]), index])
            image, mask = texture(name, rng), np.zeros((64, 64), np.uint8)
            if defect != GOOD:
                row, column = rng.integers(8, 44, 2)
                mask[row : row + 12, column : column + 12] = 255
                image[mask > 0] = 0
            places = []
            for kind, pixels in (("image", image), ("mask", mask)):
                path = folder / "photos" / name / f"{defect or 'unknown'}-{key}-{kind}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
                places.append((path.relative_to(folder).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()))
            marked = places[1] if known and defect not in (GOOD, UNLABELLED) else ("", "")
            item = Item(
                f"{part}/{defect}/{key}", part, defect, places[0][0], marked[0], places[0][1], marked[1], 64, 64
            )
            items.append(item)
            roles[item.name] = role
    return items, roles


def make(folder: Path, classes: Mapping[str, Sequence[Kind]], **changes: object) -> Path:
    """The pipeline's outputs up to the page in `folder`, which looks like the project.

    Args:
        folder: empty.
        classes: {name: its images}.
        changes: dotted keys of params.yaml, with __ for the dot.
    """
    for name in ("src", "stages", "reference"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
    shutil.copy(ROOT / "params.yaml", folder)
    with contextlib.chdir(folder):
        _settings({"classes": list(classes), "methods": list(METHODS), "dataset__name": "mvtec",
                   "dataset__root": "photos", "features__resize": 64, "features__batch": 4,
                   "patchcore__coreset": 0.1, "evaluate__bootstrap": 100,
                   "unified": False, "ablation__ratios": [], **changes})  # fmt: skip
        stage("sources")
        settings = params.load_all()
        _checked(settings)
        for name, kinds in classes.items():
            items, roles = items_of(Path.cwd(), name, kinds)
            manifest.write(manifest.path_of("mvtec", name, "clean"), items)
            split_file.write(split_path("mvtec", name), {split_file.BOTH: roles})
        write_json(contamination_path("mvtec"), {}, checksum=True)
        run(settings)
    return folder


def run(settings: object) -> None:
    """Every stage from `shift` on, in the items of pipeline/dvc.yaml."""
    of, domains = {"dataset": "mvtec"}, settings.graph.domains
    stage("check_network")
    for name in settings.classes:
        for _ in settings.graph.shift:
            stage("shift", **of, seed="42", name=name)
        for domain in domains:
            stage("embed", **of, name=name, domain=domain)
    for method in settings.methods:
        for name in settings.classes:
            for domain in domains:
                stage("fit", **of, seed="42", method=method, model=name, domain=domain)
            stage("score", **of, method=method, model=name, domains=f"clean {domains[-1]}")
        for model in settings.graph.unified:
            stage("fit", **of, seed="42", method=method, model=model, domain="clean")
            stage("score", **of, method=method, model=model, domains="clean")
        stage("evaluate_pixels", method=method)
    for domain in settings.graph.ablation:
        for name in settings.classes:
            stage("ablate", name=name, domain=domain)
        stage("score_ablation", domain=domain)
        stage("evaluate_ablation")
    for script in ("calibrate", "evaluate", "package", "aggregate", "report", "timings"):
        stage(script)


def _settings(changes: Mapping[str, object]) -> None:
    yaml, path = YAML(), Path("params.yaml")
    document = yaml.load(path.read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = document
        for part in parents:
            place = place[part]
        place[last] = value
    document["graph"] = graph.lists(document)
    with path.open("w") as file:
        yaml.dump(document, file)


def _checked(settings: object) -> None:
    """What the stage `check` writes, which looks at the data set's layout before."""
    params.store(settings, paths.SETTINGS)
    for method in settings.methods:
        for part, values in registry.halves(method, dict(getattr(settings, method))).items():
            write_json(paths.SETTINGS / method / f"{part}.json", values, checksum=True)
