"""What a reader sees for the keys of tables; a metric, scenario or method says it in its own record."""

from typing import Any

from adshift.detectors.registry import REGISTRY, detector_class
from adshift.evaluation import scenarios
from adshift.evaluation.metrics import registry

MACRO = "(mean)"  # stands for a class in tables: the mean of all. No class can be called so (`params.Name`).
ON_TEST = "_on_test"  # ends the name of a metric whose threshold was chosen on the test images themselves

LABELS = {
    MACRO: "mean of classes",
    "fpr": "false-positive rate",
    # Methods that others published figures of.
    "anogan": "AnoGAN",
    "ae_ssim": "AE-SSIM",
    "cutpaste": "CutPaste",
    "draem": "DRAEM",
}


def label(key: Any) -> str:
    """How a method, scenario, metric or column is called in tables and on the page."""
    key = str(key)
    metric = registry.BY_NAME.get(key.removesuffix(ON_TEST))
    if metric:
        return f"{metric.label} ({metric.on_test})" if key.endswith(ON_TEST) else metric.label
    if key in scenarios.BY_NAME:
        return scenarios.BY_NAME[key].label
    if key in REGISTRY:
        return str(detector_class(key).label)
    return LABELS.get(key, key.replace("_", " "))
