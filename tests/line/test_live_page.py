"""The live page in a real browser: it updates by itself, on a tablet, in light and dark, without a network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import line
import plain_model
from plain_model import picture

TABLET, DESK = {"width": 800, "height": 1200}, {"width": 1280, "height": 900}
NASTY = "<img src=x onerror=document.title='owned'>.png"


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[line.Serving]:
    model = plain_model.write(tmp_path / "nut.onnx")
    one = line.Serving(tmp_path, model, "--drift", "40", "--webhook", f"http://127.0.0.1:{line.free_port()}/")
    yield one
    one.end()


@pytest.fixture
def page(serving: line.Serving, browser: Any) -> Iterator[Any]:
    one = browser.new_page(viewport=TABLET, color_scheme="dark")
    one.set_default_timeout(15_000)
    wrong: list[str] = []
    one.on("pageerror", lambda error: wrong.append(str(error)))
    one.on("request", lambda asked: asked.url.startswith((serving.url, "data:")) or wrong.append(asked.url))
    one.goto(serving.url)
    yield one
    one.close()
    assert wrong == []


def send(serving: line.Serving, brightness: int, name: str = "part.png") -> str:
    url = f"{serving.url}/v1/models/nut/predict"
    answer = httpx.post(url, content=picture(brightness), params={"name": name}, timeout=30, verify=line.PLAIN)
    identity: str = answer.json()["results"][0]["id"]
    return identity


def test_it_shows_parts_as_they_come(serving: line.Serving, page: Any) -> None:
    assert page.locator("#none").is_visible()
    send(serving, 64, "first.png")
    page.locator("#verdict", has_text="Good").wait_for()
    assert "first.png" in page.locator("#part").inner_text()
    send(serving, 200, NASTY)
    page.locator("#verdict", has_text="Rejected").wait_for()
    assert page.locator("#picture").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert NASTY[:20] in page.locator("#part").inner_text()
    assert page.title() == "adshift: inspection"
    assert page.locator("#chart circle").count() == 2
    assert page.locator("#parts article").count() == 2
    assert page.locator("#share").inner_text() == "1 of 2"
    page.locator("#problems li", has_text="sink webhook").wait_for()


def test_the_description_of_the_api_is_shown(serving: line.Serving, page: Any) -> None:
    page.goto(f"{serving.url}/docs")
    page.locator(".opblock").nth(8).wait_for()
    assert page.locator(".errors-wrapper").count() == 0


def test_the_operator_marks_false_alarms(serving: line.Serving, page: Any) -> None:
    send(serving, 200)
    button = page.get_by_role("button", name="Mark as false alarm")
    button.click()
    page.get_by_role("button", name="False alarm", exact=True).wait_for()
    assert serving.ask("/v1/models/nut/verdicts")["verdicts"][0]["false_alarm"] is True
    assert "1 of them false alarms" in page.locator("#share").inner_text()
    assert page.locator("#chart circle.marked").count() == 1
    page.get_by_role("button", name="False alarm", exact=True).click()
    button.wait_for()


def test_it_says_when_parts_changed_and_when_nobody_answers(serving: line.Serving, page: Any) -> None:
    for index in range(40):
        send(serving, 64 + index % 9 - 4)
    page.locator("#fit", has_text="no change at look 1").wait_for()
    for index in range(40):
        send(serving, 90 + index % 9)
    page.locator("#fit", has_text="The parts changed").wait_for()
    assert "adshift recalibrate" in page.locator("#fit").inner_text()
    assert page.locator("#reasons li").count() >= 2
    serving.end()
    page.locator("#link.lost").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [TABLET, DESK, {"width": 400, "height": 800}])
def test_it_fits_screens_in_both_schemes(serving: line.Serving, page: Any, size: dict[str, int], scheme: str) -> None:
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme)
    for brightness in (64, 200, 60):
        send(serving, brightness, "a-long-name-of-a-part-" * 6)
    page.locator("#chart circle").nth(2).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    colours = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    dark = sum(map(int, colours[0][4:-1].split(",")[:3])) < sum(map(int, colours[1][4:-1].split(",")[:3]))
    assert dark is (scheme == "dark")
    heights = page.locator("button").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert heights and min(heights) >= 40  # for a finger
