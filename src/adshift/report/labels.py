"""Labels of the keys in tables. Metrics, scenarios and methods have their labels in their own records."""

from typing import Any

from adshift.detectors.registry import detector_class, exists
from adshift.evaluation import scenarios
from adshift.evaluation.metrics import registry

MACRO = "(mean)"  # the mean of all classes, in the column `class`. `params.Name` forbids it as a class.
ON_TEST = "_on_test"  # suffix of a metric whose threshold was chosen on the test images

LABELS = {
    MACRO: "mean of classes",
    "fpr": "false-positive rate",
    # Methods with published figures only.
    "anogan": "AnoGAN",
    "ae_ssim": "AE-SSIM",
    "cutpaste": "CutPaste",
    "draem": "DRAEM",
}


def label(key: Any) -> str:
    """The label of a method, scenario, metric or column in tables and on the page."""
    key = str(key)
    metric = registry.BY_NAME.get(key.removesuffix(ON_TEST))
    if metric:
        return f"{metric.label} ({metric.on_test})" if key.endswith(ON_TEST) else metric.label
    if key in scenarios.BY_NAME:
        return scenarios.BY_NAME[key].label
    if exists(key):
        return str(detector_class(key).label)
    return LABELS.get(key, key.replace("_", " "))
