import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fake_run
from adshift.report import page, pictures, plots, tables
from adshift.report.pictures import BY_NAME

ROOT = Path(__file__).parents[1]


class Tags(HTMLParser):
    """Every start tag with its attributes, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def album(run):
    results = tables.collect("sample", fake_run.CLASSES, fake_run.METHODS, fake_run.RATIOS)
    return results, pictures.Album("sample", 32, None, tables.thresholds(results))


def build(drift="synthetic", **how):
    results = tables.collect("sample", fake_run.CLASSES, fake_run.METHODS, fake_run.RATIOS)
    pictures_of = pictures.Album("sample", 32, None, tables.thresholds(results), **how)
    shown = pictures.choose("sample", fake_run.CLASSES, 4)
    return page.build(
        "sample",
        results,
        pictures_of,
        backbone="b",
        drift=drift,
        shown=shown,
        count=3,
        reference=Path("reference"),
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


def test_the_page_loads_nothing_and_runs_nothing(html):
    tags = Tags(html).tags
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in tags}
    links = [
        value for _, attrs in tags for key, value in attrs.items() if key in ("src", "href", "xlink:href", "srcset")
    ]
    assert len(links) > 50
    assert all(link.startswith(("data:image/", "#")) for link in links)
    assert set(re.findall(r"https?://[\w.]+", html)) <= {"http://www.w3.org"}  # namespaces of SVG
    assert not re.search(r"@import|url\((?!#)", html)


def test_every_link_within_the_page_has_its_target_and_ids_are_unique(html):
    tags = Tags(html).tags
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = [attrs["href"][1:] for tag, attrs in tags if tag == "a"] + re.findall(r"url\(#([^)]+)\)", html)
    assert targets and set(targets) <= set(ids)


def test_names_from_the_data_are_escaped(html):
    found = Tags(html)
    assert fake_run.EVIL in found.text
    assert not any(attrs.get("src") == "x" or "onerror" in attrs for _, attrs in found.tags)


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


def test_the_same_run_elsewhere_gives_the_same_bytes(html, run):
    assert html == build()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((0.95, 0.95, 0.95, 0.95), "shift_no_adaptation"),
        ((0.95, 0.90, 0.95, 0.95), "shift_no_adaptation"),  # just within the tolerance
        ((0.95, 0.60, 0.91, 0.95), "shift_threshold_only"),
        ((0.95, 0.60, 0.80, 0.95), "shift_full_adaptation"),
        ((0.95, 0.60, 0.80, 0.85), "lost"),
        ((0.70, 0.70, 0.70, 0.70), "weak"),
        ((0.95, None, 0.95, 0.95), "unknown"),
    ],
)
def test_verdict_is_the_cheapest_adaptation_that_is_enough(values, kind):
    assert page.verdict(values).kind == kind
    assert page.verdict(values).text == page.VERDICTS[kind]


def row(image, anomalous, predicted, score):
    return {"method": "m", "scenario": "clean", "class": "c", "name": f"test/x/{image}", "defect": "x", "score": score,
            "threshold": "10", "anomalous": anomalous, "predicted": predicted}  # fmt: skip


def test_misses_are_the_wrong_ones_and_the_furthest_come_first():
    rows = [row("a", "1", "0", "9"), row("b", "0", "1", "14"), row("c", "1", "1", "15"), row("d", "0", "0", "2"),
            row("e", "1", "0", "6.5")]  # fmt: skip
    found = page.misses(rows, 2)["m", "clean"]
    assert [miss.image for miss in found] == ["test/x/b", "test/x/e"]
    deviation = np.std([9, 14, 15, 2, 6.5])
    assert [miss.margin for miss in found] == pytest.approx([4 / deviation, 3.5 / deviation])
    assert page.misses(rows[2:4], 2) == {}


def test_false_alarms_do_not_crowd_out_missed_defects():
    rows = [row(f"alarm{n}", "0", "1", str(20 + n)) for n in range(5)] + [
        row(f"missed{n}", "1", "0", "9") for n in range(3)
    ]
    for count, alarms in ((1, 1), (2, 1), (4, 2), (7, 4), (8, 5), (9, 5)):
        found = page.misses(rows, count)["m", "clean"]
        assert (len(found), sum(not miss.anomalous for miss in found)) == (min(count, 8), alarms)
        assert [miss.margin for miss in found] == sorted((miss.margin for miss in found), reverse=True)
    assert [miss.image for miss in page.misses(rows[:5], 2)["m", "clean"]] == ["test/x/alarm4", "test/x/alarm3"]


def test_costs_speak_only_of_what_is_defined(album):
    results, _ = album
    assert len(page.costs(results, "padim")) == 3
    for scenario in BY_NAME:
        results.values["padim", scenario, tables.MACRO]["specificity"] = None
    assert not any("good parts" in line for line in page.costs(results, "padim"))


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


def test_stages_write_what_they_promise_without_torch_or_pandas(run):
    text = (ROOT / "params.yaml").read_text()
    text = re.sub(r"(?m)^classes:.*", f"classes: [{', '.join(fake_run.CLASSES)}]", text)
    Path("params.yaml").write_text(text.replace("resize: 224", "resize: 32"))
    for stage in ("aggregate", "timings", "report"):
        check = (
            f"import runpy, sys; runpy.run_path({str(ROOT / 'stages' / f'{stage}.py')!r}, run_name='__main__');"
            "sys.exit(sorted({'torch', 'pandas', 'matplotlib', 'numba', 'anomalib'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (1, "[]\n")  # sys.exit prints the list of modules
    charts = {path.stem for path in Path("plots/curves").iterdir()}
    assert charts == set(plots.CHARTS)
    images = {path.stem for path in Path("plots/images").iterdir()}
    assert images == {"samples", "unified_gap", "cross_class", *(
        f"qualitative_{name}{end}" for name in fake_run.CLASSES for end in ("", "_shift"))}  # fmt: skip
    with Image.open("plots/images/qualitative_carpet.png") as sheet:
        assert sheet.width > 4 * pictures.TILE
    assert Path("report/index.html").stat().st_size < 15e6
    assert Path("metrics/timings/timings.csv").is_file() and Path("metrics/summary.json").is_file()
    assert "seconds" not in Path("report/index.html").read_text()


def test_the_page_says_when_thresholds_were_chosen_on_test(run):
    assert tables.UPPER_BOUND not in Tags(build()).text
    for method in fake_run.METHODS:
        path = Path(f"data/evaluation/sample/{method}/image.json")
        path.write_text(path.read_text().replace('"on": "val"', '"on": "test"'))
    text = Tags(build()).text
    assert tables.UPPER_BOUND in text
    assert "image F1 (upper bound, threshold chosen on test)" in text
