"""The pages of all kinds of data sets: no script error, and nothing counted that has no label."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kinds import KINDS, Made

DASH = "\N{EN DASH}"


def page_of(made: Made) -> Path:
    return made.folder / "report" / "index.html"


@pytest.mark.parametrize("name", KINDS)
def test_no_script_error_and_real_names(name: str, visit: Callable, kind_run: Callable[[str], Made]) -> None:
    made = kind_run(name)
    page = visit(page_of(made))
    assert page.complaints == [] and len(page.requests) == 1
    names = [option.inner_text() for option in page.tab.locator("#pick-class option").all()]
    assert names == [*made.kind.classes.values()]
    page.tab.select_option("#gallery-kind", "all")
    assert page.tab.locator("#gallery-items .item b").first.inner_text() in names
    assert page.complaints == []


def test_good_images_alone(visit: Callable, kind_run: Callable[[str], Made]) -> None:
    page = visit(page_of(kind_run("good only")))
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


def test_images_without_a_label_are_shown_and_not_counted(visit: Callable, kind_run: Callable[[str], Made]) -> None:
    page = visit(page_of(kind_run("list with classes and parts")))
    page.tab.select_option("#pick-class", "rings")
    page.tab.select_option("#gallery-class", "rings")
    assert page.complaints == []
    counts = [int(page.tab.inner_text(f"#{key}")) for key in ("tn", "fp", "fn", "tp")]
    assert (sum(counts[:2]), sum(counts[2:])) == (6, 7)
    page.tab.select_option("#gallery-kind", "unsure")
    cards = page.tab.locator("#gallery-items .item")
    assert cards.count() == 2
    assert all("no label" in text for text in cards.all_inner_texts())
    assert page.tab.inner_text("#gallery-count") == "2 images: 0 missed defects, 0 false alarms"
    page.tab.select_option("#gallery-kind", "all")
    text = page.tab.inner_text("#gallery-items")
    assert "no mask" in text and "no defect" in text
    assert page.complaints == []
