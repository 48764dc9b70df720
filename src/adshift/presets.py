"""Presets: what params.yaml says for a study. Every preset sets the same keys, so that one can follow another."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from adshift import datasets
from adshift.errors import AdshiftError
from adshift.params import FILE, load_all

OURS = {"features.backbone": "tf_efficientnet_lite0", "features.layers": None, "features.weights": None}
STUDY = {"features.backbone": "resnet50", "features.layers": None, "features.weights": None}

# classes: None stands for all that lie under the data root.
PRESETS: dict[str, dict[str, Any]] = {
    "sample": {**OURS, "dataset.name": "sample", "classes": ["hazelnut", "carpet", "zipper"], "split.max_train": None},
    "shift_study": {
        **STUDY,
        "dataset.name": "mvtec",
        "classes": ["hazelnut", "carpet", "zipper"],
        "split.max_train": None,
    },
    "mvtec": {**OURS, "dataset.name": "mvtec", "classes": None, "split.max_train": None},
    "magnetic_tile": {**OURS, "dataset.name": "magnetic_tile", "classes": None, "split.max_train": None},
}
SAMPLE_ROOT = "src/adshift/datasets/sample.py"

# The shift study's settings (3.3, 3.4, 4), which every preset starts from.
COMMON = {
    "seed": 42,
    "split.train_fraction": 0.8,
    "split.val_defect_fraction": 0.3,
    "features.resize": 224,
    "features.crop": None,
    "patchcore.layers": [2, 3],
    "patchcore.projection": 128,
    "patchcore.coreset": 0.05,
    "patchcore.neighbours": 9,
    "padim.layers": [1, 2, 3],
    "padim.n_features": 100,
    "calibrate.rule": "f1_grid",
    "calibrate.steps": 1000,
    "evaluate.pro_limit": 0.3,
}


def apply(name: str, data_root: str | None, path: Path = FILE) -> dict[str, Any]:
    """Rewrite params.yaml for a preset, its comments and all other values kept.

    Args:
        name: of the preset.
        data_root: folder of the raw data; not for the sample, which is made.
        path: of params.yaml.

    Returns:
        The keys set, dotted, and their values.

    Raises:
        AdshiftError: the root is missing or does not hold what the preset needs; params.yaml is then unchanged.
    """
    values = {**COMMON, **PRESETS[name]}
    if name == "sample":
        values["dataset.root"] = SAMPLE_ROOT
    elif data_root is None:
        raise AdshiftError(f"preset {name}: which images?", f"adshift preset {name} --data-root DIR")
    else:
        values["dataset.root"] = data_root
    if values["classes"] is None:
        values["classes"] = datasets.classes_under(values["dataset.name"], values["dataset.root"])
    datasets.check(values["dataset.name"], values["dataset.root"], tuple(values["classes"]))

    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "")
    )
    load_all(path)
    document = yaml.load(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        _set(document, key.split("."), value)
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    try:
        load_all(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return values


def _set(document: CommentedMap, key: list[str], value: Any) -> None:
    for part in key[:-1]:
        document = document[part]
    if isinstance(value, list):
        old, value = document[key[-1]], CommentedSeq(value)
        value.fa.set_flow_style()
        if isinstance(old, CommentedSeq):
            value.ca.comment = old.ca.comment  # the comment behind a list belongs to the list
    document[key[-1]] = value
