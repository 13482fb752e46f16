"""A real Chromium for the operator's journeys: a script error or a refused resource fails whoever opened it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from tests.harness.processes import PATIENCE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
#: Where screenshots go when somebody wants to look at them.
SCREENSHOTS = os.environ.get("TELEMETRYX_SCREENSHOTS")

#: Milliseconds; what is there is found at once.
PATIENCE_MS = 1_000 * PATIENCE
expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def browser_page(expected: str | None = None, *, trusting: bool = False) -> Iterator[Page]:
    """Give a page, and fail at its end when it logged an error, unless that contains what is `expected`.

    `trusting` takes any certificate, as if its authority had been installed.
    """
    assert CHROMIUM, "chromium is not installed: packaging/bootstrap.sh setup test"
    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
            ],
            timeout=PATIENCE_MS,
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900}, ignore_https_errors=trusting)
        page.context.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        yield page
        browser.close()
    unexpected = [one for one in problems if expected is None or expected not in one]
    assert not unexpected, unexpected


def picture(page: Page, name: str) -> None:
    """Keep a screenshot where one is wanted."""
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)
