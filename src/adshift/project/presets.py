"""Presets: the values of params.yaml for a data set or a study."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from adshift.data import datasets
from adshift.data.class_names import same
from adshift.errors import AdshiftError
from adshift.project import graph_lists, own_images
from adshift.project.data_check import look
from adshift.project.own_images import Folders
from adshift.project.params import FILE, check_folder, load_all, read

SAMPLE_ROOT = "src/adshift/data/datasets/sample.py"

# The shift study's settings (3.3, 3.4, 4), which every preset starts from; a backbone of its own in front, thresholds
# that work without defects, and shifts at the network's resolution, which `STUDY` takes back.
COMMON: dict[str, Any] = {
    "seed": 42,
    "dataset.bits": "auto",
    "dataset.folder.class_name": None,
    "dataset.folder.normal": ["."],
    "dataset.folder.defective": [],
    "dataset.folder.masks": None,
    "methods": ["patchcore", "padim"],
    "split.protocol": "study",
    "split.train_fraction": 0.8,
    "split.val_defect_fraction": 0.3,
    "split.group": None,
    "split.order": "random",
    "split.max_train": None,
    "shift.kind": "synthetic",
    "shift.resolution": "input",
    "shift.recorded.column": None,
    "shift.recorded.pattern": r"exp(\d)",
    "shift.recorded.shifted": ["4", "5", "6"],
    "split.contamination": 0.0,
    "features.backbone": "tf_efficientnet_lite0",
    "features.layers": None,
    "features.weights": None,
    "features.options": {},
    "features.resize": 224,
    "features.fit": "squeeze",
    "features.tiles": None,
    "features.crop": None,
    "patchcore.layers": [2, 3],
    "patchcore.projection": 128,
    "patchcore.coreset": 0.05,
    "patchcore.neighbours": 9,
    "patchcore.reweight": "original",
    "patchcore_pq.reweight": "original",
    "padim.layers": [1, 2, 3],
    "padim.n_features": 100,
    "calibrate.rule": "auto",
    "calibrate.min_normal": 10,
    "calibrate.min_defective": 5,
    "calibrate.steps": 1000,
    "evaluate.pro_limit": 0.3,
    "evaluate.masks": "input",
    "scenarios": "all",
    "unified": True,
    "ablation.ratios": [0.01, 0.05, 0.1],
    "report.colours": "cubehelix",
    "report.scale": "class",
}

# The scenarios of the shift study, without levers.
EIGHT = [
    "clean", "shift_no_adaptation", "shift_threshold_only", "shift_full_adaptation", "unified", "unified_absolute",
    "clean_threshold_only", "clean_full_adaptation",
]  # fmt: skip

# The order of operations, the thresholds, the scenarios and the weight of a score of the shift study itself. It prints
# the weight `softmax`, so its figures are compared under it, although `original` ranks better on every set
# (docs/findings.md).
STUDY: dict[str, Any] = {
    "shift.resolution": "image",
    "calibrate.rule": "f1_grid",
    "scenarios": EIGHT,
    "patchcore.reweight": "softmax",
    "patchcore_pq.reweight": "softmax",
}

# The user's own images: quality of the detectors, and effect of drift. Other parts of the study are off to save time,
# and PaDiM's Gaussians come from `padim_streaming`: those of `padim`, without its memory.
OWN: dict[str, Any] = {
    "methods": ["patchcore", "padim_streaming"],
    "unified": False,
    "ablation.ratios": [],
    "scenarios": EIGHT,
}

# "Explainable Deep Learning for Visual Anomaly Detection in Industrial Monitoring Systems": PaDiM on official splits,
# 256 pixels cut to 224, F1 maximised on the test set, overlays in jet with a scale of each image's own.
XAI: dict[str, Any] = {
    "scenarios": EIGHT,
    "methods": ["padim"],
    "split.protocol": "official",
    "features.backbone": "resnet18",
    "features.resize": 256,
    "features.fit": "squeeze",
    "features.crop": 224,
    "calibrate.rule": "f1_exact",
    "report.colours": "jet",
    "report.scale": "image",
}

# The benchmark of anomalib's model pages: official splits, best F1 on the test images, no drift. The pages print no
# resolution; anomalib's settings of that time had 256 pixels cut to 224.
ANOMALIB: dict[str, Any] = {
    "dataset.name": "mvtec",
    "classes": None,
    "split.protocol": "official",
    "shift.kind": "none",
    "scenarios": ["clean"],
    "unified": False,
    "ablation.ratios": [],
    "calibrate.rule": "f1_exact",
    "features.resize": 256,
    "features.crop": 224,
    "patchcore.coreset": 0.1,
}

# {preset: its values beside COMMON}; classes: None stands for all classes under the data root.
PRESETS: dict[str, dict[str, Any]] = {
    "sample": {"dataset.name": "sample", "classes": ["hazelnut", "carpet", "zipper"]},
    "shift_study": {
        **STUDY,
        "dataset.name": "mvtec",
        "classes": ["hazelnut", "carpet", "zipper"],
        "features.backbone": "resnet50",
    },
    "mvtec": {"dataset.name": "mvtec", "classes": None},
    "folder": {**OWN, "dataset.name": "folder", "classes": None},
    "list": {**OWN, "dataset.name": "list", "classes": None},
    "mvtec_ad_2": {"dataset.name": "mvtec_ad_2", "classes": None},
    "visa": {"dataset.name": "visa", "classes": None},
    "btad": {"dataset.name": "btad", "classes": None},
    "real_iad": {"dataset.name": "real_iad", "classes": None},
    "magnetic_tile": {"dataset.name": "magnetic_tile", "classes": None},
    "magnetic_tile_recorded": {  # six exposures, dark to bright; the brighter half is shifted
        "dataset.name": "magnetic_tile",
        "classes": None,
        "shift.kind": "recorded",
    },
    "anomalib_resnet18": {**ANOMALIB, "features.backbone": "resnet18"},
    "anomalib_wide": {**ANOMALIB, "features.backbone": "wide_resnet50_2", "padim.n_features": 550},
    "xai_mvtec": {**XAI, "dataset.name": "mvtec", "classes": ["bottle", "cable", "hazelnut"]},  # table 1
    "xai_wide": {  # table 2, its second row
        **XAI,
        "dataset.name": "mvtec",
        "classes": ["bottle"],
        "features.backbone": "wide_resnet50_2",
        "padim.n_features": 256,
    },
    "xai_visa": {**XAI, "dataset.name": "visa", "classes": ["candle", "pcb1", "cashew"]},  # table 3
    "xai_btad": {**XAI, "dataset.name": "btad", "classes": ["01", "02", "03"]},  # table 4
}


def values_of(name: str) -> dict[str, Any]:
    """{dotted key: value} of a preset; the same keys for each, so that a preset can replace another."""
    return {**COMMON, **PRESETS[name]}


def resolved(
    name: str, data_root: str | None, classes: Sequence[str] = (), folders: Folders | None = None
) -> dict[str, Any]:
    """{dotted key: value} of a preset for the data under a root, with the classes in it.

    Args:
        name: of the preset.
        data_root: folder of the raw data, or the CSV of a list; not for the generated sample, nor for `folder`.
        classes: to use, as in paths or by their folders' names; by default the preset's.
        folders: arguments of the preset `folder`.

    Raises:
        AdshiftError: the root is missing or lacks data that the preset needs.
    """
    values = values_of(name)
    if name == "sample":
        if data_root is not None:
            raise AdshiftError(f"--data-root {data_root}: the sample's images are made here", "leave --data-root out")
        values["dataset.root"] = SAMPLE_ROOT
    elif name == "folder":
        values |= (folders or Folders(under=data_root)).values()
    elif data_root is None:
        root_argument = "FILE.csv" if name == "list" else "DIR"
        raise AdshiftError(f"preset {name}: which images?", f"adshift preset {name} --data-root {root_argument}")
    else:
        values["dataset.root"] = own_images.absolute(data_root)
    own_images.check_root(values["dataset.root"])
    name, root, folder = own_images.source(values)
    known = datasets.class_names(name, root, folder)
    if classes:
        slugs = {same(real): slug for slug, real in known.items()}
        values["classes"] = [slugs.get(same(one), one) for one in classes]
    elif values["classes"] is None:
        values["classes"] = list(known)
    own_images.check_each(name, root, values["classes"], folder)
    return values | own_images.columns(values)


def apply(
    name: str, data_root: str | None, path: Path = FILE, classes: Sequence[str] = (), folders: Folders | None = None
) -> list[str]:
    """Rewrite params.yaml for a preset. Comments and all other values are kept.

    Args:
        name, data_root, classes, folders: as for `resolved`.
        path: of params.yaml.

    Returns:
        Lines that describe the data set.

    Raises:
        AdshiftError: the root is missing or lacks data that the preset needs; params.yaml is then unchanged.
    """
    if path == FILE:
        check_folder()
    settings = _rewrite(path, resolved(name, data_root, classes, folders))
    checked = look(settings)
    proposal, shrinking = checked.survey.proposal(), checked.survey.shrinking(settings.features.resize)
    return [*checked.lines(), *([str(proposal)] if proposal else []), *([shrinking] if shrinking else [])]


def derive(path: Path = FILE) -> list[str]:
    """Update `graph` of params.yaml from the other parameters; returns a line for each change.

    Raises:
        AdshiftError: params.yaml is not valid.
    """
    load_all(path)
    values = read(path)
    changed = {key: wanted for key, wanted in graph_lists.lists(values).items() if values["graph"][key] != wanted}
    if changed:
        _rewrite(path, {})
    return [f"{path}: graph.{key} is now {wanted}" for key, wanted in changed.items()]


def _rewrite(path: Path, values: Mapping[str, Any]) -> Any:
    """Set dotted keys, and derive `graph`; returns all parameters, as `load_all` does.

    Comments are kept, and the file is replaced whole.
    """
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "")
    )
    load_all(path)
    document = yaml.load(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        _set(document, key.split("."), value)
    for key, wanted in graph_lists.lists(document).items():
        if list(document["graph"][key]) != wanted:
            _set(document, ["graph", key], wanted)
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    try:
        settings = load_all(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return settings


def _set(document: CommentedMap, key: list[str], value: Any) -> None:
    for part in key[:-1]:
        document = document[part]
    if isinstance(value, list):
        old, value = document[key[-1]], CommentedSeq(value)
        value.fa.set_flow_style()
        if isinstance(old, CommentedSeq):
            value.ca.comment = old.ca.comment  # the comment behind a list belongs to the list
        # A list on several lines has an empty list of comments, with which ruamel.yaml writes no line end.
        for comments in filter(None, (value.ca.comment, document.ca.items.get(key[-1]))):
            comments[-1] = comments[-1] or None
    document[key[-1]] = value
