"""The study's scenarios, written out, and where files lie."""

from pathlib import Path

import by_hand
from adshift.evaluation import pairs
from adshift.evaluation.scenarios import SCENARIOS
from adshift.project import paths

# name: domains of the training, validation and test images, one model for all classes, one threshold for all classes,
# lever
WRITTEN_OUT = {
    "clean": ("clean", "clean", "clean", False, False, ""),
    "shift_no_adaptation": ("clean", "clean", "shift", False, False, ""),
    "shift_normalised": ("clean", "clean", "shift", False, False, "normalise"),
    "shift_aligned": ("clean", "clean", "shift", False, False, "align"),
    "shift_hardened": ("clean", "clean", "shift", False, False, "harden"),
    "shift_threshold_only": ("clean", "shift", "shift", False, False, ""),
    "shift_adapted": ("clean", "shift", "shift", False, False, "adapt"),
    "shift_full_adaptation": ("shift", "shift", "shift", False, False, ""),
    "unified": ("clean", "clean", "clean", True, False, ""),
    "unified_absolute": ("clean", "clean", "clean", True, True, ""),
    "clean_normalised": ("clean", "clean", "clean", False, False, "normalise"),
    "clean_aligned": ("clean", "clean", "clean", False, False, "align"),
    "clean_hardened": ("clean", "clean", "clean", False, False, "harden"),
    "clean_threshold_only": ("clean", "shift", "clean", False, False, ""),
    "clean_adapted": ("clean", "shift", "clean", False, False, "adapt"),
    "clean_full_adaptation": ("shift", "shift", "clean", False, False, ""),
}


def test_scenarios_are_the_studys() -> None:
    found = {one.name: (one.model, one.val, one.test, one.unified, one.absolute, one.lever) for one in SCENARIOS}
    assert found == WRITTEN_OUT
    assert list(found) == list(WRITTEN_OUT)
    assert paths.DOMAINS == ("clean", "shift")
    assert pairs.PAIRS == ("clean-on-clean", "clean-on-shift", "shift-on-shift", "shift-on-clean")


def test_which_scores_and_maps_a_scenario_needs() -> None:
    for one in SCENARIOS:
        model, val, test, pooled = by_hand.USES[one.name]
        assert (one.pair("val"), one.pair("test"), one.absolute) == (val, test, pooled)
        assert one.model_of("bolt") == by_hand.scored(model, "bolt")
        owner, pair, domain = by_hand.MAPS[one.pixels]
        assert (owner, pair, domain) == (model, test, one.test)


def test_where_files_lie() -> None:
    """As dvc.yaml says; each part of a path at its place."""
    assert paths.scores_path("val", "set", "padim", "nut", "clean-on-shift", "bolt") == Path(
        "data/scores/val/set/padim/nut/clean-on-shift/bolt.npz"
    )
    assert paths.model_path("set", "padim", "nut", "shift") == Path("data/fitted/set/padim/nut/shift")
    assert paths.ablation_path("set", "nut") == Path("data/ablation/set/nut")
    assert paths.features_path("set", "nut", "shift") == Path("data/features/shift/set/nut")
    assert paths.split_path("set", "nut") == Path("data/split/set/nut.csv")
    assert paths.contamination_path("set") == Path("data/contamination/set.json")
