"""What to do against drift, from figures written out here."""

from types import SimpleNamespace
from typing import Any

import pytest

from adshift.evaluation.scenarios import SCENARIOS
from adshift.report.recommendation import recommendations

# scenario: specificity and recall in per cent
NOTHING = {"clean": (90, 90), "shift_no_adaptation": (20, 100)}


def said(rates: dict[str, tuple[int | None, int]], weaker: bool = False) -> list[str]:
    methods = ("patchcore", "padim") if weaker else ("patchcore",)

    def value(method: str, scenario: str, name: str, metric: str) -> float | None:
        rate = rates[scenario][metric == "recall"]
        return None if rate is None else rate / 100 - (0.2 if method == "padim" else 0)

    results: Any = SimpleNamespace(
        methods=methods, classes=("nut",), value=value,
        scenarios=tuple(one for one in SCENARIOS if one.name in rates),
    )  # fmt: skip
    return recommendations(results, {"nut": "metal nut"})


@pytest.mark.parametrize(
    ("rates", "text"),
    [
        ({}, "PatchCore, as it is (20% of good parts pass, 100% of defects are caught after drift); "
             "nothing else was tried."),
        ({"shift_threshold_only": (60, 68)},  # a gain of 4 points
         "PatchCore, as it is (20% of good parts pass, 100% of defects are caught after drift); "
         "no new image does more."),
        ({"shift_threshold_only": (80, 80)},
         "PatchCore, as it is (20% of good parts pass, 100% of defects are caught after drift); with new images, "
         "a new threshold: 80% of good parts pass, 80% of defects are caught."),
        ({"shift_normalised": (80, 80), "shift_hardened": (82, 82), "shift_adapted": (83, 83)},
         "PatchCore, normalized images (80% of good parts pass, 80% of defects are caught after drift; 20% of good "
         "parts pass, 100% of defects are caught with nothing changed); no new image does more."),
        ({"shift_normalised": (70, 70), "shift_hardened": (82, 82), "shift_threshold_only": (84, 84),
          "shift_adapted": (93, 93), "shift_full_adaptation": (95, 95)},
         "PatchCore, a hardened fit (82% of good parts pass, 82% of defects are caught after drift; 20% of good parts "
         "pass, 100% of defects are caught with nothing changed); with new images, a few normal images: 93% of good "
         "parts pass, 93% of defects are caught."),
    ],
)  # fmt: skip
def test_the_cheapest_lever_that_does_as_much_as_any(rates: dict, text: str) -> None:
    assert said(NOTHING | rates) == [f"metal nut: {text}"]
    assert said(NOTHING | rates, weaker=True) == [f"metal nut: {text}"]


def test_nothing_is_said_where_nothing_can_be_told() -> None:
    assert said({"clean": (90, 90)}) == []
    assert said({"clean": (None, 90), "shift_no_adaptation": (None, 90)}) == []
