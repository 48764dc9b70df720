"""Thresholds and image metrics over stored scores: which images set which threshold, and what evaluation writes."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import by_hand
from adshift.detectors.records import Predictions
from adshift.errors import AdshiftError, AdshiftWarning
from adshift.evaluation import image_level, intervals, pixel_level, thresholds
from adshift.evaluation.scenarios import SCENARIOS
from adshift.evaluation.settings import Calibrate
from adshift.project.paths import scores_path
from adshift.runtime.files import write_json

RULE = Calibrate(rule="f1_exact", min_normal=10, min_defective=5, steps=1000, target_fpr=0.05)
NAMES = tuple(f"test/{kind}/{i}" for kind in ("cut", "good") for i in range(6))
CLASSES = ("low", "high")  # whose scores lie far apart


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation and test scores of two classes: each is separable by itself, both together are not."""
    monkeypatch.chdir(tmp_path)
    for part in ("val", "test"):
        for scenario in SCENARIOS:
            for name in CLASSES:
                scores = np.array([3.0] * 6 + [1.0] * 6, np.float32) + (10 if name == "high" else 0)
                path = scores_path(part, "set", "padim", scenario.model_of(name), scenario.pair(part), name)
                Predictions(NAMES, scores, np.zeros((12, 2, 2), np.float32), 4, 0.0).save(path)


def test_an_absolute_threshold_is_one_for_all_classes_from_their_pooled_scores(stored: None) -> None:
    chosen = thresholds.thresholds("set", "padim", CLASSES, RULE, "val")
    own = {name: chosen[name]["unified"]["threshold"] for name in CLASSES}
    assert own == {"low": 2.0, "high": 12.0}
    assert chosen["low"]["unified_absolute"] == chosen["high"]["unified_absolute"]
    pooled = chosen["low"]["unified_absolute"]
    # Best F1 of 3, 3, 1, 1 and 13, 13, 11, 11: all from 3 on, with the normal images of `high` as false alarms.
    assert (pooled["threshold"], pooled["tp"], pooled["fp"], pooled["tn"], pooled["fn"]) == (2.0, 12, 6, 6, 0)


def test_an_absolute_threshold_costs_what_pooling_costs(stored: None) -> None:
    chosen = thresholds.thresholds("set", "padim", CLASSES, RULE, "val")
    found = image_level.image_level("set", "padim", CLASSES, chosen, 42, 100)
    rates = {
        (name, scenario): found["report"]["classes"][name][scenario]["specificity"]
        for name in CLASSES
        for scenario in ("unified", "unified_absolute")
    }
    assert rates == {("low", "unified"): 1, ("high", "unified"): 1, ("low", "unified_absolute"): 1,
                     ("high", "unified_absolute"): 0}  # fmt: skip
    assert found["report"]["cross_class"]["low"] == {"low": 0, "high": 1}  # each class's own threshold


def test_a_best_f1_that_calls_most_normal_images_anomalous_is_a_warning(stored: None) -> None:
    alarms = {"clean": 3, "shift_full_adaptation": 5, "shift_threshold_only": 4, "unified": 5}  # 3 of 6 are not most
    scenarios = [one for one in SCENARIOS if one.name in alarms or one.name == "unified_absolute"]
    for scenario in scenarios:  # normal images above the defective ones, the others below
        above = alarms.get(scenario.name, 5)
        scores = np.array([2.0] * 6 + [3.0] * above + [1.0] * (6 - above), np.float32)
        for name in CLASSES if scenario.name == "unified_absolute" else CLASSES[:1]:
            path = scores_path("val", "set", "padim", scenario.model_of(name), scenario.pair("val"), name)
            Predictions(NAMES, scores, np.zeros((12, 2, 2), np.float32), 4, 0.0).save(path)
    with pytest.warns(AdshiftWarning) as said:
        thresholds.thresholds("set", "padim", CLASSES, RULE, "val", scenarios)
    of_low = ", ".join(one.name for one in scenarios if one.name in alarms and alarms[one.name] > 3)
    assert of_low.count(",") == 2
    assert [str(one.message) for one in said] == [
        f"padim, {name}: the threshold of the best F1 calls {count} normal images anomalous ({of}); "
        "calibrate.rule: target_fpr limits this share"
        for name, count, of in (
            ("low", "5 of 6", of_low),
            ("high", "5 of 6", "unified"),
            ("low, high", "10 of 12", "unified_absolute"),
        )
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        thresholds.thresholds("set", "padim", CLASSES, RULE.model_copy(update={"rule": "target_fpr"}), "val", scenarios)


def test_every_class_and_scenario_has_replicates(stored: None) -> None:
    chosen = thresholds.thresholds("set", "padim", CLASSES, RULE, "val")
    found = image_level.image_level("set", "padim", CLASSES, chosen, 42, 100)["replicates"]
    assert set(found) == {(name, scenario.name) for name in CLASSES for scenario in SCENARIOS}
    again = image_level.image_level("set", "padim", CLASSES, chosen, 42, 100)["replicates"]
    assert all((found[key] == again[key]).all() and found[key].shape == (7, 100) for key in found)


SET, METHODS = by_hand.DATASET, by_hand.METHODS
QUARTER = {
    rule: Calibrate(rule=rule, min_normal=10, min_defective=5, steps=5, target_fpr=0.25)
    for rule in ("f1_exact", "f1_grid", "target_fpr")
}  # fmt: skip


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The study of `by_hand`."""
    monkeypatch.chdir(tmp_path)
    by_hand.write()


def test_no_two_sets_of_the_study_by_hand_give_the_same_figures() -> None:
    """Or a mistaken set could go unnoticed."""
    for method in METHODS:
        chosen = by_hand.thresholds(method)
        values = [chosen[name][scenario]["threshold"] for name in by_hand.CLASSES for scenario in by_hand.USES]
        # clean, shift_threshold_only, shift_full_adaptation and each lever twice a class, the pooled one
        shared = 2 + 2 + 2 + 2 * 4 + 1
        assert len(set(values)) == len(values) - shared
        tested = [
            by_hand.image_figures(*by_hand.SCORES[key], 0)["auroc"]
            for key in by_hand.ORDER
            if key[:2] == (method, "test")
        ]
        assert len(set(tested)) == len(tested) == 10 + 2 * 2 * 4
    sets = [(method, key, name) for method in METHODS for key in by_hand.MAPS for name in by_hand.CLASSES]
    figures = [by_hand.pixel_figures(*one, 0.3) for one in sets]
    assert len({(found["auroc"], found["auprc"], found["pro"]) for found in figures}) == len(sets)
    assert len({found["aupimo"] for found in figures}) > 5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rule", QUARTER)
@pytest.mark.parametrize("on", ["val", "test"])
def test_thresholds_by_hand(written: None, method: str, rule: str, on: str) -> None:
    found = thresholds.thresholds(SET, method, iter(by_hand.CLASSES), QUARTER[rule], on)
    expected = by_hand.thresholds(method, rule, on)
    rates = [
        [by_class[name][scenario].pop("expected_fpr") for name in by_hand.CLASSES for scenario in by_hand.ADAPTED]
        for by_class in (found, expected)
    ]
    assert found == expected
    for ours, theirs in zip(*rates, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("on", ["val", "test"])
def test_pasted_thresholds_by_hand(written: None, monkeypatch: pytest.MonkeyPatch, method: str, on: str) -> None:
    """Copies with pasted defects stand for the defective images, which have no say."""
    scores = dict(by_hand.SCORES)
    for number, key in enumerate(scores):
        of, part, model, domains, name = key
        if part == "val" and not model.endswith("-adapt"):
            pasted = tuple(1 + number % 3 + value for value in (*scores[key][0], *scores[key][1]))
            write_json(Path(f"data/scores/pasted/{SET}/{name}/{of}/{model}/{domains}.json"), {"scores": pasted})
            scores[key] = scores[key][0], pasted
    monkeypatch.setattr(by_hand, "SCORES", scores)
    monkeypatch.setattr(by_hand, "on_grid", by_hand.balanced)
    expected = by_hand.thresholds(method, "f1_grid", on)
    for scenario in expected["bolt"]:
        for record in (expected[name][scenario] for name in by_hand.CLASSES if scenario not in by_hand.ADAPTED):
            normal, copies = record["tn"] + record["fp"], record["tp"] + record["fn"]
            record["rule"] = "pasted"
            record["reason"] = f"largest specificity plus recall: {normal} normal images, {copies} with pasted defects"
    rule = QUARTER["f1_grid"].model_copy(update={"rule": "pasted"})
    found = thresholds.thresholds(SET, method, by_hand.CLASSES, rule, on)
    for name in by_hand.CLASSES:
        for scenario in expected[name]:
            if scenario in by_hand.ADAPTED:
                assert found[name][scenario]["threshold"] == expected[name][scenario]["threshold"]
                assert found[name][scenario]["rule"] == "conformal"
            else:
                assert found[name][scenario] == expected[name][scenario], scenario


def test_images_without_a_label_are_listed_apart(written: None) -> None:
    """The highest score first, of equal ones the first name; no metric counts them, nor do the normal images."""
    path = scores_path("test", SET, "padim", "bolt", "clean-on-clean", "bolt")
    before = Predictions.load(path)
    chosen = by_hand.thresholds("padim")
    without = image_level.image_level(SET, "padim", by_hand.CLASSES, chosen, 42, 100)["report"]
    limit = chosen["bolt"]["clean"]["threshold"]
    added = {"test//d": limit + 1, "test//b": limit, "test//c": limit - 1, "test//a": limit - 1}
    names, scores = (*added, *before.names), np.array([*added.values(), *before.scores], np.float32)
    maps = np.concatenate([before.maps[:1]] * 4 + [before.maps])
    Predictions(names, scores, maps, before.size, before.smoothing).save(path)
    found = image_level.image_level(SET, "padim", by_hand.CLASSES, chosen, 42, 100)["report"]
    ordered = [[name, added[name]] for name in ("test//d", "test//b", "test//a", "test//c")]
    assert found["unlabelled"]["bolt"]["clean"] == {"images": 4, "alarms": 2, "scores": ordered}
    assert found["unlabelled"]["nut"]["clean"] == {"images": 0, "alarms": 0, "scores": []}
    for part in ("classes", "normal", "set_by"):
        assert found[part] == without[part], part
    normal, expected = found["normal"]["bolt"]["clean"], before.scores[["good" in name for name in before.names]]
    assert normal["images"] == len(expected) and normal["alarms"] == (expected >= limit).sum()
    assert all("good" in name and score in expected for name, score in normal["most_anomalous"])


@pytest.mark.parametrize("on", ["val", "test"])
def test_nothing_is_pasted_for_the_ablation(written: None, on: str) -> None:
    """Its thresholds are those of normal images alone, as `auto` sets them where defective ones are too few."""
    few = QUARTER["f1_grid"].model_copy(update={"rule": "auto", "min_normal": 1_000_000})
    expected = image_level.ablation(SET, by_hand.CLASSES, (0.1, 0.5), few, on)
    rule = few.model_copy(update={"rule": "pasted"})
    assert image_level.ablation(SET, by_hand.CLASSES, (0.1, 0.5), rule, on) == expected


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("on", ["val", "test"])
def test_image_metrics_by_hand(written: None, method: str, on: str) -> None:
    chosen = by_hand.thresholds(method, on=on)
    report = image_level.image_level(SET, method, by_hand.CLASSES, chosen, 42, 100)["report"]
    assert set(report) == {"on", "classes", "set_by", "normal", "unlabelled", "cross_class"}
    assert report["on"] == on
    assert list(report["classes"]) == list(by_hand.CLASSES)
    for name in by_hand.CLASSES:
        assert list(report["classes"][name]) == list(by_hand.USES)
        for scenario in by_hand.USES:
            threshold = chosen[name][scenario]["threshold"]
            expected = by_hand.image_figures(*by_hand.tested(method, scenario, name), threshold)
            assert report["classes"][name][scenario] == pytest.approx(expected, rel=1e-12), (name, scenario)
            record = chosen[name][scenario]
            assert report["set_by"][name][scenario] == record["tn"] + record["fp"] > 0


@pytest.mark.parametrize("method", METHODS)
def test_the_cross_class_matrix_by_hand(written: None, method: str) -> None:
    """One class's own threshold of the unified model on the normal test images of another, by the same model."""
    chosen = by_hand.thresholds(method)
    report = image_level.image_level(SET, method, by_hand.CLASSES, chosen, 42, 100)["report"]
    expected = {}
    for owner in by_hand.CLASSES:
        limit = chosen[owner]["unified"]["threshold"]
        normal = {name: by_hand.tested(method, "unified", name)[0] for name in by_hand.CLASSES}
        expected[owner] = {name: sum(one >= limit for one in normal[name]) / len(normal[name]) for name in normal}
    assert report["cross_class"] == expected


@pytest.mark.parametrize("method", METHODS)
def test_curves_and_scores_by_hand(written: None, method: str) -> None:
    chosen = by_hand.thresholds(method)
    tables = image_level.image_level(SET, method, by_hand.CLASSES, chosen, 42, 100)["tables"]
    expected: dict[str, list[dict]] = {"roc": [], "pr": [], "scores": []}
    for name in by_hand.CLASSES:
        for scenario in by_hand.USES:
            normal, defective = by_hand.tested(method, scenario, name)
            threshold, of = chosen[name][scenario]["threshold"], {"class": name, "scenario": scenario}
            for tp, fp in by_hand.curve(normal, defective):
                expected["roc"].append({**of, "fpr": fp / len(normal), "tpr": tp / len(defective)})
                precision = tp / (tp + fp) if tp + fp else 1.0
                expected["pr"].append({**of, "recall": tp / len(defective), "precision": precision})
            images = by_hand.names("test", len(normal), len(defective))
            for place, (image, score) in enumerate(zip(images, normal + defective, strict=True)):
                expected["scores"].append(
                    {**of, "name": image, "defect": image.split("/")[1], "anomalous": int(place >= len(normal)),
                     "score": float(score), "threshold": threshold, "predicted": int(score >= threshold)}
                )  # fmt: skip
    assert tables == expected
    for table in tables:
        assert [list(row) for row in tables[table]] == [list(row) for row in expected[table]]  # the order of columns
    json.dumps(tables)  # plain numbers


@pytest.mark.parametrize("method", METHODS)
def test_replicates_are_of_the_scenarios_scores_and_threshold(written: None, method: str) -> None:
    """Of the class's own resamples; what a replicate is, test_bootstrap.py says."""
    chosen = by_hand.thresholds(method)
    found = image_level.image_level(SET, method, by_hand.CLASSES, chosen, 42, 100)["replicates"]
    assert list(found) == [(name, scenario) for name in by_hand.CLASSES for scenario in by_hand.USES]
    for (name, scenario), values in found.items():
        normal, defective = by_hand.tested(method, scenario, name)
        labels = np.array([False] * len(normal) + [True] * len(defective))
        drawn = intervals.Resamples.draw(len(normal), len(defective), 100, 42, name)
        threshold = chosen[name][scenario]["threshold"]
        expected = intervals.replicates(np.array(normal + defective, float), labels, threshold, drawn)
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("limit", [0.3, 0.05])
def test_pixel_metrics_by_hand(written: None, method: str, limit: float) -> None:
    """Masks are those of the images: shifted with the shifted ones, whatever the model was fitted on."""
    found = pixel_level.pixel_level(SET, method, by_hand.CLASSES, 6, 4, limit)
    assert list(found) == list(by_hand.CLASSES)
    for name in by_hand.CLASSES:
        assert set(found[name]) == set(by_hand.MAPS)
        for key in by_hand.MAPS:
            expected = by_hand.pixel_figures(method, key, name, limit) | {"unknown_masks": 0}
            model, pair, _ = by_hand.MAPS[key]
            expected["images"] = sum(map(len, by_hand.scores(method, "test", model, pair, name)))
            metrics = {metric: found[name][key][metric] for metric in expected}
            assert metrics == pytest.approx(expected, rel=1e-6), (name, key)
            assert set(found[name][key]) == {*expected, "regions", "small_regions"}


def test_a_defect_without_a_pixel_is_no_normal_image(written: None) -> None:
    """The mask of the image with the highest map is emptied; as a normal one it would set AUPIMO's false alarms."""
    name, key = "nut", ("padim", "test", "nut", "clean-on-clean", "nut")
    path = Path("data/scores/test/set/padim/nut/clean-on-clean/nut.npz")
    found = Predictions.load(path)
    maps = found.maps.copy()
    maps[-1] = 100.0
    Predictions(found.names, found.scores, maps, found.size, found.smoothing).save(path)
    lines = Path("data/clean/set/nut/manifest.csv").read_text().splitlines()
    header = ",".join(field for field in lines[0].split(",") if not field.startswith("checksum"))
    rows = [line.split(",") for line in lines[1:]]
    for row in rows:
        if row[0] == found.names[-1]:
            row[4] = row[6] = ""
    Path("data/clean/set/nut/manifest.csv").write_text("\n".join([header, *map(",".join, rows)]) + "\n")
    masked = len(by_hand.MASKS["clean", name]) - 1
    maps, masks = [by_hand.full_map(one) for one in by_hand.small_maps(key)], by_hand.MASKS["clean", name][:masked]
    normal = [[[False] * by_hand.SIDE] * by_hand.SIDE] * (len(maps) - 1 - masked)
    expected = by_hand.found_at_no_false_alarm(maps[:-1], normal + [by_hand.mask_of(one) for one in masks], masked)
    assert expected > 0
    assert pixel_level.pixel_level(SET, "padim", ["nut"], 6, 4, 0.3)["nut"]["clean-on-clean"]["aupimo"] == expected


def test_maps_of_one_position_say_nothing_of_where(written: None) -> None:
    """Of a model that does not localize: counts stay, metrics are null."""
    path = Path("data/scores/test/set/padim/nut/clean-on-clean/nut.npz")
    found = Predictions.load(path)
    before = pixel_level.pixel_level(SET, "padim", ["nut"], 6, 4, 0.3)["nut"]["clean-on-clean"]
    Predictions(found.names, found.scores, found.scores[:, None, None], found.size, 0.0).save(path)
    after = pixel_level.pixel_level(SET, "padim", ["nut"], 6, 4, 0.3)["nut"]["clean-on-clean"]
    assert before["auroc"] is not None
    assert all(after[metric] is None for metric in ("auroc", "auprc", "pro", "aupimo") if metric in after)
    assert {key: after[key] for key in ("images", "regions")} == {key: before[key] for key in ("images", "regions")}


@pytest.mark.parametrize("on", ["val", "test"])
def test_the_ablation_by_hand(written: None, on: str) -> None:
    """Thresholds come from validation scores, whatever `on` says of where these come from."""
    found = image_level.ablation(SET, by_hand.CLASSES, (0.1, 0.5), QUARTER["f1_exact"], on)
    assert list(found) == ["classes"]
    assert list(found["classes"]) == list(by_hand.CLASSES)
    for name in by_hand.CLASSES:
        assert list(found["classes"][name]) == ["0.1", "0.5"]
        for ratio in ("0.1", "0.5"):
            limit = by_hand.exact(*by_hand.OF_ABLATION[name, "val", ratio])
            expected = by_hand.image_figures(*by_hand.OF_ABLATION[name, "test", ratio], limit)
            assert limit != by_hand.exact(*by_hand.OF_ABLATION[name, "test", ratio])
            assert found["classes"][name][ratio] == pytest.approx({**expected, "rows": by_hand.ROWS[name][ratio]})


def test_ablation_scores_that_set_no_threshold_are_named(written: None) -> None:
    Predictions(("test/good/0",), np.zeros(1, np.float32), np.zeros((1, 1, 1), np.float32), 4, 0.0).save(
        Path("data/scores/ablation/set/nut/val-0.5.npz")
    )
    with pytest.raises(AdshiftError, match=r"^data/scores/ablation/set/nut: validation scores: 1 normal and 0 "):
        image_level.ablation(SET, by_hand.CLASSES, (0.1, 0.5), RULE, "val")


def test_the_progress_of_pixel_metrics_names_the_method_and_counts_sets(
    written: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def bar(items: list, **how: object) -> list:
        told.append((how["what"], how["total"], how["unit"]))
        return items

    monkeypatch.setattr("adshift.runtime.parallel.progress", bar)
    pixel_level.pixel_level(SET, "padim", by_hand.CLASSES, 6, 4, 0.3)
    assert told == [("pixel metrics of padim", 26, "set")]
