"""Everything after evaluation: tables, plots, pictures and the HTML page. No torch, no pandas, no pyplot."""

from typing import Any

MACRO = "(mean)"  # stands for a class in tables: the mean of all. No class can be called so (`params.Name`).

LABELS = {
    "patchcore": "PatchCore",
    "patchcore_pq": "PatchCore, quantized",
    "padim": "PaDiM",
    "padim_streaming": "PaDiM, streaming",
    "padim_diagonal": "PaDiM, diagonal",
    "paste": "PaSTe",
    "stfpm": "STFPM",
    "cfa": "CFA",
    "anogan": "AnoGAN",
    "ae_ssim": "AE-SSIM",
    "cutpaste": "CutPaste",
    "draem": "DRAEM",
    "clean": "Clean",
    "shift_no_adaptation": "Shift, no adaptation",
    "shift_threshold_only": "Shift, new threshold",
    "shift_full_adaptation": "Shift, refit",
    "unified": "Unified, clean",
    "unified_absolute": "Unified, one threshold",
    "clean_threshold_only": "Clean again, new threshold",
    "clean_full_adaptation": "Clean again, refit",
    MACRO: "mean of classes",
    "image_auroc": "image AUROC",
    "image_auprc": "image AUPRC",
    "image_f1": "image F1",
    "image_best_f1_upper_bound": "image best F1 (upper bound)",
    "pixel_auroc": "pixel AUROC",
    "pixel_auprc": "pixel AUPRC",
    "pixel_best_f1_upper_bound": "pixel best F1 (upper bound)",
    "pro": "PRO",
    "aupimo": "AUPIMO",
    "fpr": "false-positive rate",
    "image_f1_on_test": "image F1 (upper bound, threshold chosen on test)",
}

ON_TEST = "_on_test"  # ends the name of a metric whose threshold was chosen on the test images themselves


def label(key: Any) -> str:
    """How a method, scenario or metric is called in tables and on the page."""
    key = str(key)
    if key not in LABELS and key.endswith(ON_TEST):
        return f"{label(key.removesuffix(ON_TEST))} (threshold chosen on test)"
    return LABELS.get(key, key.replace("_", " "))
