"""A real Chromium: how it starts, what a clean page is, where its pictures go."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Response

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
REQUIRED = os.environ.get("UNROLL_REQUIRE_BROWSER") == "1"
SHOTS = Path(__file__).resolve().parent.parent / "screenshots"
BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM and not REQUIRED, reason="browser tests skipped: no Chromium on PATH"),
]
SIZES = {"phone": (390, 844), "desktop": (1280, 800)}


@contextmanager
def opened(browser: Browser, size: str, scheme: Any) -> Iterator[Page]:
    """A page of a person of their own; whatever the browser complains of fails the test."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    missing: list[str] = []
    page.on("response", lambda answer: missing.append(answer.url) if _lacks(answer) else None)
    yield page
    context.close()
    # the browser, and htmx, note every refusal; pages show it in words
    refused = ("status of 404", "status of 422", "Status Error Code 404")
    assert [words for words in said if not any(status in words for status in refused)] == []
    assert missing == []


def _lacks(answer: Response) -> bool:
    """Whether a page names a part of itself that is not there."""
    return answer.status == 404 and answer.request.resource_type in ("script", "stylesheet", "image", "font")


def shoot(page: Page, name: str, request: pytest.FixtureRequest) -> None:
    """A picture of the whole page."""
    picture(page, f"{name}-{request.node.callspec.id}")


def picture(page: Page, name: str) -> None:
    """A picture of the whole page, for tests without parameters."""
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def clean(page: Page) -> None:
    """No violation that axe finds, and no scrolling sideways."""
    found: Any = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    narrow(page)


def narrow(page: Page) -> None:
    """No scrolling sideways."""
    width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1], "the page scrolls sideways"
