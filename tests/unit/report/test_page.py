import hashlib
import json
import re
import subprocess
import sys
from base64 import b64decode, b64encode
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from PIL import Image

import fake_run
from adshift.detectors.records import Predictions
from adshift.errors import AdshiftError
from adshift.evaluation.scenarios import BY_NAME, SCENARIOS, named
from adshift.project.paths import scores_path
from adshift.report import page, payload, pictures, plots
from adshift.report.results import UPPER_BOUND, collect
from adshift.report.table import Estimate

ROOT = Path(__file__).parents[3]


class Tags(HTMLParser):
    """Every start tag with its attributes, all text, and what stands in scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.text, self.scripts = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts.append(data)
        else:
            self.text += data


@pytest.fixture
def album(run):
    results = collect("sample", fake_run.CLASSES, fake_run.METHODS, fake_run.RATIOS)
    return results, pictures.Album("sample", 32, None, results.thresholds())


def build(drift="synthetic", ignored=None, scenarios=SCENARIOS, **how):
    results = collect("sample", fake_run.CLASSES, fake_run.METHODS, fake_run.RATIOS, scenarios)
    pictures_of = pictures.Album("sample", 32, None, results.thresholds(), **how)
    shown = pictures.choose("sample", fake_run.CLASSES, 4)
    return page.build(
        "sample",
        results,
        pictures_of,
        backbone="b",
        drift=drift,
        shown=shown,
        count=12,
        required=0.8,
        reference=Path("reference"),
        ignored=ignored,
    )


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The page of the same run, built once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("page")
        patch.chdir(folder)
        (folder / ".dvc").mkdir()
        (folder / ".dvc" / "plots").symlink_to(ROOT / ".dvc" / "plots")
        fake_run.make()
        return build()


def test_the_page_loads_nothing_and_runs_one_script(html):
    found = Tags(html)
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in found.tags}
    assert [attrs for tag, attrs in found.tags if tag == "script"] == [{"type": "application/json", "id": "run"}, {}]
    assert not any(name.startswith("on") for _, attrs in found.tags for name in attrs)
    links = [
        value
        for _, attrs in found.tags
        for key, value in attrs.items()
        if key in ("src", "href", "xlink:href", "srcset")
    ]
    assert len(links) > 20
    assert all(link.startswith("#") for link in links)
    assert set(re.findall(r"https?://[\w.]+", html)) <= {"http://www.w3.org"}  # namespaces of SVG
    assert not re.search(r"@import|url\((?!#)", html)


def test_the_policy_allows_that_script_by_its_hash_and_nothing_from_elsewhere(html):
    found = Tags(html)
    [policy] = [attrs["content"] for _, attrs in found.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    hashed = b64encode(hashlib.sha256(found.scripts[1].encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{hashed}'; "
        "base-uri 'none'; form-action 'none'"
    )


def embedded(html):
    return json.loads(Tags(html).scripts[0])


def test_the_page_holds_every_test_score_and_the_worst_images(html):
    run = embedded(html)
    assert (run["classes"], [one["key"] for one in run["methods"]]) == ([*fake_run.CLASSES], [*fake_run.METHODS])
    for name in fake_run.CLASSES:
        images = run["images"][name]["shift"]
        assert len(images["names"]) == 17
        assert len(images["pictures"]) == len(images["masks"]) == len(images["pictured"]) == 12
        assert {images["names"][row] for row in images["shown"]} <= {images["names"][row] for row in images["pictured"]}
        cell = run["cells"]["padim"]["shift_full_adaptation"][name]
        assert len(cell["scores"]) == 17 and cell["intervals"]["specificity"][0] <= cell["intervals"]["specificity"][1]
        for picture, mask, row in zip(images["pictures"], images["masks"], images["pictured"], strict=True):
            assert picture.startswith("data:image/jpeg;base64,")
            assert mask.startswith("data:image/png;base64,") == ("/good/" not in images["names"][row])


def test_every_link_within_the_page_has_its_target_and_ids_are_unique(html):
    tags = Tags(html).tags
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = [attrs["href"][1:] for tag, attrs in tags if tag == "a"] + re.findall(r"url\(#([^)]+)\)", html)
    assert targets and set(targets) <= set(ids)


def test_names_from_the_data_are_escaped_in_the_json_too(run):
    fake_run.make(more=fake_run.HOSTILE)
    html = build()
    found = Tags(html)
    assert not any(attrs.get("src") == "x" or "onerror" in attrs for _, attrs in found.tags)
    assert [tag for tag, _ in found.tags].count("script") == 2
    assert not re.search(r"[<>&]", found.scripts[0])
    names = embedded(html)["images"]["carpet"]["clean"]["names"]
    assert set(fake_run.HOSTILE) < set(names) and any(fake_run.EVIL in name for name in names)


def test_every_class_method_and_scenario_is_there(html):
    text = Tags(html).text
    for name in (*fake_run.CLASSES, "PatchCore", "PaDiM", "Shift, refit", "Unified, clean"):
        assert name in text


def test_the_page_says_what_drift_it_is_and_how_its_colours_are_to_be_read(html, run):
    other = build("recorded", palette="jet", scaled="image")
    assert "simulated shift" in html and "Drift is real here" not in html
    assert "Drift is real here" in other and "simulated shift" not in other
    assert "a normal image does not glow" in html and "a normal image glows too" in other
    assert "rgb(0 0 128)" in other and "rgb(0 0 128)" not in html


def test_figures_stand_with_their_intervals_and_methods_with_their_difference(html):
    text = Tags(html).text
    assert re.search(r"0\.\d{3}0\.\d\d to [01]\.\d\d", text)  # the value and the small print under it
    assert "Which method is better, and by how much" in text and "tie" in text


def test_versions_that_were_ignored_are_named(html, run):
    assert "taken to be the same" not in html
    page = build(ignored={"numpy": "recorded 1.0, installed 1.1"})
    assert "numpy: recorded 1.0, installed 1.1; taken to be the same." in page


def test_the_same_run_elsewhere_gives_the_same_bytes(html, run):
    assert html == build()


def figures(*ends):
    return [Estimate((low + high) / 2, low, high) for low, high in ends]


@pytest.mark.parametrize(
    ("ends", "images", "state"),
    [
        (((0.80, 0.95), (0.90, 1.00)), 50, "safe"),
        (((0.79, 0.95), (0.90, 1.00)), 50, "unsure"),
        (((0.90, 0.95), (0.10, 0.79)), 50, "unsafe"),  # one figure is enough
        (((0.70, 0.80), (0.90, 1.00)), 50, "unsure"),  # 0.8 itself would do
        (((1.00, 1.00), (1.00, 1.00)), 16, "unsure"),  # perfect, but of too few
        (((1.00, 1.00), (1.00, 1.00)), 17, "safe"),
        (((0.10, 0.20), (1.00, 1.00)), 16, "unsafe"),
    ],
)
def test_safe_is_what_the_intervals_show(ends, images, state):
    assert page.judge(figures(*ends), images, 0.8) == state


def test_without_an_interval_nothing_is_shown():
    assert page.judge([Estimate(1.0, 1.0, 1.0), Estimate(None, None, None)], 50, 0.8) == "unsure"


@pytest.mark.parametrize("required", [0.5, 0.8, 0.95, 0.99])
def test_enough_images_are_those_that_could_show_the_rate(required):
    count = page.enough(required)
    ends = [scipy.stats.binomtest(n, n).proportion_ci(0.95, method="exact").low for n in (count - 1, count)]
    assert ends[0] < required <= ends[1] + 1e-12


# States of the baseline; under drift of nothing changed, normalized, aligned, hardened, new threshold, adapted, refit
@pytest.mark.parametrize(
    ("states", "kind"),
    [
        ("safe, safe safe safe safe safe safe safe", "shift_no_adaptation"),
        ("safe, unsafe safe unsure safe safe safe safe", "shift_normalised"),
        ("safe, unsafe unsafe safe unsafe safe safe safe", "shift_aligned"),
        ("safe, unsafe unsure unsafe safe safe safe safe", "shift_hardened"),
        ("safe, unsafe unsafe unsafe unsafe safe safe safe", "shift_threshold_only"),
        ("safe, unsafe unsafe unsafe unsafe unsafe safe safe", "shift_adapted"),
        ("unsure, unsafe unsafe unsafe unsafe unsure unsafe safe", "shift_full_adaptation"),
        ("unsafe, unsafe unsafe unsafe unsafe unsure unsafe unsafe", "weak"),
        ("safe, unsafe unsafe unsafe unsafe unsure unsafe unsafe", "unsure"),
        ("safe, unsafe unsafe unsafe unsafe unsafe unsafe unsafe", "lost"),
    ],
)
def test_advice_is_the_cheapest_adaptation_that_is_safe(states, kind):
    judged = {
        name: page.Judgement(state, ())
        for name, state in zip(page.JUDGED, states.replace(",", "").split(), strict=True)
    }
    assert page.advice(judged) == kind and kind in page.ADVICE


def test_what_was_chosen_on_test_is_never_safe(run):
    fake_run.make(40, 40)

    def states():
        results = collect("sample", fake_run.CLASSES, fake_run.METHODS, fake_run.RATIOS)
        judged = page.judgements(results, 0.3)
        return {found.state for names in judged.values() for one in names.values() for found in one.values()}

    assert "safe" in states()
    for method in fake_run.METHODS:
        path = Path(f"data/evaluation/sample/image/{method}.json")
        path.write_text(path.read_text().replace('"on": "val"', '"on": "test"'))
    assert "safe" not in states()


def test_leaders_are_the_best_and_those_not_shown_to_be_behind(run):
    results = collect("sample", fake_run.CLASSES, fake_run.METHODS, fake_run.RATIOS)
    for scenario in page.JUDGED:
        ahead = page.leaders(results, scenario, "carpet")
        best = max(fake_run.METHODS, key=lambda method: results.value(method, scenario, "carpet", "image_f1"))
        gaps = {method: results.difference((best, scenario), (method, scenario), "carpet", "image_f1").low
                for method in fake_run.METHODS}  # fmt: skip
        assert set(ahead) == {method for method in fake_run.METHODS if method == best or gaps[method] <= 0}


def test_the_rule_for_safe_stands_on_the_page_with_its_number(html):
    text = Tags(html).text
    assert "The rule for “safe”" in text and "report.required" in text
    assert "at least 17 normal and 17 defective" in text


def test_an_error_is_the_distance_beyond_the_threshold_in_deviations():
    scores, labels = np.array([9, 14, 15, 2, 6.5]), np.array([1, 0, 1, 0, 1], bool)
    found = payload.errors(scores, labels, 10)
    assert found.tolist() == pytest.approx(np.array([1, 4, -5, -8, 3.5]) / np.std(scores))
    assert payload.sigma(np.ones(3)) == 1.0


def test_pictured_are_the_examples_and_the_worst():
    names, worst = ["a", "b", "c", "d"], np.array([0.1, 3.0, 2.0, 2.0])
    assert payload.pictured(names, worst, ["a"], 3) == [0, 1, 2]
    assert payload.pictured(names, worst, [], 1) == [1]
    assert payload.pictured(names, worst, ["d", "a"], 1) == [0, 3]


def test_a_page_of_a_large_set_shows_a_sample_and_says_so(run, monkeypatch):
    whole = embedded(build())
    assert whole["sampled"] == []
    there = sum(len(one["names"]) for domains in whole["images"].values() for one in domains.values())
    parts = len(fake_run.CLASSES) * 2
    monkeypatch.setattr(payload, "MOST_ROWS", 3 * parts)
    monkeypatch.setattr(payload, "MOST_PICTURES", 2 * parts)
    html = build()
    found = embedded(html)
    kept = sum(len(one["names"]) for domains in found["images"].values() for one in domains.values())
    assert found["sampled"] == [kept, there] and kept < there
    assert f"This page shows {kept:,} of {there:,} test images" in Tags(html).text
    for name, domains in found["images"].items():
        for domain, one in domains.items():
            before = whole["images"][name][domain]
            rows = [before["names"].index(image) for image in one["names"]]  # a subset, in order
            assert rows == sorted(rows) and len(rows) >= 3
            assert [one["names"][row] for row in one["shown"]] == [before["names"][row] for row in before["shown"]]
            assert len(one["pictured"]) >= len(one["shown"])
            for method, scenarios in found["cells"].items():
                for scenario, cells in scenarios.items():
                    if BY_NAME[scenario].test == domain:
                        every = whole["cells"][method][scenario][name]
                        assert cells[name]["scores"] == [every["scores"][row] for row in rows]
                        assert cells[name]["sigma"] == every["sigma"]


def test_a_page_of_150_000_images_stays_below_20_megabytes(run):
    """By what an image adds: names and scores of all shown, pictures and maps of those pictured."""
    html = build()
    found = embedded(html)
    images = [one for domains in found["images"].values() for one in domains.values()]
    rows, pictured = (sum(len(one[key]) for one in images) for key in ("names", "pictured"))
    size = lambda value: len(json.dumps(value))  # noqa: E731
    names = sum(size(one["names"]) for one in images) + 40 * rows  # longer names than here
    scores = sum(size(cell["scores"]) for one in found["cells"].values() for cells in one.values() for cell in
                 cells.values())  # fmt: skip
    pictures_of = sum(size([one["pictures"], one["masks"]]) for one in images) + size(found["maps"])
    fixed = len(html) - pictures_of - scores
    shown = payload.MOST_ROWS + 4 * 60
    expected = fixed + (names + scores) / rows * shown + pictures_of / pictured * (payload.MOST_PICTURES + 4 * 60)
    assert expected < 20e6


def test_a_stored_map_is_the_detectors_own_to_half_a_level(html, run):
    found = embedded(html)
    scenario = BY_NAME["shift_no_adaptation"]
    stored = found["maps"]["padim/clean-on-shift/carpet"]
    assert stored == found["maps"][found["cells"]["padim"]["shift_threshold_only"]["carpet"]["maps"]]
    shape = (-1, stored["height"], stored["width"])
    values = np.frombuffer(b64decode(stored["values"]), np.uint8).reshape(shape)
    low, step = (np.array(stored[key])[:, None, None] for key in ("low", "step"))
    path = fake_scores("padim", "carpet", scenario)
    maps = Predictions.load(path).maps[found["images"]["carpet"]["shift"]["pictured"]]
    assert (np.abs(low + step * values - maps) <= 0.5001 * step + 1e-6).all()
    rows = np.frombuffer(b64decode(found["matrices"][stored["rows"]]), "<f4").reshape(stored["size"][0], -1)
    assert (rows == pictures.enlargement(shape[1], 32, 1.0)).all()


def fake_scores(method, name, scenario):
    return scores_path("test", "sample", method, scenario.model_of(name), scenario.pair("test"), name)


def test_scores_that_were_not_evaluated_are_refused(run):
    path = fake_scores("padim", "carpet", BY_NAME["clean"])
    found = Predictions.load(path)
    Predictions(found.names, found.scores + 100, found.maps, found.size, found.smoothing).save(path)
    with pytest.raises(AdshiftError, match=r"scores of padim on carpet \(clean\)"):
        build()


def test_costs_speak_only_of_what_is_defined(album):
    results, _ = album
    assert len(page.costs(results, "padim")) == 3
    undefined = results.figures["metric"] == "specificity"
    blind = replace(results, figures=results.figures.assign(value=results.figures["value"].mask(undefined)))
    assert len(page.costs(blind, "padim")) == 2
    assert not any("good parts" in line for line in page.costs(blind, "padim"))


def test_threshold_lies_in_the_middle_of_the_colours():
    normal, defective = np.full((2, 4, 4), 1.0), np.full((2, 4, 4), 9.0)
    scale = pictures.scale_of(normal, defective, ratio=0.5, threshold=8.0)
    assert scale == pictures.Scale(1.0, 4.0, 9.0)
    assert scale.positions(np.array([0.0, 1.0, 4.0, 9.0, 99.0])).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("threshold", [0.0, 0.5, -3.0, 50.0])
@pytest.mark.parametrize("empty", [(0, 2), (2, 0), (0, 0), (2, 2)])
def test_scale_rises_whatever_the_maps(threshold, empty):
    scale = pictures.scale_of(np.ones((empty[0], 4, 4)), np.full((empty[1], 4, 4), 2.0), 1.0, threshold)
    assert scale.low < scale.threshold < scale.high


def test_colours_rise_evenly_in_brightness():
    light = pictures.colours("cubehelix") @ np.array([0.299, 0.587, 0.114])  # the formula's own measure of brightness
    assert np.abs(light - np.linspace(0, 255, 256)).max() < 8


def test_jet_runs_from_blue_over_green_to_red():
    jet = pictures.colours("jet").astype(int)
    assert jet[0].tolist() == [0, 0, 128] and jet[255].tolist() == [128, 0, 0]
    assert jet[32].argmax() == 2 and jet[127].argmax() == 1 and jet[223].argmax() == 0


def test_the_studys_overlay_is_jet_at_its_alpha_over_the_image_in_colour():
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    positions = np.linspace(0, 1, 16).reshape(4, 4)
    mixed = pictures.blend(image, positions, "jet")
    heat = pictures.colours("jet")[np.rint(255 * positions).astype(int)]
    assert (mixed == np.rint(0.55 * image + 0.45 * heat)).all()
    assert (mixed != pictures.blend(image, positions, "cubehelix")).any()


def test_a_scale_of_its_own_lets_every_image_glow_and_a_common_one_does_not(album):
    _, common = album
    own = pictures.Album("sample", 32, None, common.thresholds, palette="jet", scaled="image")
    clean = BY_NAME["clean"]
    found = own.predictions("padim", "carpet", clean, "clean")
    calmest = found.names[int(found.scores.argmin())]
    row = found.names.index(calmest)
    values = found.full_maps()[row]
    assert pictures.stretched(values).max() == 1.0 and pictures.stretched(values).min() == 0.0
    assert pictures.stretched(np.ones((2, 2))).tolist() == [[0, 0], [0, 0]]
    assert common.scale("padim", "carpet", clean).positions(values).max() < 0.5
    image = own.image("carpet", "clean", calmest)
    assert (
        own.overlay("padim", "carpet", clean, calmest) == pictures.blend(image, pictures.stretched(values), "jet")
    ).all()  # no outline: nothing above the threshold, no defect


def test_the_defect_is_outlined(album):
    _, pictures_of = album
    image = next(one for one in pictures_of.predictions("padim", "carpet", BY_NAME["clean"], "clean").names
                 if "/hole/" in one)  # fmt: skip
    rim = pictures.outline(pictures_of.mask("carpet", "clean", image))
    shown = pictures_of.overlay("padim", "carpet", BY_NAME["clean"], image)[rim]
    marked = (shown == pictures.TRUTH).all(1) | (shown == pictures.FOUND).all(1)
    assert marked.all() and (shown == pictures.TRUTH).all(1).any()


def test_outline_is_the_rim_of_the_region():
    region = np.zeros((6, 6), dtype=bool)
    region[1:5, 1:5] = True
    rim = pictures.outline(region)
    assert rim.sum() == 12 and not rim[2:4, 2:4].any() and not rim[~region].any()


def test_a_map_glows_where_the_defect_is_and_nowhere_on_a_normal_image(album):
    _, pictures_of = album
    clean = BY_NAME["clean"]
    found = pictures_of.predictions("padim", "carpet", clean, "clean")
    scale = pictures_of.scale("padim", "carpet", clean)
    glow = scale.positions(found.full_maps()) > 0.5
    best, calmest = int(found.scores.argmax()), int(found.scores.argmin())
    assert glow[best].any() and not glow[calmest].any()
    overlay = pictures_of.overlay("padim", "carpet", clean, found.names[best])
    assert overlay.shape == (32, 32, 3) and (overlay[pictures.outline(glow[best])] == 255).all()


def test_images_shown_take_the_defects_in_turn_and_end_with_a_normal_one():
    names = [f"test/{defect}/{number}" for defect in ("hole", "cut", "good") for number in range(3)]
    assert pictures.spread(names, 4) == ["test/cut/0", "test/hole/0", "test/cut/1", "test/good/0"]
    assert pictures.spread(names, 1) == ["test/cut/0"]
    assert pictures.spread(["test/good/1"], 3) == ["test/good/1"]
    assert pictures.spread([], 3) == []


def test_stages_write_what_they_promise_without_torch(run):
    text = (ROOT / "params.yaml").read_text()
    text = re.sub(r"(?m)^classes:.*", f"classes: [{', '.join(fake_run.CLASSES)}]", text)
    Path("params.yaml").write_text(text.replace("resize: 224", "resize: 32"))
    for stage in ("aggregate", "timings", "report"):
        check = (
            f"import runpy, sys; runpy.run_path({str(ROOT / 'stages' / f'{stage}.py')!r}, run_name='__main__');"
            "sys.exit(sorted({'torch', 'pandas', 'matplotlib', 'numba', 'anomalib'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
        # sys.exit prints the list of modules. Before it, a slow machine tells how far the stage is.
        assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "['pandas']")
    charts = {path.stem for path in Path("plots/curves").iterdir()}
    assert charts == set(plots.CHARTS)
    images = {path.stem for path in Path("plots/images").iterdir()}
    assert images == {"samples", "unified_gap", "cross_class", *(
        f"qualitative_{name}{end}" for name in fake_run.CLASSES for end in ("", "-shift"))}  # fmt: skip
    with Image.open("plots/images/qualitative_carpet.png") as sheet:
        assert sheet.width > 4 * pictures.TILE
    assert Path("report/index.html").stat().st_size < 15e6
    assert Path("metrics/timings/timings.csv").is_file() and Path("metrics/summary.json").is_file()
    assert "seconds" not in Path("report/index.html").read_text()


def test_the_page_says_when_thresholds_were_chosen_on_test(run):
    assert UPPER_BOUND not in Tags(build()).text
    for method in fake_run.METHODS:
        path = Path(f"data/evaluation/sample/image/{method}.json")
        path.write_text(path.read_text().replace('"on": "val"', '"on": "test"'))
    text = Tags(build()).text
    assert UPPER_BOUND in text
    assert "image F1 (upper bound, threshold chosen on test)" in text


@pytest.mark.parametrize(
    "names",
    [
        ["clean"],
        ["clean", "shift_no_adaptation"],
        ["clean", "shift_hardened", "clean_hardened"],
        ["clean", "shift_no_adaptation", "shift_adapted"],
        ["clean", "shift_full_adaptation"],
        ["clean", "unified"],
    ],
)
def test_the_page_copes_with_any_choice_of_scenarios(names, run):
    """Files of scenarios that were not run are not there."""
    scenarios = named(names)
    wanted = {(one.model_of("carpet"), one.pair("test")) for one in scenarios}
    for scenario in SCENARIOS:
        if (scenario.model_of("carpet"), scenario.pair("test")) not in wanted:
            for method in fake_run.METHODS:
                for name in fake_run.CLASSES:
                    pair = scenario.pair("test")
                    scores_path("test", "sample", method, scenario.model_of(name), pair, name).unlink(missing_ok=True)
    html = build(scenarios=scenarios)
    drifted = any(name.startswith("shift") for name in names)
    assert ('id="drift"' in html) == drifted
    assert "whatever is done" not in html or drifted
    results = collect("sample", fake_run.CLASSES, fake_run.METHODS, fake_run.RATIOS, scenarios)
    album = pictures.Album("sample", 32, None, results.thresholds())
    shown = pictures.choose("sample", fake_run.CLASSES, 2)
    pictures.write(run / "pictures", album, shown, fake_run.METHODS, results.scenarios)
    assert (run / "pictures" / "qualitative_carpet-shift.png").exists()
