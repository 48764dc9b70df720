"""A real browser, one for a whole test run. Without Chromium its tests are skipped.

ADSHIFT_CHROMIUM names the browser where it is not found by itself; with ADSHIFT_BROWSER=required (`make browser`) a
missing one is a failure.
"""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("ADSHIFT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        stop = pytest.fail if os.environ.get("ADSHIFT_BROWSER") == "required" else pytest.skip
        stop(f"no browser ({', '.join(NAMES)}): install one (Debian: apt-get install chromium), then `make browser`")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()
