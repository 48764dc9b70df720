"""metrics/headline.json: the few figures of a run that `dvc exp show` prints."""

from typing import Any

from adshift.evaluation.scenarios import BASELINE, UNADAPTED
from adshift.report.labels import MACRO
from adshift.report.results import Results


def headline(dataset: str, results: Results) -> dict[str, Any]:
    """{data: name of the data set, method: figures}.

    Figures are means over classes, to 4 decimals, None if no class has them: AUROC, recall and false-alarm rate at the
    calibrated threshold, on clean images and, if there is drift, after drift without adaptation.
    """
    on = results.named("recall").removeprefix("recall")  # not empty if a threshold was chosen on test images
    figures: dict[str, Any] = {"data": dataset}
    for method in results.methods:
        figures[method] = {}
        for scenario, suffix in ((BASELINE, ""), (UNADAPTED, "_drift")):
            if scenario in results.scenarios:
                specificity = _shown(results, method, scenario.name, "specificity")
                figures[method] |= {
                    f"auroc{suffix}": _shown(results, method, scenario.name, "image_auroc"),
                    f"recall{on}{suffix}": _shown(results, method, scenario.name, "recall"),
                    f"fpr{on}{suffix}": None if specificity is None else round(1 - specificity, 4),
                }
    return figures


def _shown(results: Results, method: str, scenario: str, metric: str) -> float | None:
    value = results.value(method, scenario, MACRO, metric)
    return None if value is None else round(value, 4)
