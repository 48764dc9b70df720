"""Drift's tests keep their levels, its verdicts follow their rule, and both commands do what they say."""

import json
import sys
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from adshift import cli
from adshift.deploy import blindness, drift, monitoring
from adshift.deploy.advice import Estimate
from adshift.deploy.drift import ALPHA, features_p, look, needed, scores_p, set_aside, spent
from adshift.detectors.records import Reference
from adshift.errors import AdshiftError


def sample(generator: np.random.Generator, count: int, place: float = 0.0, wide: float = 1.0, far: float = 0.0):
    """Scores and features of normal images, moved or widened."""
    return generator.normal(place, wide, count), generator.normal(far, 1, (count, 6))


def above(rate: float, count: int) -> float:
    """What a share of `count` trials that happen with chance `rate` hardly exceeds."""
    return rate + 3 * (rate * (1 - rate) / count) ** 0.5


@pytest.mark.parametrize(("kept", "count"), [(12, 10), (12, 30), (40, 30)])
@pytest.mark.parametrize("defects", [False, True])
def test_false_alarms_stay_below_the_level(kept: int, count: int, defects: bool) -> None:
    generator, trials = np.random.default_rng(0), 250
    found = []
    for trial in range(trials):
        reference, (scores, features) = Reference(*sample(generator, kept)), sample(generator, count)
        if defects:
            scores[: count // 10] += 10
            features[: count // 10] += 3
        found.append(look(reference, scores, features, seed=trial))
    assert sum(one.changed for one in found) / trials <= above(spent(1), trials)


def test_p_values_are_p_values() -> None:
    # The features' one is exact but for its steps of 1 / (B + 1), the scores' one careful.
    generator, trials = np.random.default_rng(1), 400
    features, scores = [], []
    for _ in range(trials):
        distances = drift._distances(generator.normal(size=(27, 5)))
        features.append(features_p(distances, 12, 2, 199, generator))
        scores.append(scores_p(generator.normal(size=12), generator.normal(size=15), 2))
    for level in (0.05, 0.25, 0.5):
        assert np.mean(np.array(features) <= level) == pytest.approx(level, abs=above(level, trials) - level)
        assert np.mean(np.array(scores) <= level) <= above(level, trials)


def test_looks_share_a_reference_and_the_error() -> None:
    """A reference unlucky once is unlucky at every look: without the correction alarms pile up."""
    generator, trials, looks = np.random.default_rng(2), 250, 8
    alarms = uncorrected = 0
    for _ in range(trials):
        reference = generator.normal(size=12)
        found = [scores_p(reference, generator.normal(size=20), 0) for _ in range(looks)]
        alarms += any(p <= spent(number) for number, p in enumerate(found, start=1))
        uncorrected += min(found) <= ALPHA
    assert alarms / trials <= above(ALPHA, trials)
    assert uncorrected / trials > above(ALPHA, trials)


def test_the_looks_spend_no_more_than_the_level() -> None:
    assert sum(spent(number) for number in range(1, 10_000)) <= ALPHA
    assert spent(1) == ALPHA / 2
    with pytest.raises(AdshiftError, match="look 0"):
        spent(0)


def test_setting_the_highest_aside_is_the_most_careful_way() -> None:
    """Whichever images are the defects, the test without them would have called no less of a shift."""
    generator = np.random.default_rng(3)
    for _ in range(10):
        reference, recent = generator.normal(size=6), generator.normal(1.5, 1, 7)
        without = [scores_p(reference, np.delete(recent, out), 0) for out in combinations(range(7), 2)]
        assert scores_p(reference, recent, 2) == pytest.approx(max(without))
        assert scores_p(reference, recent, 0) < max(without)


def test_no_change_is_clearer_than_the_permutations_can_show() -> None:
    distances = drift._distances(np.arange(40.0)[:, None] ** 4)
    assert 1 / 200 <= features_p(distances, 20, 0, 199, np.random.default_rng(0)) <= 2 / 200


def test_the_energy_distance_is_that_of_its_definition() -> None:
    generator = np.random.default_rng(4)
    rows = generator.normal(size=(11, 3))
    distances = drift._distances(rows)
    recent = np.arange(11) >= 5

    def mean(a, b):
        return np.mean([[distances[i, j] for j in b] for i in a])

    reference, new = range(5), sorted(range(5, 11), key=lambda i: mean([i], range(5)))
    for aside in (0, 2):
        kept = new[: 6 - aside]
        expected = 2 * mean(kept, reference) - mean(kept, kept) - mean(reference, reference)
        assert drift._energy(distances, recent[:, None], aside)[0] == pytest.approx(expected)
    scaled = rows / rows.std(0)
    assert distances[2, 7] == pytest.approx(np.linalg.norm(scaled[2] - scaled[7]))


def test_a_constant_feature_does_no_harm() -> None:
    generator = np.random.default_rng(5)
    scores, features = sample(generator, 20)
    features[:, 0] = 7.0
    assert look(Reference(scores[:10], features[:10]), scores[10:], features[10:]).changed is False


def test_holm_by_hand() -> None:
    assert drift._holm(0.01, 0.03) == (0.02, 0.03)
    assert drift._holm(0.03, 0.02) == (0.04, 0.04)
    assert drift._holm(0.6, 0.9) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [({}, False), ({"place": 4.0}, True), ({"place": -4.0}, True), ({"wide": 5.0}, True), ({"far": 0.7}, True)],
)
@pytest.mark.parametrize("count", [30, 100])
def test_a_change_of_scores_or_of_features_is_noticed(change: dict[str, float], expected: bool, count: int) -> None:
    generator = np.random.default_rng(6)
    reference = Reference(*sample(generator, 60))
    outcome = look(reference, *sample(generator, count, **change))
    assert outcome.changed is expected, outcome
    moved = change.get("place", 0.0) / np.abs(reference.scores - np.median(reference.scores)).mean()
    assert outcome.scores_moved == pytest.approx(moved, abs=1.5 * change.get("wide", 1.0))


def test_a_few_defects_are_no_drift_and_many_are() -> None:
    generator = np.random.default_rng(7)
    reference = Reference(*sample(generator, 40))
    scores, features = sample(generator, 60)
    scores[:6] += 20
    assert not look(reference, scores, features).changed
    scores[:40] += 20
    assert look(reference, scores, features).changed


def test_the_same_images_get_the_same_verdict() -> None:
    generator = np.random.default_rng(8)
    reference, recent = Reference(*sample(generator, 12)), sample(generator, 15)
    assert look(reference, *recent) == look(reference, *recent)


@pytest.mark.parametrize(("kept", "number"), [(12, 1), (12, 10), (5, 3), (40, 2)])
def test_too_few_images_cannot_tell_and_enough_can(kept: int, number: int) -> None:
    generator = np.random.default_rng(9)
    reference, least = Reference(*sample(generator, kept)), needed(kept, number)
    with pytest.raises(AdshiftError, match=f"give at least {least}"):
        look(reference, *sample(generator, least - 1, 100), number)
    assert look(reference, *sample(generator, least, 100), number).scores_p <= spent(number)


def test_one_reference_image_is_none() -> None:
    generator = np.random.default_rng(10)
    with pytest.raises(AdshiftError, match="1 reference images"):
        look(Reference(*sample(generator, 1)), *sample(generator, 200))


def test_features_of_another_network_are_refused() -> None:
    generator = np.random.default_rng(11)
    scores, features = sample(generator, 20)
    with pytest.raises(AdshiftError, match="dimensions"):
        look(Reference(*sample(generator, 12)), scores, features[:, :3])
    scores[3] = np.nan
    with pytest.raises(AdshiftError, match="not finite"):
        look(Reference(*sample(generator, 12)), scores, features)


@pytest.mark.parametrize("share", [-0.1, 0.5, float("nan")])
def test_a_share_of_defects_is_less_than_half(share: float) -> None:
    with pytest.raises(AdshiftError, match="share of defects"):
        set_aside(10, share)
    assert [set_aside(count, 0.1) for count in (3, 10, 11, 30, 100)] == [1, 1, 2, 3, 10]


@pytest.fixture
def model(tmp_path, monkeypatch) -> Path:
    """A model directory, folders of images, and a model whose score of an image is the number in its name."""
    generator = np.random.default_rng(12)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "threshold.json").write_text(json.dumps({"threshold": 20.0, "rule": "f1_exact", "val": "clean"}))
    Reference(generator.uniform(0, 19, 25), generator.normal(size=(25, 4))).save(folder / "reference.npz")
    for name, numbers in {"like": range(19), "moved": range(40, 59), "few": range(5), "bad": range(50, 90, 4)}.items():
        (tmp_path / name).mkdir()
        for number in numbers:
            (tmp_path / name / f"{number:02}.png").write_text(str(number))  # equal images count once
        (tmp_path / name / "notes.txt").touch()

    def score(paths):
        draw = np.random.default_rng(13)
        numbers = np.array([float(path.stem) for path in paths], np.float32)
        return numbers, draw.normal(size=(len(paths), 4)).astype(np.float32)

    monkeypatch.setattr("adshift.deploy.loading.load", lambda path: SimpleNamespace(score=score))
    tried = [Estimate("nothing", 20.0, 0.0, 1.0, 0.9), Estimate("recalibrate", 60.0, 0.95, 0.8, 0.9)]
    monkeypatch.setattr(monitoring, "ENOUGH", 19)
    monkeypatch.setattr(monitoring, "_tried", lambda *_: tried)
    monkeypatch.chdir(tmp_path)
    return folder


def adshift(monkeypatch, *words: str) -> int:
    """Exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["adshift", *words])
    try:
        cli.main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return int(end.code or 0)
    return 0


def test_recalibrate_writes_beside_the_model_and_over_nothing(model, monkeypatch, capsys) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    assert adshift(monkeypatch, "recalibrate", "model", "--normal", "moved") == 0
    assert adshift(monkeypatch, "recalibrate", "model", "--normal", "moved", "--name", "night") == 0
    found = json.loads((model / "threshold-1.json").read_text())
    assert found["threshold"] == np.nextafter(58.0, np.inf)
    assert found["before"] | {"recall": None} == {"threshold": 20.0, "fp": 19, "tn": 0, "tp": 0, "fn": 0, "fpr": 1.0,
                                                  "recall": None}  # fmt: skip
    assert (found["rule"], found["target_fpr"], found["expected_fpr"]["value"]) == ("conformal", 0.05, 0.05)
    assert Reference.load(model / found["reference"]).scores.tolist() == list(range(40, 59))
    assert {path.name for path in model.iterdir()} == {*before, "threshold-1.json", "reference-1.npz",
                                                       "threshold-night.json", "reference-night.npz"}  # fmt: skip
    assert all((model / name).read_bytes() == content for name, content in before.items())
    assert "false-positive rate of normal images to come, expected: 0.050" in capsys.readouterr().out
    assert adshift(monkeypatch, "recalibrate", "model", "--normal", "moved", "--name", "night") == 1
    assert "no threshold is overwritten" in capsys.readouterr().err


def test_recalibrate_with_defects_follows_the_models_rule(model, monkeypatch) -> None:
    assert adshift(monkeypatch, "recalibrate", "model", "--normal", "like", "--anomalous", "bad", "--name", "x") == 0
    found = json.loads((model / "threshold-x.json").read_text())
    assert (found["rule"], found["target_fpr"], found["threshold"]) == ("f1_exact", None, 34.0)
    assert (found["after"]["tp"], found["after"]["fp"], found["anomalous"]) == (10, 0, 10)


@pytest.mark.parametrize("rule", ["f1_exact", "conformal", "pasted"])
def test_recalibrate_pastes_defects_only_if_asked(model, monkeypatch, capsys, rule) -> None:
    """Whatever rule the model has, the threshold is then that of the largest specificity plus recall."""
    (model / "threshold.json").write_text(json.dumps({"threshold": 20.0, "rule": rule, "val": "clean"}))
    bad = sorted(Path("bad").glob("*.png"))
    monkeypatch.setattr(blindness, "inputs", lambda patches, _, good: (len(good) == 19) and bad)
    assert adshift(monkeypatch, "recalibrate", "model", "--normal", "like", "--pasted", "--name", "x") == 0
    found = json.loads((model / "threshold-x.json").read_text())
    assert found["rule"] == "pasted" and found["target_fpr"] is None
    assert 18 < found["threshold"] < 50
    assert found["pasted"] == 95 and found["anomalous_images"] == []  # five on each of 19 images, at least 90 in all
    assert "19 normal and 10 pasted images" in capsys.readouterr().out
    assert adshift(monkeypatch, "recalibrate", "model", "--normal", "like") == 0
    assert "pasted" not in json.loads((model / "threshold-1.json").read_text())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model", "--normal", "few"], "that takes 19"),
        (["model", "--normal", "like", "--anomalous", "bad", "--pasted"], "leave one of them out"),
        (["model", "--normal", "like", "--target-fpr", "0.01"], "that takes 99"),
        (["model", "--normal", "nowhere"], "nowhere: not there"),
        (["nowhere", "--normal", "like"], "no model directory"),
        (["model", "--normal", "like", "--name", "../x"], "name"),
    ],
)
def test_recalibrate_refuses_and_leaves_nothing(model, monkeypatch, capsys, words, message) -> None:
    before = sorted(path.name for path in model.iterdir())
    assert adshift(monkeypatch, "recalibrate", *words) == 1
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in model.iterdir()) == before


def test_drift_says_its_verdict_by_its_exit_code(model, monkeypatch, capsys) -> None:
    assert adshift(monkeypatch, "drift", "model", "like") == 0
    assert capsys.readouterr().out.startswith("fine: no change detected; nothing to do\n")
    assert adshift(monkeypatch, "drift", "model", "moved/*.png", "--json", "--look", "3") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["images"], found["alarms"], found["look"]) == ("recalibrate", 19, 1.0, 3)
    assert found["remedy"].endswith("adshift recalibrate model --normal DIR")
    assert [one["lever"] for one in found["levers"]] == ["nothing", "recalibrate"]
    assert found["level"] == ALPHA / 12
    assert adshift(monkeypatch, "drift", "model", "few/00.png") == 2
    assert "give at least" in capsys.readouterr().err
    assert adshift(monkeypatch, "drift", "model", "few/nothing*") == 2
    whole = (model / "reference.npz").read_bytes()
    for damaged in (b"", b"no zip", whole[:100], whole[:-30], whole[:200] + b"0" + whole[201:]):
        (model / "reference.npz").write_bytes(damaged)
        assert adshift(monkeypatch, "drift", "model", "like") == 2
        assert "reference.npz: not a readable reference" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("others", "verdict", "code"),
    [
        ([], "harmless", 0),
        ([Estimate("adapt", 9.0, 1.0, 1.0, 0.9)], "adapt", 1),
        ([Estimate("adapt", 9.0, 0.5, 1.0, 0.9), Estimate("refit", 9.0, 1.0, 1.0, 0.9)], "refit", 1),
    ],
)
def test_drift_advises_the_cheapest_lever(model, monkeypatch, capsys, others, verdict, code) -> None:
    tried = [Estimate("nothing", 20.0, 0.6, 0.9, 0.9), *others]
    monkeypatch.setattr(monitoring, "_tried", lambda *_: tried)
    assert adshift(monkeypatch, "drift", "model", "moved") == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{verdict}: ")
    assert [line.split()[0] for line in lines if "AUROC" in line] == [one.lever for one in tried]
    monkeypatch.setattr(monitoring, "ENOUGH", 20)
    assert adshift(monkeypatch, "drift", "model", "moved") == 1
    assert capsys.readouterr().out.startswith(
        "unclear: the images changed and cannot tell what would help: give at least 20"
    )
    monkeypatch.setattr(monitoring, "ENOUGH", 19)
    chance = [Estimate(one.lever, one.threshold, one.specificity, one.recall, 0.5) for one in tried]
    monkeypatch.setattr(monitoring, "_tried", lambda *_: chance)
    assert adshift(monkeypatch, "drift", "model", "moved") == 1
    assert capsys.readouterr().out.startswith("unclear: ")


def test_drift_is_held_to_the_recalibrations_images(model, monkeypatch) -> None:
    assert adshift(monkeypatch, "recalibrate", "model", "--normal", "moved", "--name", "x") == 0
    assert adshift(monkeypatch, "drift", "model", "moved") == 1
    assert adshift(monkeypatch, "drift", "model", "moved", "--threshold", "x") == 0
    assert adshift(monkeypatch, "drift", "model", "moved", "--threshold", "model/threshold-x.json") == 0
    assert adshift(monkeypatch, "drift", "model", "moved", "--threshold", "y") == 2


def test_images_are_found_once_and_sorted(model) -> None:
    found = monitoring.images(["like", "like/00.png", "li*/0[1].png"])
    assert [path.name for path in found] == [f"{number:02}.png" for number in range(19)]
