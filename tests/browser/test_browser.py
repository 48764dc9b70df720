"""The report page in Chromium: it works, says the right numbers, asks for nothing, and runs no name from the data."""

from pathlib import Path

import numpy as np
import pytest

import fake_run
from adshift.data.manifest import anomalous
from adshift.evaluation.metrics.counts import decide
from adshift.evaluation.scenarios import BY_NAME, SCENARIOS
from adshift.report import payload

SAMPLE = Path(__file__).parents[2] / "report" / "index.html"
COUNTS = ("tn", "fp", "fn", "tp")


def choose(tab, method, name, scenario):
    for what, value in (("method", method), ("class", name), ("scenario", scenario)):
        tab.select_option(f"#pick-{what}", value)


def shown(tab):
    """Threshold, counts, rates and flipping images as the page shows them."""
    found = tab.evaluate(
        """(counts) => {
        const text = (id) => document.getElementById(id).textContent;
        const all = (selector) => [...document.querySelectorAll(selector)];
        return {
            threshold: Number(document.getElementById("threshold-value").dataset.exact),
            ...Object.fromEntries(counts.map((key) => [key, Number(text(key))])),
            ...Object.fromEntries(all("#rates tr").map((row) => [row.dataset.rate, row.children[1].textContent])),
            flips: all("#flips .item").map((card) => card.dataset.name),
        };
    }""",
        COUNTS,
    )
    return {**found, "flips": set(found["flips"])}


def expected(names, scores, calibrated, threshold):
    """The same, from the scores."""
    labels, called, before = anomalous(names), decide(scores, threshold), decide(scores, calibrated)
    tn, fp = int((~called & ~labels).sum()), int((called & ~labels).sum())
    fn, tp = int((~called & labels).sum()), int((called & labels).sum())
    rates = {
        "specificity": (tn, tn + fp), "recall": (tp, tp + fn), "image_f1": (2 * tp, 2 * tp + fp + fn),
        "precision": (tp, tp + fp), "accuracy": (tp + tn, tp + tn + fp + fn),
    }  # fmt: skip
    return {
        "threshold": threshold, "tn": tn, "fp": fp, "fn": fn, "tp": tp,
        **{key: f"{part / whole if whole else 0:.3f}" for key, (part, whole) in rates.items()},
        "flips": {name for name, flipped in zip(names, called != before, strict=True) if flipped},
    }  # fmt: skip


def of_run(built, method, name, scenario):
    found = built.album.predictions(method, name, BY_NAME[scenario], BY_NAME[scenario].test)
    return found.names, found.scores, built.album.thresholds[method, name, scenario]


def roam(tab):
    """Open everything and scroll past it, so that all that is drawn when seen is drawn."""
    tab.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    for _ in range(100):
        tab.mouse.wheel(0, 800)
        tab.wait_for_timeout(15)
        if tab.evaluate("scrollY + innerHeight >= document.documentElement.scrollHeight - 2"):
            break
    tab.wait_for_timeout(200)


def is_quiet(found, path):
    assert found.complaints == []
    assert {url for url in found.requests if not url.startswith("data:image/")} == {path.as_uri()}


def test_the_page_loads_without_a_complaint_and_asks_for_nothing(visit, built):
    found = visit(built.path)
    roam(found.tab)
    found.tab.locator("#gallery-items .item").first.click()
    found.tab.locator("#zoom-close").click()
    is_quiet(found, built.path)
    assert found.tab.locator("#gallery-items canvas[role=img]").count() > 10


def test_the_policy_stops_requests_and_scripts_that_would_be_slipped_in(visit, built):
    found = visit(built.path)
    found.tab.evaluate("fetch('http://localhost:9/').catch(() => 0)")
    found.tab.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.slipped = 1";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.slipped = 2'>");
    }""")
    found.tab.wait_for_timeout(100)
    assert found.tab.evaluate("window.slipped") is None
    assert [url for url in found.requests if url.startswith("http")] == []
    assert sum("Content Security Policy" in line for line in found.complaints) >= 3


@pytest.mark.parametrize("policy", ["kept", "switched off"])
def test_no_name_from_the_data_runs(visit, built, policy):
    """Escaping alone has to do: the second time without the policy that would stop what got through."""
    found = visit(built.path, bypass_csp=policy == "switched off")
    tab = found.tab
    tab.select_option("#gallery-kind", "all")
    show_all(tab)
    roam(tab)
    choose(tab, "padim", "carpet", "clean")
    tab.locator("#threshold").press("Home")
    flipping = tab.locator("#flips .item")
    for name in fake_run.HOSTILE:
        card = tab.locator("#gallery-items .item").filter(has_text=name.split("/", 2)[2]).first
        card.click()
        assert name in tab.locator("#zoom-title").inner_text()
        tab.keyboard.press("Escape")
    assert flipping.count() > 0
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("img[src=x]").count() == 0
    assert {url for url in found.requests if not url.startswith("data:")} == {built.path.as_uri()}
    assert found.complaints == []


@pytest.mark.parametrize(
    ("method", "name", "scenario"),
    [("patchcore", "hazelnut", "clean"), ("padim", "carpet", "shift_no_adaptation"), ("padim", "hazelnut", "unified")],
)
def test_the_slider_changes_the_numbers_to_the_right_ones(visit, built, method, name, scenario):
    tab = visit(built.path).tab
    choose(tab, method, name, scenario)
    names, scores, calibrated = of_run(built, method, name, scenario)
    assert shown(tab) == expected(names, scores, calibrated, calibrated)
    slider, seen = tab.locator("#threshold"), set()
    for key in ("Home", *["PageUp"] * 11, "Home", *["PageUp"] * 4, *["ArrowRight"] * 5, "ArrowLeft", "End"):
        slider.press(key)
        here = shown(tab)
        assert here == expected(names, scores, calibrated, here["threshold"]), key
        seen.add((here["tn"], here["tp"]))
        if key == "Home":
            assert here["tn"] == here["fn"] == 0
    assert (here["fp"], here["tp"]) == (0, 0) and len(seen) > 5
    tab.evaluate("setThreshold(explored.found.scores[3])")  # a score at the threshold is an alarm
    assert shown(tab) == expected(names, scores, calibrated, float(scores[3]))
    tab.locator("#reset").click()
    assert shown(tab) == expected(names, scores, calibrated, calibrated)


def test_an_arrow_key_moves_the_threshold_by_a_thousandth_of_its_range(visit, built):
    tab = visit(built.path).tab
    slider, values = tab.locator("#threshold"), []
    for key in ("Home", "End", "Home", "ArrowRight"):
        slider.press(key)
        values.append(shown(tab)["threshold"])
    low, high, _, next_one = values
    assert next_one - low == pytest.approx((high - low) / 1000)
    assert slider.get_attribute("aria-valuetext") == f"{next_one:.6g}"


def test_the_intervals_beside_the_rates_are_those_of_the_run(visit, built):
    tab = visit(built.path).tab
    choose(tab, "padim", "carpet", "shift_full_adaptation")
    for metric in ("specificity", "image_f1"):
        _, low, high = built.results.estimate("padim", "shift_full_adaptation", "carpet", metric)
        assert tab.locator(f"#rates tr[data-rate={metric}] td").last.inner_text() == f"{low:.2f} to {high:.2f}"


def errors_of(built, scenario, methods):
    """{(class, image): largest error of these methods}."""
    worst = {}
    for name in fake_run.CLASSES:
        for method in methods:
            names, scores, threshold = of_run(built, method, name, scenario)
            for image, error in zip(names, payload.errors(scores, anomalous(names), threshold), strict=True):
                worst[name, image] = max(error, worst.get((name, image), -np.inf))
    return worst


def cards(tab):
    """((class, image), error) of the gallery's cards as far as they are shown."""
    found = tab.evaluate("""() => [...document.querySelectorAll("#gallery-items .item")].map(
        ({ dataset }) => [dataset.class, dataset.name, Number(dataset.error)])""")
    return [((name, image), error) for name, image, error in found]


def show_all(tab):
    for _ in range(20):
        if tab.locator("#gallery-more").is_hidden():
            return
        tab.locator("#gallery-more").click()
    raise AssertionError("the gallery never ends")


def all_cards(tab):
    show_all(tab)
    return cards(tab)


@pytest.mark.parametrize("method", ["", "padim"])
def test_the_gallery_is_sorted_by_the_error_of_the_run(visit, built, method):
    tab = visit(built.path).tab
    tab.select_option("#gallery-scenario", "shift_no_adaptation")
    tab.select_option("#gallery-method", method)
    expected_errors = errors_of(built, "shift_no_adaptation", [method] if method else fake_run.METHODS)
    wrong = {key: error for key, error in expected_errors.items() if error > 0}
    found = all_cards(tab)
    assert {key: pytest.approx(error) for key, error in found} == wrong and len(wrong) > 5
    assert [error for _, error in found] == sorted((error for _, error in found), reverse=True)
    tab.select_option("#gallery-kind", "all")
    tab.select_option("#gallery-sort", "best")
    found = all_cards(tab)
    assert {key: pytest.approx(error) for key, error in found} == expected_errors
    assert [error for _, error in found] == sorted(error for _, error in found)


def test_the_gallery_shows_what_its_controls_ask_for(visit, built):
    tab = visit(built.path).tab
    names, scores, threshold = of_run(built, "patchcore", "carpet", "shift_no_adaptation")
    wrong = {kind: {name for name, called in zip(names, decide(scores, threshold), strict=True)
                    if called != anomalous([name])[0] and called == (kind == "alarm")}
             for kind in ("missed", "alarm")}  # fmt: skip
    tab.select_option("#gallery-scenario", "shift_no_adaptation")
    tab.select_option("#gallery-method", "patchcore")
    tab.select_option("#gallery-class", "carpet")
    for kind, expected_names in wrong.items():
        tab.select_option("#gallery-kind", kind)
        assert {name for (_, name), _ in all_cards(tab)} == expected_names
    assert wrong["alarm"]
    said = tab.locator("#gallery-count").inner_text()
    assert said == f"{len(wrong['alarm'])} images: 0 missed defects, {len(wrong['alarm'])} false alarms"
    card = tab.locator("#gallery-items .item").first
    assert card.locator("figcaption").all_inner_texts()[:2] == ["image", "ground truth"]
    assert card.locator("figure[data-method]").count() == len(fake_run.METHODS)


def test_a_picture_opens_and_closes_by_keyboard_and_gives_the_focus_back(visit, built):
    tab = visit(built.path).tab
    first = tab.locator("#gallery-items .item").first
    first.focus()
    tab.keyboard.press("Enter")
    dialog, title = tab.locator("#zoom"), tab.locator("#zoom-title")
    assert dialog.is_visible()
    names = [f"{name}: {image}" for (name, image), _ in cards(tab)]
    assert title.inner_text() == names[0]
    tab.keyboard.press("ArrowRight")
    assert title.inner_text() == names[1]
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowLeft")  # there is none before the first
    assert title.inner_text() == names[0]
    assert dialog.locator("figure").count() == 2 + len(fake_run.METHODS)
    tab.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert tab.evaluate("document.activeElement.dataset.name") == first.get_attribute("data-name")


def test_every_link_has_its_target_within_the_page(visit, built):
    tab = visit(built.path).tab
    links = tab.evaluate("[...document.querySelectorAll('[href]')].map((one) => one.getAttribute('href'))")
    assert len(links) > 20
    assert [link for link in links if not link.startswith("#") or not tab.locator(link).count()] == []
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))


def test_a_verdict_leads_to_its_scores(visit, built):
    tab = visit(built.path).tab
    tab.locator("a.chip[data-method=padim][data-class=carpet][data-scenario=shift_no_adaptation]").click()
    tab.wait_for_url("**#explore")
    picked = [tab.locator(f"#pick-{what}").input_value() for what in ("method", "class", "scenario")]
    assert picked == ["padim", "carpet", "shift_no_adaptation"]
    names, scores, calibrated = of_run(built, *picked)
    assert shown(tab) == expected(names, scores, calibrated, calibrated)


def test_everything_is_reached_by_tab_and_the_focus_is_seen(visit, built):
    tab = visit(built.path).tab
    tab.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    wanted = tab.evaluate("""() => {
        const list = [...document.querySelectorAll("a[href], button, select, input, summary, [tabindex='0']")];
        const seen = list.filter((one) => one.checkVisibility() && !one.disabled);
        seen.forEach((one, index) => (one.dataset.place = index));
        return seen.length;
    }""")
    reached, unseen = set(), []
    for _ in range(wanted + 20):
        tab.keyboard.press("Tab")
        place, outline = tab.evaluate("""() => {
            const one = document.activeElement, style = getComputedStyle(one);
            return [one.dataset.place, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
        }""")
        if place is not None:
            reached.add(int(place))
            unseen += [] if outline else [place]
    assert reached == set(range(wanted)) and wanted > 40
    assert unseen == []


def brightness(tab):
    colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(float(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")) / 3


def test_light_and_dark_follow_the_system_and_the_switch(visit, built):
    for scheme, dark in (("light", False), ("dark", True)):
        tab = visit(built.path, color_scheme=scheme).tab
        assert (brightness(tab) < 60) is dark
        seen = {}
        for _ in range(3):
            tab.locator("#theme").click()
            seen[tab.locator("#theme").inner_text()] = brightness(tab) < 60
        assert seen == {"Theme: light": False, "Theme: dark": True, "Theme: as the system": dark}


def test_the_choice_of_light_or_dark_is_kept(visit, built):
    tab = visit(built.path, color_scheme="light").tab
    tab.locator("#theme").click()
    tab.locator("#theme").click()
    tab.reload()
    assert brightness(tab) < 60 and tab.locator("#theme").inner_text() == "Theme: dark"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(visit, built, scheme):
    """Contrast of at least 4.5 : 1 (WCAG 2 AA) for text and its muted kind on page and cards."""
    tab = visit(built.path, color_scheme=scheme).tab
    ratios = tab.evaluate("""() => {
        const probe = document.body.appendChild(document.createElement("span"));
        const light = (name) => {
            probe.style.color = `var(--${name})`;
            const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map((one) => one / 255);
            const [r, g, b] = parts.map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        return ["ink", "muted", "accent", "good", "fair", "bad"].flatMap((text) => ["paper", "card"].map((ground) => {
            const [low, high] = [light(text), light(ground)].sort((a, b) => a - b);
            return [`${text} on ${ground}`, (high + 0.05) / (low + 0.05)];
        }));
    }""")
    assert {name: ratio for name, ratio in ratios if ratio < 4.5} == {}


def test_a_map_is_drawn_as_the_pictures_of_the_run_are(visit, built):
    """Like `Album.overlay`, but for what JPEG and 256 levels cost."""
    tab = visit(built.path).tab
    for method, name, scenario in (("padim", "carpet", "clean"), ("patchcore", "hazelnut", "shift_no_adaptation")):
        names, _, _ = of_run(built, method, name, scenario)
        pictured = tab.evaluate("([name, domain]) => run.images[name][domain].pictured", [name, BY_NAME[scenario].test])
        row = next(row for row in range(3) if row in pictured)
        drawn = tab.evaluate(
            """async ([method, scenario, name, place]) => {
                const canvas = await overlay(cell(method, scenario, name), place);
                return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
            }""",
            [method, scenario, name, pictured.index(row)],
        )
        drawn = np.array(drawn, dtype=float).reshape(32, 32, 4)[..., :3]
        wanted = built.album.overlay(method, name, BY_NAME[scenario], names[row]).astype(float)
        off = np.abs(drawn - wanted).max(axis=2)
        assert np.median(off) < 25 and (off > 60).mean() < 0.02, names[row]


def test_without_scripts_the_figures_are_still_there(visit, built):
    found = visit(built.path, java_script_enabled=False)
    assert found.tab.locator("#overview table").first.is_visible()
    assert "need JavaScript" in found.tab.locator("noscript").inner_text()
    assert found.tab.locator("#theme").is_hidden()


def test_the_page_of_the_run_here_is_small_quiet_and_right(visit):
    """The real thing, where `make repro` has been."""
    if not SAMPLE.is_file():
        pytest.skip("no report/index.html here: `make repro` makes it")
    assert SAMPLE.stat().st_size < 15e6
    found = visit(SAMPLE)
    tab = found.tab
    roam(tab)
    for scenario in SCENARIOS[:2]:
        tab.select_option("#pick-scenario", scenario.name)
        tab.locator("#threshold").press("PageUp")
        here = shown(tab)
        cell = tab.evaluate(
            """([scenario]) => {
                const found = cell(document.getElementById("pick-method").value, scenario,
                                   document.getElementById("pick-class").value);
                return [found.names, found.scores, found.threshold];
            }""",
            [scenario.name],
        )
        names, scores, calibrated = cell
        assert here == expected(names, np.array(scores), calibrated, here["threshold"])
    is_quiet(found, SAMPLE)


NARROW = {"viewport": {"width": 400, "height": 800}}


def test_on_a_narrow_screen_everything_fits_without_a_sideways_scroll(visit, built):
    tab = visit(built.path, **NARROW).tab
    roam(tab)
    tab.locator("#gallery-items .item").first.wait_for()
    tab.evaluate("document.querySelector('.examples b').textContent = 'train/good/' + 'x'.repeat(80)")  # a long name
    wide = tab.evaluate("""() => [document.documentElement, ...document.querySelectorAll(".scroll, .card, .gallery")]
        .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.className)""")
    assert wide == []
    beyond = tab.evaluate("""() => [...document.querySelectorAll("main td, main svg, main canvas")]
        .filter((one) => one.getBoundingClientRect().right > 400).length""")
    assert beyond == 0
    assert tab.evaluate("getComputedStyle(document.querySelector('nav')).position") == "static"
    label = tab.locator("#overview td.heat").first.evaluate("(cell) => getComputedStyle(cell, '::before').content")
    assert label == '"image AUROC"'


def test_pictures_have_the_shape_of_their_images(visit, tmp_path, built):
    """As their files, here of another aspect than the network's square input."""
    text = built.path.read_text(encoding="utf-8").replace('"aspects":[1.0,', '"aspects":[2.8,')
    assert text != built.path.read_text(encoding="utf-8")
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    tab = visit(tmp_path / "index.html").tab
    tab.select_option("#gallery-kind", "all")
    show_all(tab)
    shapes = tab.evaluate("""() => [...document.querySelectorAll("#gallery-items .item")].map((item) =>
        [...item.querySelectorAll("img, canvas, .none")].map((one) => one.getBoundingClientRect())
            .map(({ width, height }) => width / height))""")
    assert {round(shape, 1) for item in shapes for shape in item} == {1.0, 2.8}
    assert all(max(item) - min(item) < 0.1 for item in shapes if item)  # image, mask and maps alike
