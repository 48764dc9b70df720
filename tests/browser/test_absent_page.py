"""The pages of runs that lack something: no script error, and nothing counted that has no label."""

from pathlib import Path

import pytest

import absent_run
from absent_run import DEFECTS, GOOD_ONLY
from adshift.data.manifest import UNLABELLED

DASH = "\N{EN DASH}"
SOME = (*GOOD_ONLY, *DEFECTS, ("test", "spot", False, 2), ("test", UNLABELLED, True, 2))


@pytest.fixture(scope="module")
def pages(browser, tmp_path_factory) -> dict[str, Path]:
    """Good images alone; some masks and images without a label."""
    found = {}
    for name, kinds in (("good", GOOD_ONLY), ("some", SOME)):
        folder = tmp_path_factory.mktemp(name)
        absent_run.make(folder, {"dots": kinds}, shift__kind="none", methods=["padim_diagonal"])
        found[name] = folder / "report" / "index.html"
    return found


def test_good_images_alone(visit, pages) -> None:
    page = visit(pages["good"])
    assert page.complaints == [] and len(page.requests) == 1
    assert page.tab.inner_text("h1") == "How good is it on your images?"
    assert page.tab.input_value("#gallery-scenario") == "clean"
    # Without a defect the gallery shows what stands out, the highest score first.
    assert (page.tab.input_value("#gallery-kind"), page.tab.input_value("#gallery-sort")) == ("all", "score")
    assert page.tab.locator("#gallery-items .item").count() == 6
    rates = {
        row.get_attribute("data-rate"): row.inner_text().split("\t") for row in page.tab.locator("#rates tr").all()
    }
    assert rates["recall"][1:3] == [DASH, DASH] and rates["image_f1"][1:3] == [DASH, DASH]
    assert rates["specificity"][1] != DASH
    page.tab.fill("#threshold", "0")
    page.tab.dispatch_event("#threshold", "input")
    assert page.tab.inner_text("#fp") == "6"
    assert page.complaints == []


def test_images_without_a_label_are_shown_and_not_counted(visit, pages) -> None:
    page = visit(pages["some"])
    assert page.complaints == []
    counts = [int(page.tab.inner_text(f"#{key}")) for key in ("tn", "fp", "fn", "tp")]
    assert (sum(counts[:2]), sum(counts[2:])) == (6, 6)
    page.tab.select_option("#gallery-kind", "unsure")
    cards = page.tab.locator("#gallery-items .item")
    assert cards.count() == 2
    assert all("no label" in text for text in cards.all_inner_texts())
    assert page.tab.inner_text("#gallery-count") == "2 images: 0 missed defects, 0 false alarms"
    page.tab.select_option("#gallery-kind", "all")
    text = page.tab.inner_text("#gallery-items")
    assert "no mask" in text and "no defect" in text
    assert page.complaints == []
